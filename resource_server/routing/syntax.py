"""The text of a pattern, read into steps."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import PatternError
from .converter import PATH, STR, Converter, text_to_url
from .step import Step

_word = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").match


def parse(text: str, converters: Mapping[str, Converter]) -> tuple[Step, ...]:
    """Return the steps of a pattern's text; raises PatternError."""
    if not isinstance(text, str):
        raise PatternError(f"a pattern is a str, not {type(text).__name__}: {text!a}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PatternError(f"pattern {text!a} holds a lone surrogate, which no path has") from error
    if not text.startswith("/"):
        raise PatternError(f"pattern {text!r} does not begin with a slash: write {'/' + text!r}")
    return _Parser(text, converters).steps()


class _Parser:
    """Reads a pattern's text from left to right; `at` is the index of the next character."""

    def __init__(self, text: str, converters: Mapping[str, Converter]) -> None:
        self.text = text
        self.converters = converters
        self.at = 1

    def fault(self, problem: str) -> PatternError:
        return PatternError(f"pattern {self.text!r}: {problem}")

    def peek(self) -> str:
        """Return the next character, or "" at the end."""
        return self.text[self.at : self.at + 1]

    def steps(self) -> tuple[Step, ...]:
        steps = []
        while self.at < len(self.text):
            steps.append(self.wildcard() if self.peek() == ":" else self.literal())
            self.at += 1  # the slash after it
        return tuple(steps)

    def literal(self) -> Step:
        characters = []
        depth = 0
        while (character := self.peek()) not in ("", "/"):
            if character == "\\":
                self.at += 1
                character = self.peek()
                if not character:
                    raise self.fault("the backslash at the end makes nothing ordinary; remove it")
            elif character in "?+*":
                raise self.fault(
                    f"{character!r} follows no wildcard; it belongs behind /:name, and as ordinary"
                    f" text it is written with a backslash (a query is no part of a pattern)"
                )
            elif character in "()":
                depth += 1 if character == "(" else -1
                if depth < 0:
                    break
            characters.append(character)
            self.at += 1
        if depth:
            raise self.fault("unbalanced parenthesis; as ordinary text write it with a backslash")
        return Step(literal="".join(characters))

    def wildcard(self) -> Step:
        word = _word(self.text, self.at + 1)
        if word is None:
            raise self.fault(
                "a wildcard has no name; write a colon and letters, digits and _, as /:name, or put"
                " a backslash before a colon that is ordinary text"
            )
        name = word[0]
        self.at = word.end()
        converter = self.converter(name) if self.peek() == "(" else STR
        many = converter is PATH
        minimum = 1
        quantifier = self.peek()
        if quantifier and quantifier in "?+*":
            self.at += 1
            many = many or quantifier != "?"
            minimum = 1 if quantifier == "+" else 0
        if self.peek() not in ("", "/"):
            problem = "unbalanced parenthesis" if self.peek() == ")" else "more text"
            raise self.fault(
                f"{problem} behind :{name}; a wildcard is a whole component, as in /:{name}/ or"
                f" /:{name}(int)?, with at most one of ? + *"
            )
        return Step(
            name=name,
            converter=converter,
            minimum=minimum,
            many=many,
            optional=quantifier == "?",
        )

    def converter(self, name: str) -> Converter:
        start = self.at + 1
        end = self.closing_parenthesis(name)
        self.at = end + 1
        inner = self.text[start:end]
        if inner in self.converters:
            return self.converters[inner]
        if not inner:
            raise self.fault(f"nothing is in the parentheses of :{name}; remove them")
        if inner.isidentifier():
            raise self.fault(
                f"there is no converter {inner!r}; there are {', '.join(sorted(self.converters))}."
                f" As a regular expression write (?:{inner}), or register a Converter"
            )
        try:
            return Converter(inner, str, text_to_url)
        except PatternError as error:
            raise self.fault(f":{name}: {error}") from error

    def closing_parenthesis(self, name: str) -> int:
        """Return the index of the parenthesis that closes the one at `at`."""
        text = self.text
        index = self.at
        depth = 0
        crossing = False
        while index < len(text):
            character = text[index]
            if character == "[":
                index, slash = _skip_class(text, index)
                crossing = crossing or slash
            elif character == "\\":
                index += 1
                crossing = crossing or text[index : index + 1] == "/"
            elif character in "()":
                depth += 1 if character == "(" else -1
                if depth == 0:
                    break
            elif character == "/":
                crossing = True
            index += 1
        else:
            raise self.fault(f"the parenthesis behind :{name} is not closed (unbalanced)")
        if crossing:
            raise self.fault(
                f"the regular expression of :{name} holds a slash, but it sees one component at a"
                f" time; repeat it with + or *, or write several wildcards"
            )
        return index


def _skip_class(text: str, index: int) -> tuple[int, bool]:
    """Return the index of the "]" that ends the character class at `index`, and if "/" is in it.

    A slash that the class excludes, as in ``[^/]+``, does not count.
    """
    index += 1
    negated = text[index : index + 1] == "^"
    if negated:
        index += 1
    start = index
    slash = False
    while index < len(text) and (text[index] != "]" or index == start):
        if text[index] == "\\":
            index += 1
        slash = slash or (not negated and text[index : index + 1] == "/")
        index += 1
    return index, slash
