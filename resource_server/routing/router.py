"""The Router: ordered routes, and which endpoint answers a request.

Registering may happen in any thread, also while requests are served. Readers take no lock: they
see the tables through two attributes, each replaced as a whole and never changed. A registration
empties them; the next request that finds them empty compiles the tables, once, from all routes. All
that can fail, patterns and middlewares, is done before, in the call that registers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from weakref import ref

from ..errors import HTTPError, InternalServerError, PatternError, RegistrationError
from .converter import with_built_in
from .endpoint import Endpoint, ErrorHandlers, Scope, log_failure
from .options import checked_middlewares
from .pattern import Converter, Pattern
from .registration import collect_routes
from .resource import Route
from .table import Entry, Table

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Protocol, TypeAlias, TypeVar

    from ..request import Request
    from ..response import Middleware, Response
    from .endpoint import ErrorHandler
    from .options import Callback

    HandlerFunction = TypeVar("HandlerFunction", bound=ErrorHandler)

    class Decorator(Protocol):
        """Takes an error handler and returns the same."""

        def __call__(self, function: HandlerFunction, /) -> HandlerFunction:
            """Return `function`."""


__all__ = ["Endpoint", "Router"]

# Held while any Router registers or compiles, for a Router and those it is mounted in change
# together. Re-entrant, because a middleware may register routes when it is given its handler.
_registering = threading.RLock()


class _Record:
    """A route that was registered, with its pattern inside its own Router."""

    __slots__ = ("pattern", "route")

    def __init__(self, route: Route, converters: Mapping[str, Converter]) -> None:
        self.route = route
        try:
            self.pattern = Pattern(route[1], converters)
        except PatternError as error:
            raise PatternError(f"{route.owner}: {error}") from error


class _Mount:
    """A Router inside another; with `own_errors`, paths below it that have no route are its too."""

    __slots__ = ("middlewares", "own_errors", "prefix", "router")

    def __init__(
        self, prefix: Pattern, router: Router, middlewares: Iterable[Middleware], own_errors: bool
    ) -> None:
        self.prefix = prefix
        self.router = router
        self.middlewares = checked_middlewares(middlewares)
        self.own_errors = own_errors


_Item: TypeAlias = "_Record | _Mount"


class _View:
    """A Router as requests reach it: directly, or through the mounts of the Router `root`.

    It keeps what is made once for each of its items: entries, and views of what is mounted.
    """

    __slots__ = ("__weakref__", "children", "entries", "prefix", "root", "router", "scope")

    def __init__(self, root: Router, router: Router, prefix: Pattern, scope: Scope) -> None:
        self.root = root
        self.router = router
        self.prefix = prefix
        self.scope = scope
        self.entries: dict[_Record, Entry] = {}
        self.children: dict[_Mount, _View] = {}

    def entry(self, record: _Record) -> Entry:
        """Return a new entry; raises PatternError, and what its middlewares raise."""
        try:
            pattern = record.pattern.under(self.prefix)
        except PatternError as error:
            raise PatternError(f"{record.route.owner}: {error}") from error
        return Entry(record.route, pattern, self.scope)

    def child(self, mount: _Mount) -> _View:
        """Return a new view of what is mounted, with all that is in it; raises as `entry`."""
        router = mount.router
        middlewares = (*mount.middlewares, *router._middlewares)
        scope = Scope(middlewares, router._error_handlers, self.scope)
        view = _View(self.root, router, mount.prefix.under(self.prefix), scope)
        for item in router._items:
            if isinstance(item, _Mount):
                view.children[item] = view.child(item)
            else:
                view.entries[item] = view.entry(item)
        router._views = [*map(ref, router._living_views()), ref(view)]
        return view

    def all_entries(self) -> Iterator[Entry]:
        """Return the entries in order of registration, those of a mount where it was mounted."""
        for item in self.router._items:
            if isinstance(item, _Mount):
                yield from self.children[item].all_entries()
            else:
                yield self.entries[item]

    def mounts(self) -> Iterator[tuple[Pattern, Scope]]:
        """Return prefix and scope of each mounted Router."""
        for mount, view in self.children.items():
            if mount.own_errors:
                yield view.prefix, view.scope
            yield from view.mounts()


class Router:
    """Routes in order, and what surrounds them.

    The first registered route that matches wins, for each method, wildcard or not. HEAD is answered
    by GET, OPTIONS by the methods of the path (204), unless there is a route for it. Other answers:
    400 for a malformed path, 404, 405 with Allow, 501 for a method that neither the standard
    (RFC 9110 §9, RFC 5789) nor a route has.

    `middlewares`, outermost first: each takes a handler and returns a handler; they surround these
    answers too, and everything that is mounted. `converters`: by name, for patterns of this Router.
    Raises TypeError, RegistrationError or PatternError for what is neither.
    """

    def __init__(
        self,
        *,
        middlewares: Iterable[Middleware] = (),
        converters: Mapping[str, Converter] | None = None,
    ) -> None:
        self._middlewares = checked_middlewares(middlewares)
        self._converters = with_built_in(converters)
        self._error_handlers = ErrorHandlers()
        # Guarded by _registering.
        self._items: list[_Item] = []
        self._names: dict[str, Pattern] = {}
        # References to all views of it. A WeakSet would lose members in whichever thread collects
        # garbage, be it in the middle of an iteration.
        self._views: list[ref[_View]] = []
        self._view = _View(self, self, Pattern("/"), Scope(self._middlewares, self._error_handlers))
        self._views.append(ref(self._view))
        # What requests read: endpoints of literal paths by method, and the table for the rest.
        self._literal: dict[str, dict[str, Endpoint]] = {}
        self._table: Table | None = None

    # Registering, in any thread.

    def register_routes(self, routes: object) -> None:
        """Add routes behind those there are; all of them, or none if one is wrong.

        `routes`: a Resource, a Resource class (made without arguments), a list or iterable of
        3-tuples (method, pattern, callback), a decorated function, or a list of any of these.

        Raises RegistrationError for anything else, PatternError for a pattern that cannot be used
        or a name that another pattern has, and what a middleware raises that is given a handler.
        """
        records = [_Record(route, self._converters) for route in collect_routes(routes)]
        with _registering:
            names = self._checked_names(records)
            views = self._living_views()
            entries = [(view, each, view.entry(each)) for view in views for each in records]
            for view, record, entry in entries:
                view.entries[record] = entry
            self._items += records
            self._names = names
            self._changed()

    registerRoutes = register_routes

    def mount(
        self,
        prefix: str,
        routes: object,
        *,
        middlewares: Iterable[Middleware] = (),
    ) -> None:
        """Add a Router, or what register_routes takes, below a prefix, which may have wildcards.

        A Router keeps its own middlewares and error handlers, also for paths below the prefix that
        no route has; routes that are added to it later are there too. It may be mounted in several
        places. Raises as register_routes.
        """
        router = routes
        if not isinstance(router, Router):
            router = Router()
            router._converters = self._converters
            router.register_routes(routes)
        mount = _Mount(
            Pattern(prefix, self._converters), router, middlewares, isinstance(routes, Router)
        )
        with _registering:
            if router._contains(self):
                raise RegistrationError("a Router cannot be mounted in itself")
            children = [(view, view.child(mount)) for view in self._living_views()]
            for view, child in children:
                view.children[mount] = child
            self._items.append(mount)
            self._changed()

    def error_handler(
        self, key: int | type[BaseException], handler: ErrorHandler | None = None
    ) -> Decorator:
        """Let a function (request, error) answer errors of a status (400 to 599) or of a class.

        As decorator, ``@router.error_handler(404)``, or with the function as second argument.
        The most specific class is taken, then the status; 500 is also that of unexpected
        exceptions. What it returns may be anything that a handler returns; if that is not a
        Response, it gets the status of the error. If it fails, that is logged and answered with
        500.

        Raises RegistrationError for another key.
        """

        def decorate(function: HandlerFunction) -> HandlerFunction:
            with _registering:
                self._error_handlers.add(key, function)
            return function

        if handler is not None:
            decorate(handler)
        return decorate

    def _contains(self, other: Router) -> bool:
        return self is other or any(
            isinstance(item, _Mount) and item.router._contains(other) for item in self._items
        )

    def _checked_names(self, records: Iterable[_Record]) -> dict[str, Pattern]:
        names = dict(self._names)
        for record in records:
            name = record.route.options.name
            if name is not None:
                known = names.setdefault(name, record.pattern)
                if known.steps != record.pattern.steps:
                    raise PatternError(
                        f"{record.route.owner}: pattern {record.pattern.text!r} has the name"
                        f" {name!r}, which {known.text!r} has already; give each its own"
                    )
        return names

    def _living_views(self) -> list[_View]:
        """Return how it can be reached now. With the lock held, as nobody is to add one."""
        return [view for each in self._views if (view := each()) is not None]

    def _changed(self) -> None:
        """Let every Router that this one can be reached by compile its tables again."""
        for view in self._living_views():
            # The table first: a request that finds no literal path goes on to the table.
            view.root._table = None
            view.root._literal = {}

    def _compiled(self) -> Table:
        with _registering:
            table = self._table
            if table is None:
                view = self._view
                table = Table(view.scope, list(view.all_entries()), view.mounts())
                self._table = table
                self._literal = table.literal
            return table

    # Asking, in any thread.

    def routes(self) -> list[tuple[str, str, Callback]]:
        """Return all routes (method, pattern, callback) in order, also those that are mounted."""
        with _registering:
            entries = list(self._view.all_entries())
        return [
            Route(entry.route[0], entry.pattern.text, *entry.route[2:], entry.route.options)
            for entry in entries
        ]

    def url_for(self, name: str, /, **values: object) -> str:
        """Return the path of the route called `name`, percent-encoded: the inverse of matching.

        `values` are those of the pattern's wildcards. Of routes in several mounts that share a
        name, the first is taken. Raises PatternError for an unknown name or values that do not fit.
        """
        names = (self._table or self._compiled()).names
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise PatternError(f"no route has the name {name!r}; the names (name=…) are: {known}")
        return names[name].build(**values)

    def resolve(self, request: Request) -> Endpoint:
        """Return what answers the request, and set its `matches`; never raises."""
        # Two look-ups for a literal path, whatever number of routes.
        endpoints = self._literal.get(request.raw_path)
        if endpoints is not None:
            endpoint = endpoints.get(request.method)
            if endpoint is not None:
                request.matches = {}
                return endpoint
        try:
            table = self._table or self._compiled()
            endpoint, request.matches = table.search(request)
            return endpoint
        except BaseException as error:  # noqa: BLE001 - one request never ends the server
            return self._refuse(request, error)

    def _refuse(self, request: Request, error: BaseException) -> Endpoint:
        """Answer that a converter of the application has failed, and not by ValueError."""
        request.matches = {}
        if isinstance(error, HTTPError):
            return self._view.scope.refuse(error)
        log_failure(request, "a converter failed", error)
        return self._view.scope.refuse(InternalServerError())

    def dispatch(self, request: Request) -> Response:
        """Return the response to a request; never raises, needs no server."""
        return self.resolve(request)(request)
