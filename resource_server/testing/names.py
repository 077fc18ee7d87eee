"""The names of routes in a test: ``note_read`` for the method ``read`` of ``NoteResource``."""

from __future__ import annotations

from ..routing.options import WEBSOCKET

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.router import Router
    from ..routing.table import Entry

_LOCALS = "<locals>"
_SUFFIX = "resource"


def named_routes(router: Router) -> dict[str, list[Entry]]:
    """Return the routes by their names, in order; those of callables without a name are left out.

    It is the router's own view of them that tells owner and pattern, with the mounts' prefixes.
    """
    named: dict[str, list[Entry]] = {}
    for entry in router._view.all_entries():
        name = _name_of(entry.route.owner)
        if name:
            named.setdefault(name, []).append(entry)
    return named


def _name_of(owner: str) -> str:
    """Return the name for ``Class.method`` or ``function``, where functions may be nested."""
    *outer, name = owner.split(".")
    if not name.isidentifier():
        return ""
    if not outer or outer[-1] == _LOCALS or not outer[-1].isidentifier():
        return name
    resource = outer[-1].lower()
    return f"{resource.removesuffix(_SUFFIX) or resource}_{name}"


def arguments_for(
    name: str, entries: Sequence[Entry], values: Sequence[object], method: str | None
) -> tuple[str, str]:
    """Return method and path of the first route that takes these values for its wildcards.

    Raises TypeError for a number of values or a method that none has, PatternError for a value that
    its wildcard does not take.
    """
    for entry in entries:
        steps = [step for step in entry.pattern.steps if step.name]
        fewest = max((at for at, step in enumerate(steps, 1) if step.minimum), default=0)
        if fewest <= len(values) <= len(steps) and method in (None, entry.route[0]):
            given = {step.name: value for step, value in zip(steps, values, strict=False)}
            return entry.route[0], entry.pattern.build(**given)
    known = ", ".join(
        [
            f"{'WebSocket' if entry.route[0] == WEBSOCKET else entry.route[0]} {entry.pattern.text}"
            for entry in entries
        ]
    )
    asked = f" with {method}" if method else ""
    raise TypeError(f"{name}() was given {len(values)} values{asked}; its routes are: {known}")
