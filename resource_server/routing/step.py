"""One step of a pattern: what takes components of a path, and gives them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .converter import BUILT_IN, PATH, STR, Converter, text_to_url

#: What no component can be: the answer of a step that does not take what it is shown.
UNMATCHED = object()


class Step:
    """What takes components of a path: a literal if `name` is empty, else a wildcard.

    `minimum` is 0 or 1; `many` says that more than one is taken; `optional` that the value is None
    when there is none. A step never changes, and equals another of the same meaning.
    """

    __slots__ = ("converter", "literal", "many", "minimum", "name", "optional")

    def __init__(
        self,
        literal: str = "",
        name: str = "",
        converter: Converter = STR,
        minimum: int = 1,
        many: bool = False,
        optional: bool = False,
    ) -> None:
        self.literal = literal
        self.name = name
        self.converter = converter
        self.minimum = minimum
        self.many = many
        self.optional = optional

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self.literal, self.name, self.converter, self.minimum, self.many, self.optional)

    def as_text(self) -> Step:
        """Return the step that takes the same components, and leaves them as they are."""
        converter = Converter(self.converter.pattern, text_to_url, text_to_url)
        return Step(self.literal, self.name, converter, self.minimum, self.many, self.optional)

    @property
    def variable(self) -> bool:
        """Whether the number of components is not always one."""
        return self.many or self.minimum == 0

    @property
    def taking(self) -> Callable[[str], object] | None:
        """`take`, or None for a wildcard that takes any component but the empty one, as it is."""
        return None if self.converter is STR or self.converter is PATH else self.take

    @property
    def is_constant(self) -> bool:
        """Whether its value follows from the path, each time again, and cannot be changed."""
        known = self.converter in BUILT_IN.values() or self.converter.to_python is str
        return not self.name or (known and (self.joined or not self.many))

    @property
    def joined(self) -> bool:
        """Whether the components of a repeated wildcard make one str."""
        return self.converter.to_python is str or self.converter is PATH

    def take(self, component: str) -> object:
        """Return the value of one component, or UNMATCHED."""
        if not self.name:
            return component if self.many or component == self.literal else UNMATCHED
        if not component:
            return UNMATCHED
        converter = self.converter
        if converter is STR or converter is PATH:
            return component
        if converter.fullmatch(component) is None:
            return UNMATCHED
        try:
            return converter.to_python(component)
        except ValueError:
            return UNMATCHED

    def take_all(self, components: Sequence[str]) -> object:
        """Return the value of the wildcard for all its components, or UNMATCHED."""
        if not components and self.optional:
            return None
        values = []
        for component in components:
            value = self.take(component)
            if value is UNMATCHED:
                return UNMATCHED
            values.append(value)
        if not self.many:
            return values[0]
        return "/".join(components) if self.joined else values

    def give(self, value: object) -> list[str]:
        """Return the components that `value` makes: the inverse of take_all.

        Raises TypeError or ValueError for what is no value of this wildcard.
        """
        if self.minimum == 0 and value is None:
            return []
        to_url = self.converter.to_url
        if not self.many:
            values: Sequence[object] = [value]
        elif self.joined:
            text = text_to_url(value)
            values = text.split("/") if text or self.minimum else []
        elif isinstance(value, list | tuple):
            values = value
        else:
            raise TypeError(f"a list is needed, not {type(value).__name__}")
        components = [text_to_url(to_url(each)) for each in values]
        for component in components:
            if self.take(component) is UNMATCHED:
                raise ValueError(f"{component!a} is not accepted")
        return components


# What follows the prefix of a mount, if anything: also components that no wildcard takes.
REST = Step(minimum=0, many=True)
