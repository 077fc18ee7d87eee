r"""Patterns of URL paths: ``/user/:name/posts/:id(int)?``, compiled; matching and its inverse.

A path is split on "/" *before* it is percent-decoded, so that %2F stays inside its component, and
a pattern is a sequence of steps, each of which takes components: a literal or ``:name`` one,
``:name?`` none or one, ``:name+`` one or more, ``:name*`` any number. Wildcards take as much as
they can, from the left, as in a regular expression; but the work is bounded by steps × components
for any pattern, which one regular expression over the whole path could not promise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from ..errors import BadRequest, PatternError
from ..query import percent_decode
from .converter import Converter, with_built_in
from .step import REST, UNMATCHED, Step
from .syntax import parse

__all__ = ["Converter", "Pattern", "split_path"]

# pchar of RFC 3986 §3.3, without the unreserved characters, which quote() never touches.
_SAFE = "!$&'()*+,;=:@"
# Most components are such that quote() would change nothing, and importing it takes 2 ms.
_is_plain = re.compile(r"[0-9A-Za-z\-._~]*").fullmatch


def split_path(raw_path: str) -> list[str]:
    """Return the percent-decoded components of a path; a "/" at the end adds none.

    Raises BadRequest if the path does not begin with "/", is not ASCII, or holds an escape that is
    malformed or no UTF-8 (RFC 3986 §2.1, §3.3).
    """
    if not raw_path.startswith("/"):
        raise BadRequest("the path does not begin with a slash")
    if not raw_path.isascii():
        raise BadRequest("the path holds characters that must be percent-encoded")
    components = raw_path[1:].split("/")
    if not components[-1]:
        components.pop()
    if "%" not in raw_path:
        return components
    return [percent_decode(text) for text in components]


def join_path(components: Sequence[str]) -> str:
    """Return the path of decoded components; raises UnicodeEncodeError for lone surrogates."""
    if not all(map(_is_plain, components)):
        from urllib.parse import quote

        components = [quote(text, safe=_SAFE) for text in components]
    path = "/" + "/".join(components)
    # The slash behind an empty last component would be taken for the one that is tolerated.
    return path if not components or components[-1] else path + "/"


class Pattern:
    """A pattern of URL paths.

    =================  =================================================================
    ``/abc``           this component; equivalents (``/%61bc``) are the same
    ``/:abc``          one component, any text but the empty one
    ``/:abc?``         none or one; None when absent
    ``/:abc+``         one or more, joined with "/"
    ``/:abc*``         any number, joined with "/"; "" when absent
    ``/:abc(int)``     one that a converter takes: str, int, float, uuid, path or your own
    ``/:abc([a-z]+)``  one that wholly matches the regular expression
    =================  =================================================================

    ``? + *`` may follow the parenthesis. Repeated, a converter or regular expression has to take
    each component; the value is the joined text for str and regular expressions, a list for the
    others (empty when absent). ``(path)`` is one or more components, as ``+``. One slash at the end
    is tolerated in the pattern and in the path. ``.`` and ``..`` are ordinary text.

    `text` is written decoded, as ``/café/:name``. A backslash makes the next character ordinary,
    for literals that hold ``? + * :`` or a single parenthesis. `converters` join the built-in ones.

    Raises PatternError, which names the pattern and says what to write instead.
    """

    __slots__ = (
        "_fixed",
        "_shape",
        "_single",
        "_take_plain",
        "_values",
        "is_variable",
        "literal",
        "names",
        "steps",
        "text",
    )

    def __init__(self, text: str, converters: Mapping[str, Converter] | None = None) -> None:
        self._assemble(text, parse(text, with_built_in(converters)))

    def _assemble(self, text: str, steps: tuple[Step, ...]) -> None:
        self.text: str = text
        self.steps: tuple[Step, ...] = steps
        #: The names of the wildcards, in order.
        self.names: tuple[str, ...] = tuple(step.name for step in steps if step.name)
        for name in self.names:
            if self.names.count(name) > 1:
                raise PatternError(
                    f"pattern {text!r}: the name {name!r} is there twice; give each its own"
                )
        #: The path of a pattern without wildcards, decoded, no slash at its end; else None.
        self.literal: str | None = None
        if not self.names and REST not in steps:
            self.literal = "/" + "/".join([step.literal for step in steps])
        variable = [index for index, step in enumerate(steps) if step.variable]
        self._single: int | None = variable[0] if len(variable) == 1 else None
        #: Whether paths with other numbers of components may match.
        self.is_variable: bool = bool(variable)
        # For patterns of a fixed length, the literals are compared first: that is cheap.
        self._fixed = [(i, step.literal) for i, step in enumerate(steps) if not step.name]
        self._values = [(i, step.name, step.taking) for i, step in enumerate(steps) if step.name]
        # Takes several wildcards at once, in half the time, if all are plain text.
        self._take_plain: Callable[[Sequence[str]], tuple[str, ...]] | None = None
        if len(self._values) > 1 and all(taking is None for _, _, taking in self._values):
            self._take_plain = itemgetter(*[index for index, _, _ in self._values])
        self._shape: Pattern | None = None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def under(self, prefix: Pattern) -> Pattern:
        """Return the pattern of `prefix` followed by this one; raises PatternError as the class."""
        if not prefix.steps:
            return self
        joined = Pattern.__new__(Pattern)
        joined._assemble(prefix.text.removesuffix("/") + self.text, prefix.steps + self.steps)
        return joined

    def with_rest(self) -> Pattern:
        """Return the pattern of all paths that begin with this one; it cannot be built."""
        whole = Pattern.__new__(Pattern)
        whole._assemble(self.text, (*self.steps, REST))
        return whole

    def shape(self) -> Pattern:
        """Return the pattern without any `to_python`, which may answer differently each time.

        What this does not match, the pattern never does. Repeated wildcards have list values.
        """
        if self._shape is None:
            shape = Pattern.__new__(Pattern)
            shape._assemble(self.text, tuple(step.as_text() for step in self.steps))
            self._shape = shape
        return self._shape

    def match(self, raw_path: str) -> dict[str, object] | None:
        """Return the values of the wildcards by name, or None if the path is another.

        `raw_path` is percent-encoded, without query. Raises BadRequest as split_path does.
        """
        return self.match_components(split_path(raw_path))

    def match_components(self, components: Sequence[str]) -> dict[str, object] | None:
        """Return what `match` returns, for a path already split and decoded."""
        if self.is_variable:
            return self._match_variable(components)
        if len(components) != len(self.steps):
            return None
        for index, text in self._fixed:
            if components[index] != text:
                return None
        return self.take(components)

    def take(self, components: Sequence[str]) -> dict[str, object] | None:
        """Return what `match_components` does, where number and literals are known to be right.

        The pattern must not be variable.
        """
        if self._take_plain is not None:
            values = self._take_plain(components)
            return None if "" in values else dict(zip(self.names, values, strict=True))
        matches: dict[str, object] = {}
        for index, name, taking in self._values:
            component = components[index]
            if taking is None:
                if not component:
                    return None
                matches[name] = component
            else:
                value = taking(component)
                if value is UNMATCHED:
                    return None
                matches[name] = value
        return matches

    def _match_variable(self, components: Sequence[str]) -> dict[str, object] | None:
        ends = self._ends(components) if self._single is None else self._only_ends(components)
        if ends is None:
            return None
        matches = {}
        start = 0
        for step, end in zip(self.steps, ends, strict=True):
            if step.name:
                value = step.take_all(components[start:end])
                if value is UNMATCHED:
                    return None
                matches[step.name] = value
            elif not step.many and components[start] != step.literal:
                return None
            start = end
        return matches

    def _only_ends(self, components: Sequence[str]) -> list[int] | None:
        """Return where each step ends if one alone is variable: it has what the others leave."""
        single = self._single
        assert single is not None
        step = self.steps[single]
        extra = len(components) - (len(self.steps) - 1)
        if extra < step.minimum or (extra > 1 and not step.many):
            return None
        return [index + 1 if index < single else index + extra for index in range(len(self.steps))]

    def _ends(self, components: Sequence[str]) -> list[int] | None:
        """Return where each step ends, by a table of what the rest of the pattern can match.

        reach[i][j] tells whether the steps from i on match the components from j on; each entry is
        made once from its neighbours, so that no choice of a wildcard is ever tried again.
        """
        size = len(components)
        after = [False] * size + [True]
        reach = [after]
        for step in reversed(self.steps):
            row = [False] * (size + 1)
            row[size] = step.minimum == 0 and after[size]
            for j in range(size - 1, -1, -1):
                if step.minimum == 0 and after[j]:
                    row[j] = True
                elif after[j + 1] or (step.many and row[j + 1]):
                    row[j] = step.take(components[j]) is not UNMATCHED
            reach.append(row)
            after = row
        reach.reverse()
        if not reach[0][0]:
            return None
        ends = []
        end = 0
        for step, after in zip(self.steps, reach[1:], strict=True):
            end = _longest(step, components, end, after)
            if end < 0:
                return None
            ends.append(end)
        return ends

    def build(self, /, **values: object) -> str:
        """Return the percent-encoded path that this pattern matches with exactly these values.

        Wildcards with ``?`` or ``*`` may be left out. Raises PatternError, naming the wildcard, for
        values that are missing, unknown, of another type, or that no path can carry.
        """
        self._check_names(values)
        components: list[str] = []
        parts: dict[str, object] = {}
        for step in self.steps:
            if not step.name:
                components.append(step.literal)
                continue
            try:
                part = step.give(values.get(step.name))
            except (TypeError, ValueError) as error:
                raise PatternError(f"pattern {self.text!r}: {step.name}: {error}") from error
            components += part
            if not part and step.optional:
                parts[step.name] = None
            else:
                parts[step.name] = part if step.many else part[0]
        try:
            path = join_path(components)
        except UnicodeEncodeError as error:
            raise PatternError(
                f"pattern {self.text!r}: a value holds a lone surrogate, which UTF-8 cannot carry"
            ) from error
        if self.shape().match_components(split_path(path)) != parts:
            raise PatternError(
                f"pattern {self.text!r}: the path {path!r} would not give these values back;"
                " a wildcard before takes what was meant for another, or a component is empty"
            )
        return path

    def _check_names(self, values: Mapping[str, object]) -> None:
        missing = [s.name for s in self.steps if s.name and s.minimum and s.name not in values]
        if missing:
            raise PatternError(f"pattern {self.text!r} needs a value for {', '.join(missing)}")
        extra = [name for name in values if name not in self.names]
        if extra:
            known = f"its names are {', '.join(self.names)}" if self.names else "it has no names"
            raise PatternError(f"pattern {self.text!r} has no {', '.join(extra)}; {known}")


def _longest(step: Step, components: Sequence[str], start: int, after: Sequence[bool]) -> int:
    """Return the last place where `step` may end so that `after` holds; -1 if there is none."""
    best = start if step.minimum == 0 and after[start] else -1
    end = start
    while end < len(components) and (step.many or end == start):
        if step.take(components[end]) is UNMATCHED:
            break
        end += 1
        if after[end]:
            best = end
    return best
