"""What may be registered, made into routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sys import intern

from ..errors import RegistrationError, is_token
from .options import WEBSOCKET, refuse_async
from .resource import Resource, Route, function_routes
from .table import METHODS

_ADVICE = (
    "give a Resource (class or instance), a list of 3-tuples (method, pattern, callback), a"
    " function decorated with get, put, post …, or a list of these; a Router is mounted, with"
    " mount(prefix, router)"
)


def collect_routes(given: object) -> list[Route]:
    """Return the routes of anything that a Router registers; raises RegistrationError."""
    if isinstance(given, type) and issubclass(given, Resource):
        given = _instance(given)
    if isinstance(given, Resource):
        name = type(given).__name__
        return [_checked_route(item, name) for item in given.routes()]
    if isinstance(given, tuple) and len(given) == 3 and isinstance(given[0], str):
        return [_checked_route(given)]
    if callable(given):
        routes = function_routes(given)
        if not routes:
            raise RegistrationError(f"{given!r} has no decorator that makes it a route; {_ADVICE}")
        return [_checked_route(item) for item in routes]
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise RegistrationError(f"{given!r} is not routes; {_ADVICE}")
    return [route for item in given for route in collect_routes(item)]


def _instance(cls: type[Resource]) -> Resource:
    try:
        return cls()
    except TypeError as error:
        raise RegistrationError(
            f"{cls.__name__} cannot be made without arguments ({error}); give an instance"
        ) from error


def _checked_route(item: object, owner: str = "") -> Route:
    """Return a 3-tuple as a Route with a valid method."""
    if not isinstance(item, tuple) or len(item) != 3:
        raise RegistrationError(f"{item!r} is not a 3-tuple (method, pattern, callback)")
    method, pattern, callback = item
    if not isinstance(method, str) or not is_token(method):
        raise RegistrationError(f"{method!r} is not a method, as GET is; in the route {item!r}")
    if not callable(callback):
        raise RegistrationError(f"{callback!r} cannot be called; in the route {item!r}")
    refuse_async(callback, f"the handler of {method} {pattern}:")
    if method.upper() in METHODS or method.upper() in ("CONNECT", WEBSOCKET):
        method = method.upper()
    # As are the paths of Table.literal.
    method = intern(method)
    if method == "CONNECT":
        raise RegistrationError("CONNECT is for proxies, and has no path that could be a route")
    if isinstance(item, Route):
        return Route(method, pattern, callback, item.options, item.owner)
    name = getattr(callback, "__name__", repr(callback))
    return Route(method, pattern, callback, owner=f"{owner}.{name}" if owner else name)
