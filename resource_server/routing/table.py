"""The routes of a Router compiled for look-up; those of a Table never change.

A literal path is a key of `Table.literal`: look-up costs one access, however many routes there are.
What can be known of it is known before: which route has each method (the first registered that
could match, wildcards included; a method for which a wildcard comes first is left out), and the
answers to HEAD, OPTIONS and to methods that it does not have. GET is left out as well if there may
be a route for it and one for WebSockets, since the request's fields decide between them.

Other paths are looked up by the components that stand where patterns have literals; the routes
found are tried in the order of registration. What was found is remembered of paths that are asked
for twice in a row, as those are that somebody polls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from sys import intern

from ..errors import BadRequest
from .options import WEBSOCKET
from .pattern import join_path, split_path

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request
    from .endpoint import Endpoint, Scope
    from .pattern import Pattern
    from .resource import Route

#: RFC 9110 §9.3 and RFC 5789, without CONNECT, which is for proxies.
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
# Whose routes answer a method that has none of its own, in this order.
_SUBSTITUTES: dict[str, tuple[str, ...]] = {"GET": (WEBSOCKET,), "HEAD": ("GET", WEBSOCKET)}
_NO_GROUPS: dict[tuple[int, ...], _Group] = {}
#: Methods and paths of which is remembered what they lead to, …
MAX_REMEMBERED = 256
#: … and characters of such a path, so that no client can fill the memory with them.
LONGEST_REMEMBERED = 256


class Entry:
    """A route as a request can reach it."""

    __slots__ = ("endpoint", "pattern", "route", "scope")

    endpoint: Endpoint

    def __init__(self, route: Route, pattern: Pattern, scope: Scope) -> None:
        self.route = route
        self.pattern = pattern
        self.scope = scope
        if route[0] == WEBSOCKET:
            self.endpoint = _opening(route, scope)
        else:
            self.endpoint = scope.endpoint(route[2], route.options)


def _opening(route: Route, scope: Scope) -> Endpoint:
    """Return the endpoint that opens the WebSockets of a route."""
    from .websocket import SocketRoute  # which takes its time to import

    socket = SocketRoute(route[2], route.options)
    endpoint = scope.endpoint(socket.open, route.options)
    # What follows the head of a request that opens a WebSocket are frames (RFC 6455 §4.1).
    endpoint.max_content_length = 0
    return endpoint


class _Row:
    """Routes of the same pattern, as long as putting them together changes no precedence."""

    __slots__ = ("endpoints", "is_constant", "match", "order", "pattern", "scope")

    def __init__(self, order: int, pattern: Pattern, scope: Scope) -> None:
        self.order = order
        self.pattern = pattern
        #: matches a path for which the row is a candidate
        self.match = pattern.match_components if pattern.is_variable else pattern.take
        self.scope = scope
        self.is_constant = all(step.is_constant for step in pattern.steps)
        self.endpoints: dict[str, Endpoint] = {}


class _Group:
    """Rows whose patterns have literals in the same places, by these literals."""

    __slots__ = ("_rows", "_take")

    def __init__(self, places: tuple[int, ...]) -> None:
        self._take = itemgetter(*places) if places else _nothing
        self._rows: dict[object, list[_Row]] = {}

    def add(self, row: _Row, components: Sequence[str]) -> None:
        """Add a row, whose literals are those of `components`."""
        self._rows.setdefault(self._take(components), []).append(row)

    def find(self, components: Sequence[str]) -> list[_Row] | None:
        """Return the rows whose literals a path has."""
        key = self._take(components)
        # Not `get`: without a GIL that takes CPython 3.13 37 µs for keys of another thread.
        return self._rows[key] if key in self._rows else None  # noqa: SIM401


class _Index:
    """Rows by where their literals stand, and by what these are.

    A look-up costs the same for any number of rows, and more for each arrangement of literals and
    wildcards among those of the path's length, of which applications have two or three.
    """

    __slots__ = ("_fixed", "_only", "_open")

    def __init__(self) -> None:
        # Groups by the number of components; of patterns with a variable step, by the number of
        # those before the first.
        self._fixed: dict[int, dict[tuple[int, ...], _Group]] = {}
        self._open: dict[int, dict[tuple[int, ...], _Group]] = {}
        # The group of all rows that a path with so many components can have, if it is one.
        self._only: dict[int, _Group] = {}

    def add(self, row: _Row) -> None:
        steps = row.pattern.steps
        size = next((at for at, step in enumerate(steps) if step.variable), len(steps))
        places = tuple(at for at, step in enumerate(steps[:size]) if not step.name)
        groups = (self._fixed if size == len(steps) else self._open).setdefault(size, {})
        if places not in groups:
            groups[places] = _Group(places)
        groups[places].add(row, [step.literal for step in steps])

    def close(self) -> None:
        """Take note that all rows have been added."""
        for size, groups in self._fixed.items():
            if len(groups) == 1 and size < min(self._open, default=math.inf):
                self._only[size] = next(iter(groups.values()))

    def candidates(self, components: Sequence[str]) -> Sequence[_Row]:
        """Return the rows that might match, in order.

        Of a row without variable steps, number and literals of the components are right.
        """
        size = len(components)
        only = self._only.get(size)
        if only is not None:
            # As nearly always: a third of the time of what follows.
            return only.find(components) or ()
        rows: list[_Row] | None = None
        for group in self._fixed.get(size, _NO_GROUPS).values():
            found = group.find(components)
            if found is not None:
                rows = found if rows is None else rows + found
        for least, groups in self._open.items():
            if least <= size:
                for group in groups.values():
                    found = group.find(components)
                    if found is not None:
                        rows = found if rows is None else rows + found
        if rows is None:
            return ()
        return rows if len(rows) == 1 else sorted(rows, key=_order)


def _nothing(_: Sequence[str]) -> object:
    return None


def _order(row: _Row) -> int:
    return row.order


def _first(
    rows: Iterable[_Row], method: str, components: Sequence[str]
) -> tuple[Endpoint, dict[str, object]] | None:
    for row in rows:
        endpoint = row.endpoints.get(method)
        if endpoint is not None:
            matches = row.match(components)
            if matches is not None:
                return endpoint, matches
    return None


def _may_open(rows: Iterable[_Row], request: Request) -> bool:
    """Tell whether the request asks for a WebSocket, if there are any; else its fields wait."""
    return any(WEBSOCKET in row.endpoints for row in rows) and "websocket" in request.upgrade


def _allow(methods: Iterable[str]) -> tuple[str, ...]:
    """Return the methods for an Allow field: what the routes have and what follows from it."""
    allowed = {*methods, "OPTIONS"}
    if WEBSOCKET in allowed:
        allowed.remove(WEBSOCKET)
        allowed.add("GET")
    if "GET" in allowed:
        allowed.add("HEAD")
    return tuple(sorted(allowed))


class Table:
    """Entries in order of registration, ready to be looked up by any number of threads.

    `mounts` are the prefixes of mounted Routers with their scopes, to which paths belong that no
    route has.
    """

    __slots__ = (
        "_has_sockets",
        "_latest",
        "_methods",
        "_mounts",
        "_paths",
        "_remembered",
        "_root",
        "_server_wide",
        "literal",
        "names",
    )

    def __init__(
        self, root: Scope, entries: Sequence[Entry], mounts: Iterable[tuple[Pattern, Scope]]
    ) -> None:
        self._root = root
        self._paths = _Index()
        self._mounts = _Index()
        #: The first pattern of each name.
        self.names: dict[str, Pattern] = {}
        for entry in entries:
            if entry.route.options.name is not None:
                self.names.setdefault(entry.route.options.name, entry.pattern)
        registered = {entry.route[0] for entry in entries}
        self._has_sockets = WEBSOCKET in registered
        self._methods = (METHODS | registered) - {WEBSOCKET}
        self._server_wide = _allow(registered)
        for order, (prefix, scope) in enumerate(mounts):
            self._mounts.add(_Row(order, prefix.with_rest(), scope))
        rows = _rows(entries)
        for row in rows:
            self._paths.add(row)
        self._paths.close()
        # The last path that was searched for, and what is known of such: by method and path. Any
        # thread writes both; the dictionary is replaced when it is full, so that none loses a key
        # that it has just seen there.
        self._latest = ""
        self._remembered: dict[tuple[str, str], tuple[Endpoint, dict[str, object]]] = {}
        #: Endpoints by encoded path, with and without a slash at its end, and by method.
        self.literal: dict[str, dict[str, Endpoint]] = {}
        for row in rows:
            if row.pattern.literal is not None:
                self._add_literal([step.literal for step in row.pattern.steps])

    def _add_literal(self, components: list[str]) -> None:
        path = join_path(components)
        if path in self.literal:
            return
        endpoints = self._known_endpoints(components)
        # Interned strings are immortal, and so found without the dict's lock where there is no GIL.
        self.literal[intern(path)] = endpoints
        if components and components[-1]:
            self.literal[intern(path + "/")] = endpoints

    def _known_endpoints(self, components: list[str]) -> dict[str, Endpoint]:
        """Return, for a literal path, the endpoints of those methods that need no search."""
        known: dict[str, Endpoint] = {}
        unknown: set[str] = set()
        rows = [
            row
            for row in self._paths.candidates(components)
            if row.pattern.shape().match_components(components) is not None
        ]
        for row in rows:
            for method, endpoint in row.endpoints.items():
                if method in known or method in unknown:
                    continue
                if row.pattern.literal is None:
                    unknown.add(method)
                else:
                    known[method] = endpoint
        socket = known.pop(WEBSOCKET, None)
        undecided = "GET" in known and (socket is not None or WEBSOCKET in unknown)
        if socket is not None and "GET" not in unknown:
            known.setdefault("GET", socket)
        if "GET" in known and "HEAD" not in unknown:
            known.setdefault("HEAD", known["GET"])
        if all(row.pattern.literal is not None for row in rows):
            allow = _allow(known)
            known.setdefault("OPTIONS", rows[0].scope.tell_methods(allow))
            refusal = rows[0].scope.refuse_method(allow)
            for method in self._methods:
                known.setdefault(method, refusal)
        if undecided:
            del known["GET"]
        return known

    def search(self, request: Request) -> tuple[Endpoint, dict[str, object]]:
        """Return what answers a request that `literal` does not know, and the wildcards' values.

        Raises whatever a converter raises, but for ValueError.
        """
        method, raw_path = request.method, request.raw_path
        remembered, key = self._remembered, (method, raw_path)
        if key in remembered:
            endpoint, matches = remembered[key]
            return endpoint, matches.copy()
        if method not in self._methods:
            return self._root.not_implemented, {}
        if raw_path == "*" and method == "OPTIONS":
            return self._root.tell_methods(self._server_wide), {}
        try:
            components = split_path(raw_path)
        except BadRequest as error:
            return self._root.refuse_path(error), {}
        rows = self._paths.candidates(components)
        found = None
        if self._has_sockets and method == "GET" and _may_open(rows, request):
            found = _first(rows, WEBSOCKET, components)
        found = found or _first(rows, method, components)
        if found is not None:
            if raw_path == self._latest:
                self._remember(key, rows, found)
            self._latest = raw_path
        else:
            for each in _SUBSTITUTES.get(method, ()):
                found = found or _first(rows, each, components)
        return found or self._without_route(method, rows, components)

    def _remember(
        self, key: tuple[str, str], rows: Iterable[_Row], found: tuple[Endpoint, dict[str, object]]
    ) -> None:
        """Remember what a search has found, if only method and path have decided."""
        method, raw_path = key
        if len(raw_path) > LONGEST_REMEMBERED:
            return
        for row in rows:
            if not row.is_constant or (method == "GET" and WEBSOCKET in row.endpoints):
                return
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered = {}
        endpoint, matches = found
        self._remembered[key] = endpoint, matches.copy()

    def _without_route(
        self, method: str, rows: Iterable[_Row], components: Sequence[str]
    ) -> tuple[Endpoint, dict[str, object]]:
        """Return the answer for a path that has no route for the method."""
        methods: set[str] = set()
        first: tuple[Scope, dict[str, object]] | None = None
        for row in rows:
            matches = row.match(components)
            if matches is not None:
                methods.update(row.endpoints)
                first = first or (row.scope, matches)
        if first is None:
            return self._not_found(components)
        scope, matches = first
        allow = _allow(methods)
        if method == "OPTIONS":
            return scope.tell_methods(allow), matches
        return scope.refuse_method(allow), matches

    def _not_found(self, components: Sequence[str]) -> tuple[Endpoint, dict[str, object]]:
        """Return the 404 of the mounted Router with the longest prefix of the path."""
        found: tuple[_Row, dict[str, object]] | None = None
        for row in self._mounts.candidates(components):
            longer = found is None or len(row.pattern.steps) > len(found[0].pattern.steps)
            matches = row.match(components) if longer else None
            if matches is not None:
                found = row, matches
        if found is None:
            return self._root.not_found, {}
        return found[0].scope.not_found, found[1]


def _rows(entries: Iterable[Entry]) -> list[_Row]:
    """Return the entries as rows.

    An entry joins the row of its pattern unless its method has been registered for another pattern
    since, which would then have to come first.
    """
    rows: list[_Row] = []
    latest: dict[object, _Row] = {}
    last_with: dict[str, int] = {}
    for entry in entries:
        method = entry.route[0]
        row = latest.get(entry.pattern.steps)
        if row is None or last_with.get(method, -1) > row.order or row.scope is not entry.scope:
            row = _Row(len(rows), entry.pattern, entry.scope)
            rows.append(row)
            latest[entry.pattern.steps] = row
        row.endpoints.setdefault(method, entry.endpoint)
        last_with[method] = row.order
    return rows
