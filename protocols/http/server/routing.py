"""Routes: which handler answers a request. Exact paths by one look-up, then patterns in the order they were
added."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

from protocols.http.codec.messages import Response, text_response, validate_method

from .request import Request
from .responders import Responder, StreamingResponse
from .timeouts import Timeouts

__all__ = ["Handler", "Route", "Router", "route_of", "streaming"]

Answer = Response | StreamingResponse | Responder
Handler = Callable[[Request], Answer | Awaitable[Answer]]
"""A plain function, an `async def`, or either of them returning a `Responder` or a `StreamingResponse`."""

H = TypeVar("H", bound=Callable[..., Any])

TimeoutsLike = Timeouts | Callable[[Request], Timeouts]
"""Timeouts of a route: the same for all its requests, or chosen by the request. `idle` and `head_receiving`
are the server's, as there is no request yet while they run."""

VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))  # what `quote` leaves as it is


def streaming(handler: H) -> H:
    """Mark a handler that is called as soon as the head is there, and reads `request.stream` itself."""
    handler.streams = True  # type: ignore[attr-defined]
    return handler


class Route:
    """A handler with what is known of it before any request comes."""

    __slots__ = ("call", "own_context", "streams", "timeouts")

    def __init__(self, handler: Handler, timeouts: TimeoutsLike | None = None) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a function of the request, not {handler!r}")
        self.call = handler
        self.streams = bool(getattr(handler, "streams", False))
        # whether calling it runs code of the program: an `async def` only makes a coroutine
        self.own_context = bool(getattr(handler, "own_context", not inspect.iscoroutinefunction(handler)))
        self.timeouts = timeouts

    def __repr__(self) -> str:
        kind = "async " if inspect.iscoroutinefunction(self.call) else ""
        return f"<Route to {kind}{getattr(self.call, '__qualname__', self.call)}>"


def route_of(handler: Handler | Route) -> Route:
    """The handler's route, if it is not one already. Raises `TypeError` for what cannot be called."""
    return handler if isinstance(handler, Route) else Route(handler)


class Router:
    """`router.add("GET", "/users/{id}", handler)`; what a pattern's braces took is in `request.params`.

    Rules:
    1. Paths are compared as they are sent, without the query; what braces took is then percent-decoded as
       UTF-8 (so `%2F` in a segment does not split it; what is not UTF-8 becomes U+FFFD). A path given with
       letters outside ASCII is encoded first.
    2. An exact path goes before patterns, and patterns go in the order they were added.
    3. HEAD falls back on GET. OPTIONS answers 204 with Allow, unless it has a handler; so it does for `*`.
    4. A path that is known for other methods only answers 405 with Allow, an unknown one 404.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []

    def __repr__(self) -> str:
        return f"<Router {len(self._exact)} paths, {len(self._patterns)} patterns>"

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        *,
        timeouts: TimeoutsLike | None = None,
    ) -> None:
        """Answer `method` requests for `path` with `handler`. `{name}` in the path takes one segment or a
        part of one, `{name*}` the rest.

        Raises `ValueError` for a path that cannot be one, and for a route that is there already.
        """
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError(f"path {path!r}: begin it with a slash, and leave query and fragment out")
        methods = self._methods(quote(path, safe=VISIBLE))
        if validate_method(method) in methods:
            raise ValueError(f"{method} {path} has a handler already: {methods[method]!r}")
        methods[method] = Route(handler, timeouts)

    def get(self, path: str, *, timeouts: TimeoutsLike | None = None) -> Callable[[H], H]:
        """Decorator: `@router.get("/users/{id}")`."""
        return self.route("GET", path, timeouts=timeouts)

    def post(self, path: str, *, timeouts: TimeoutsLike | None = None) -> Callable[[H], H]:
        """Decorator: `@router.post("/users")`."""
        return self.route("POST", path, timeouts=timeouts)

    def route(self, method: str, path: str, *, timeouts: TimeoutsLike | None = None) -> Callable[[H], H]:
        """Decorator for any method: `@router.route("DELETE", "/users/{id}")`."""

        def decorate(handler: H) -> H:
            self.add(method, path, handler, timeouts=timeouts)
            return handler

        return decorate

    def match(self, request: Request) -> Route:
        """The route for a request (`request.params` is set), or one that answers 204, 405 or 404."""
        path = request.target.partition("?")[0]
        method = request.method
        allowed: set[str] = set()
        methods = self._exact.get(path)
        if methods is not None:
            route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
            if route is not None:
                return route
            allowed.update(methods)
        for pattern, methods in self._patterns:
            if found := pattern.fullmatch(path):
                route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
                if route is not None:
                    request.params = {name: unquote(value) for name, value in found.groupdict().items()}
                    return route
                allowed.update(methods)
        if path == "*":
            allowed.update(*self._exact.values(), *[methods for _, methods in self._patterns])
        return _without_route(method, allowed) if allowed else NOT_FOUND

    def _methods(self, path: str) -> dict[str, Route]:
        if "{" not in path and "}" not in path:
            return self._exact.setdefault(path, {})
        pattern = re.compile(path_pattern(path))
        for known, methods in self._patterns:
            if known.pattern == pattern.pattern:
                return methods
        methods = {}
        self._patterns.append((pattern, methods))
        return methods


def path_pattern(path: str) -> str:
    """The regular expression of a path with braces. Raises `ValueError` for braces that do not match, and
    for an invalid or repeated name."""
    parts = re.split(r"\{([^{}]*?)(\*?)\}", path)
    names = parts[1::3]
    if any("{" in literal or "}" in literal for literal in parts[0::3]):
        raise ValueError(f"path {path!r}: its braces do not match")
    if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
        raise ValueError(f"path {path!r}: give each pair of braces a name of its own, as in '/users/{{id}}'")
    pattern = re.escape(parts[0])
    for name, rest, literal in zip(names, parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.*' if rest else '[^/]+'})" + re.escape(literal)
    return pattern


def _without_route(method: str, methods: set[str]) -> Route:
    """A route that says which methods there are (RFC 9110 sections 9.3.7 and 15.5.6)."""
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    headers = {"Allow": ", ".join(sorted(allowed))}
    if method == "OPTIONS":
        return Route(lambda request: Response(204, headers))
    return Route(lambda request: text_response("method not allowed\n", 405, headers))


NOT_FOUND: Final = Route(lambda request: text_response("not found\n", 404))
