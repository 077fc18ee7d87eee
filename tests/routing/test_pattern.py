"""Patterns: what they match, what they refuse, and that build is the inverse of match."""

from __future__ import annotations

import math
import string
import uuid
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import BadRequest, PatternError
from resource_server.routing.pattern import Converter, Pattern, split_path

LETTERS = Converter("[a-z]+", str, str)


def ranked(text: str) -> str:
    if text == "none":
        raise ValueError(text)
    return text


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", {}),
        ("/", "/a", None),
        ("/", "//", None),
        ("/abc", "/abc", {}),
        ("/abc", "/abc/", {}),
        ("/abc/", "/abc", {}),
        ("/abc/", "/abc/", {}),
        ("/abc", "/abc//", None),
        ("/abc", "/abcd", None),
        ("/abc", "/abc/d", None),
        ("/abc", "/ABC", None),
        ("/abc", "/%61bc", {}),
        ("/abc", "/%61%62%63/", {}),
        ("/a b/é", "/a%20b/%C3%A9", {}),
        ("/a%20b", "/a%2520b", {}),
        ("/a//b", "/a//b", {}),
        ("/a//b", "/a/b", None),
        ("/a//", "/a//", {}),
        ("/a//", "/a/", None),
        ("/:abc", "/one", {"abc": "one"}),
        ("/:abc", "/one/", {"abc": "one"}),
        ("/:abc/", "/one", {"abc": "one"}),
        ("/:abc", "/", None),
        ("/:abc", "//", None),
        ("/:abc", "/one/two", None),
        ("/:abc?", "/", {"abc": None}),
        ("/:abc?", "/one", {"abc": "one"}),
        ("/:abc?", "/one/two", None),
        ("/:abc?", "//", None),
        ("/:abc+", "/", None),
        ("/:abc+", "/one", {"abc": "one"}),
        ("/:abc+", "/one/two", {"abc": "one/two"}),
        ("/:abc+", "/one/two/", {"abc": "one/two"}),
        ("/:abc+", "/one//two", None),
        ("/:abc*", "/", {"abc": ""}),
        ("/:abc*", "/one", {"abc": "one"}),
        ("/:abc*", "/one/two", {"abc": "one/two"}),
        ("/:abc*", "//", None),
        ("/files/:p*", "/files", {"p": ""}),
        ("/files/:p*", "/files/", {"p": ""}),
        ("/files/:p*", "/file", None),
        ("/:a?/:b", "/x", {"a": None, "b": "x"}),
        ("/:a?/:b", "/x/y", {"a": "x", "b": "y"}),
        ("/:a*/end", "/x/y/end", {"a": "x/y"}),
        ("/:a*/end", "/end", {"a": ""}),
        ("/:a*/end", "/x/y", None),
        ("/:a+/mid/:b*", "/x/mid/mid/y", {"a": "x/mid", "b": "y"}),
        ("/:a+/mid/:b*", "/mid/x", None),
        ("/:a*/:b?", "/x/y", {"a": "x/y", "b": None}),
        ("/:a+/:b+", "/x/y/z", {"a": "x/y", "b": "z"}),
        ("/:a+/:b+", "/x", None),
        ("/user/:name", "/user/..", {"name": ".."}),
        ("/user/:name", "/user/%2e%2E", {"name": ".."}),
        ("/user/:name", "/user/a%2Fb", {"name": "a/b"}),
        ("/user/:name", "/user/a%5Cb%00", {"name": "a\\b\0"}),
        ("/user/:name", "/user/caf%C3%A9%0A", {"name": "café\n"}),
        ("/user/:name", "/other/x", None),
        ("/:id(int)", "/12", {"id": 12}),
        ("/:id(int)", "/-12", {"id": -12}),
        ("/:id(int)", "/+12", None),
        ("/:id(int)", "/1_2", None),
        ("/:id(int)", "/%D9%A3", None),
        ("/:id(int)", "/" + "9" * 5000, None),
        ("/:id(int)?", "/", {"id": None}),
        ("/:id(int)?", "/7", {"id": 7}),
        ("/:id(int)?", "/x", None),
        ("/:id(int)+", "/1/2", {"id": [1, 2]}),
        ("/:id(int)+", "/1/x", None),
        ("/:id(int)*", "/", {"id": []}),
        ("/:id(int)?/:rest*", "/7/8", {"id": 7, "rest": "8"}),
        ("/:id(int)?/:rest*", "/x/8", {"id": None, "rest": "x/8"}),
        ("/:x(float)", "/-1.5e3", {"x": -1500.0}),
        ("/:x(float)", "/2", {"x": 2.0}),
        ("/:x(float)", "/nan", None),
        ("/:x(float)", "/1e999", None),
        ("/:x(str)", "/one", {"x": "one"}),
        ("/:x(str)*", "/one/two", {"x": "one/two"}),
        ("/:p(path)", "/one/two", {"p": "one/two"}),
        ("/:p(path)", "/", None),
        ("/:p(path)?", "/", {"p": None}),
        ("/:p(path)?", "/a/b", {"p": "a/b"}),
        ("/:p(path)*", "/", {"p": ""}),
        ("/:p(path)+", "/a/b", {"p": "a/b"}),
        (
            "/:u(uuid)",
            "/6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
            {"u": uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")},
        ),
        ("/:u(uuid)", "/6ba7b8109dad11d180b400c04fd430c8", None),
        ("/:n([a-z]+)", "/abc", {"n": "abc"}),
        ("/:n([a-z]+)", "/abc1", None),
        ("/:n([a-z]+)", "/abc%0A", None),
        ("/:n([a-z]+)+", "/abc/d", {"n": "abc/d"}),
        ("/:n([a-z]+)+", "/abc/1", None),
        ("/:n([a-z]+)?", "/", {"n": None}),
        ("/:n([a-z]+)*", "/", {"n": ""}),
        ("/:n(en|de)/x", "/de/x", {"n": "de"}),
        ("/:n(((a)(b))c)", "/abc", {"n": "abc"}),
        (r"/:n(\()", "/(", {"n": "("}),
        ("/:n([^/]+)", "/x", {"n": "x"}),
        ("/:n([^]/)]+)", "/x", {"n": "x"}),
        (r"/:n([\])]+)", "/])", {"n": "])"}),
        (r"/:n([^\]]+)", "/x", {"n": "x"}),
        ("/wiki/Foo_(bar)", "/wiki/Foo_(bar)", {}),
        (r"/c\+\+/\:x/\(", "/c++/:x/(", {}),
        (r"/a\/b", "/a%2Fb", {}),
        (r"/a\/b", "/a/b", None),
        ("/a:b", "/a:b", {}),
        ("/:a(kind)", "/x", {"a": "x"}),
        ("/:a(kind)", "/none", None),
        ("/:a(kind)/:b?/:c?", "/none/x", None),
        ("/:a(kind)*", "/x/y", {"a": ["x", "y"]}),
        ("/:a(letters)*", "/x/y", {"a": "x/y"}),
    ],
)
def test_match(pattern: str, path: str, expected: dict[str, object] | None) -> None:
    converters = {"kind": Converter(".*", ranked, str), "letters": LETTERS}
    assert Pattern(pattern, converters).match(path) == expected


@pytest.mark.parametrize(
    "path", ["", "x", "*", "/%", "/%4", "/%zz", "/a%2", "/%ff", "/%c3%28", "/%ed%a0%80", "/é"]
)
def test_malformed_paths_are_bad_requests(path: str) -> None:
    with pytest.raises(BadRequest):
        Pattern("/:any*").match(path)


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("abc", "slash: write '/abc'"),
        ("", "slash"),
        (3, "is a str"),
        ("/\ud800", "surrogate"),
        ("/:", "no name"),
        ("/:(int)", "no name"),
        ("/:1", "no name"),
        ("/:a/:a", "twice"),
        ("/:a/x/:a*", "twice"),
        ("/:a(number)", "no converter 'number'"),
        ("/:a(", "not closed"),
        ("/:a(int", "not closed"),
        ("/:a(int/x", "not closed"),
        ("/:a([a-z)", "not closed"),
        ("/:a((x)", "not closed"),
        ("/:a)", "unbalanced"),
        ("/:a(int))", "unbalanced"),
        ("/a)", "unbalanced"),
        ("/a(b", "unbalanced"),
        ("/:a()", "nothing is in the parentheses"),
        ("/:a(*)", "not a regular expression"),
        ("/:a(a{2,1})", "not a regular expression"),
        ("/:a(a/b)", "one component at a time"),
        (r"/:a(a\/b)", "one component at a time"),
        ("/:a([a/]+)", "one component at a time"),
        ("/:a((?P<x>a))", "names a group"),
        ("/a?", "follows no wildcard"),
        ("/a+b", "follows no wildcard"),
        ("/*", "follows no wildcard"),
        ("/a?q=1", "query"),
        ("/:a++", "whole component"),
        ("/:a?*", "whole component"),
        ("/:a.txt", "whole component"),
        ("/:a-:b", "whole component"),
        ("/:a(int)x", "whole component"),
        ("/a\\", "backslash"),
    ],
)
def test_bad_patterns_are_named_with_advice(pattern: Any, advice: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)
    assert advice in str(caught.value)
    assert ascii(pattern)[1:-1] in str(caught.value) or repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    "converters",
    [
        {"two words": LETTERS},
        {"": LETTERS},
        {3: LETTERS},
        {"kind": "[a-z]+"},
    ],
)
def test_bad_converters_are_refused(converters: Any) -> None:
    with pytest.raises(PatternError):
        Pattern("/", converters)


@pytest.mark.parametrize("expression", ["(", "(?P<a>.)"])
def test_a_converter_needs_a_regular_expression_without_names(expression: str) -> None:
    with pytest.raises(PatternError):
        Converter(expression, str, str)


def test_own_converters_replace_built_in_ones() -> None:
    assert Pattern("/:a(int)", {"int": LETTERS}).match("/x") == {"a": "x"}


def test_names_and_literal() -> None:
    assert Pattern("/a/:b/:c*").names == ("b", "c")
    assert Pattern("/a/:b").literal is None
    assert Pattern("/a/b/").literal == "/a/b"
    assert Pattern("/").literal == "/"
    assert repr(Pattern("/a/")) == "Pattern('/a/')"


@pytest.mark.parametrize(
    ("pattern", "values", "path"),
    [
        ("/", {}, "/"),
        ("/a//", {}, "/a//"),
        ("/a b/é", {}, "/a%20b/%C3%A9"),
        ("/user/:name", {"name": "a/b c%"}, "/user/a%2Fb%20c%25"),
        ("/user/:self", {"self": "x@y:z"}, "/user/x@y:z"),
        ("/f/:p*", {"p": "a/b"}, "/f/a/b"),
        ("/f/:p*", {"p": ""}, "/f"),
        ("/f/:p*", {}, "/f"),
        ("/f/:p?", {"p": None}, "/f"),
        ("/f/:p(path)?", {}, "/f"),
        ("/f/:p(path)?", {"p": "a/b"}, "/f/a/b"),
        ("/:i(int)+", {"i": [1, 2]}, "/1/2"),
        ("/:i(int)*", {"i": ()}, "/"),
        ("/:x(float)", {"x": 3}, "/3.0"),
        ("/:x(float)", {"x": 1e22}, "/1e+22"),
        ("/:u(uuid)", {"u": uuid.UUID(int=5)}, "/00000000-0000-0000-0000-000000000005"),
        ("/:a?/:b", {"b": "x"}, "/x"),
    ],
)
def test_build(pattern: str, values: dict[str, Any], path: str) -> None:
    assert Pattern(pattern).build(**values) == path


@pytest.mark.parametrize(
    ("pattern", "values", "problem"),
    [
        ("/:a/:b/:c?", {}, "needs a value for a, b"),
        ("/:a", {"a": "x", "z": 1, "y": 2}, "has no z, y; its names are a"),
        ("/a", {"z": 1}, "has no z; it has no names"),
        ("/:a", {"a": 5}, "a: a str is needed, not int"),
        ("/:a", {"a": None}, "a: a str"),
        ("/:a", {"a": ""}, "a: '' is not accepted"),
        ("/:a+", {"a": ""}, "not accepted"),
        ("/:a+", {"a": "x//y"}, "not accepted"),
        ("/:a+", {"a": "x/"}, "not accepted"),
        ("/:a*", {"a": "/evil.example"}, "not accepted"),
        ("/:a*", {"a": ["x"]}, "a: a str"),
        ("/:a", {"a": "\ud800"}, "surrogate"),
        ("/:a([a-z]+)", {"a": "A"}, "a: 'A' is not accepted"),
        ("/:a(int)", {"a": "5"}, "a: an int is needed, not str"),
        ("/:a(int)", {"a": True}, "a: an int is needed, not bool"),
        ("/:a(int)", {"a": 10**5000}, "a: "),
        ("/:a(int)+", {"a": 5}, "a: a list is needed, not int"),
        ("/:a(float)", {"a": "1"}, "a: a float"),
        ("/:a(float)", {"a": True}, "a: a float"),
        ("/:a(float)", {"a": math.inf}, "not accepted"),
        ("/:a(float)", {"a": math.nan}, "not accepted"),
        ("/:a(uuid)", {"a": "x"}, "a: a uuid.UUID"),
        ("/:a(bytes)", {"a": "x"}, "a: a str is needed, not bytes"),
        ("/:a*/:b*", {"a": "x", "b": "y"}, "would not give these values back"),
        ("/:a?/:b?", {"b": "y"}, "would not give these values back"),
    ],
)
def test_what_cannot_be_built_is_named(pattern: str, values: dict[str, Any], problem: str) -> None:
    encode: Any = str.encode
    converters = {"bytes": Converter(".*", encode, encode)}
    with pytest.raises(PatternError) as caught:
        Pattern(pattern, converters).build(**values)
    assert problem in str(caught.value)
    assert pattern in str(caught.value)


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
no_slash = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1)
joined = st.lists(no_slash, min_size=1).map("/".join)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "": text,
    "?": text | st.none(),
    "+": joined,
    "*": joined | st.just(""),
    "(str)": text,
    "(path)": joined,
    "(int)": st.integers(),
    "(int)?": st.integers() | st.none(),
    "(int)+": st.lists(st.integers(), min_size=1),
    "(int)*": st.lists(st.integers()),
    "(float)": st.floats(allow_nan=False, allow_infinity=False),
    "(uuid)": st.uuids(),
    "([a-z]+)": st.text(string.ascii_lowercase, min_size=1),
}


@st.composite
def patterns_with_values(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    parts = []
    values = {}
    for index, kind in enumerate(draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=4))):
        if draw(st.booleans()):
            parts.append(draw(st.sampled_from(["a", "b c", "é%"])))
        parts.append(f":n{index}{kind}")
        values[f"n{index}"] = draw(KINDS[kind])
    return "/" + "/".join(parts), values


@given(patterns_with_values())
def test_what_is_built_gives_the_same_values_back(case: tuple[str, dict[str, Any]]) -> None:
    pattern, values = Pattern(case[0]), case[1]
    # Several wildcards that take from each other may have values that no path carries.
    greedy = sum(step.variable for step in pattern.steps) > 1
    with suppress_for(greedy):
        path = pattern.build(**values)
        assert path.isascii()
        assert pattern.match(path) == values
        assert pattern.match(path if path == "/" else path + "/") == values


def suppress_for(greedy: bool) -> AbstractContextManager[None]:
    return suppress(PatternError) if greedy else nullcontext()


def brute_force(steps: list[str], components: list[str]) -> bool:
    """Tell whether steps like "a", ":", ":?", ":+", ":*" match, by trying everything."""
    if not steps:
        return not components
    step, rest = steps[0], steps[1:]
    least = 0 if step in (":?", ":*") else 1
    most = len(components) if step in (":+", ":*") else min(1, len(components))
    return any(
        all(c if step.startswith(":") else c == step for c in components[:taken])
        and brute_force(rest, components[taken:])
        for taken in range(least, most + 1)
    )


@given(
    st.lists(st.sampled_from(["a", "b", ":", ":?", ":+", ":*"]), max_size=5),
    st.lists(st.sampled_from(["a", "b", ""]), max_size=6),
)
def test_a_pattern_matches_exactly_when_some_choice_of_its_wildcards_does(
    steps: list[str], components: list[str]
) -> None:
    names = [f":n{i}{step[1:]}" if step[0] == ":" else step for i, step in enumerate(steps)]
    pattern = Pattern("/" + "/".join(names))
    assert (pattern.match_components(components) is not None) == brute_force(steps, components)


@pytest.mark.parametrize(
    "pattern",
    [
        "/:a(c)*/:b(c)*/:d(c)*/:e(c)*/end",
        "/:a(c)+/x/:b(c)+/x/:d(c)+/end",
        "/:a(c)?/:b(c)?/:d(c)?/:e(c)*/end",
        "/:a(c)*/end",
    ],
)
def test_the_work_of_matching_grows_no_faster_than_the_path(pattern: str) -> None:
    calls = 0

    def count(text: str) -> str:
        nonlocal calls
        calls += 1
        return text

    compiled = Pattern(pattern, {"c": Converter(".*", count, str)})
    steps = len(compiled.steps)
    for size in (64, 512, 4096):
        calls = 0
        assert compiled.match("/x" * size) is None
        assert calls <= steps * size
        calls = 0
        compiled.match("/x" * size + "/end")
        assert calls <= 3 * steps * (size + 1)


def test_a_converter_that_changes_its_mind_is_no_match() -> None:
    answers = iter([True, False, False])

    def fickle(text: str) -> str:
        if not next(answers):
            raise ValueError(text)
        return text

    pattern = Pattern("/:a(fickle)/:b?/:c?", {"fickle": Converter(".*", fickle, str)})
    assert pattern.match("/x") is None
    answers = iter([True, True, False])
    assert pattern.match("/x") is None


def test_split_path_decodes_after_splitting() -> None:
    assert split_path("/a%2Fb/c/") == ["a/b", "c"]
    assert split_path("/") == []
    assert split_path("//") == [""]
