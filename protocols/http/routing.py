"""Routes: which handler answers a request. Exact paths by one look-up, then patterns in the order they were added."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from .messages import Request, Response, text_response
from .responders import Responder, StreamingResponse
from .timeouts import Timeouts

__all__ = ["Handler", "Route", "Router", "streaming"]

Answer = Response | StreamingResponse | Responder
Handler = Callable[[Request], Answer | Awaitable[Answer]]
"""A plain function, an `async def`, or either of them returning a `Responder` or a `StreamingResponse`."""

H = TypeVar("H", bound=Callable[..., Any])

NO_PARAMS: Mapping[str, str] = {}


def streaming(handler: H) -> H:
    """Mark a handler that is called as soon as the head is there, and reads `request.stream` itself."""
    handler.streams = True  # type: ignore[attr-defined]
    return handler


class Route:
    """A handler with what is known of it before any request comes."""

    __slots__ = ("call", "streams", "timeouts")

    def __init__(
        self, handler: Handler, timeouts: Timeouts | Callable[[Request], Timeouts] | None = None
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a function of the request, not {handler!r}")
        self.call = handler
        self.streams = bool(getattr(handler, "streams", False))
        self.timeouts = timeouts

    def __repr__(self) -> str:
        kind = "async " if inspect.iscoroutinefunction(self.call) else ""
        return f"<Route to {kind}{getattr(self.call, '__qualname__', self.call)}>"


class Router:
    """`router.add("GET", "/users/{id}", handler)`; what a pattern's braces took is in `request.params`.

    A path that is known for another method answers 405 with Allow, an unknown one 404. HEAD falls back on GET.
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
        timeouts: Timeouts | Callable[[Request], Timeouts] | None = None,
    ) -> None:
        """Answer `method` requests for `path` with `handler`. `{name}` in the path takes one segment, `{name*}` the rest.

        Raises `ValueError` for a path that does not begin with a slash or a route that is there already.
        """
        if not path.startswith("/"):
            raise ValueError(f"path {path!r} does not begin with a slash")
        methods = self._methods(path)
        if method in methods:
            raise ValueError(f"{method} {path} has a handler already: {methods[method]!r}")
        methods[method] = Route(handler, timeouts)

    def get(self, path: str) -> Callable[[H], H]:
        """Decorator: `@router.get("/users/{id}")`."""
        return self.route("GET", path)

    def post(self, path: str) -> Callable[[H], H]:
        """Decorator: `@router.post("/users")`."""
        return self.route("POST", path)

    def route(self, method: str, path: str) -> Callable[[H], H]:
        """Decorator for any method."""

        def decorate(handler: H) -> H:
            self.add(method, path, handler)
            return handler

        return decorate

    def match(self, request: Request) -> Route:
        """The route for a request (`request.params` is set), one that answers 405, or one that answers 404."""
        path = request.target.partition("?")[0]
        methods = self._exact.get(path)
        if methods is None:
            for pattern, candidates in self._patterns:
                if found := pattern.fullmatch(path):
                    methods = candidates
                    request.params = found.groupdict()
                    break
            else:
                return NOT_FOUND
        route = methods.get(request.method)
        if route is None and request.method == "HEAD":
            route = methods.get("GET")
        return route if route is not None else method_not_allowed(sorted(methods))

    def _methods(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        pattern = re.compile(path_pattern(path))
        for known, methods in self._patterns:
            if known.pattern == pattern.pattern:
                return methods
        methods = {}
        self._patterns.append((pattern, methods))
        return methods


def path_pattern(path: str) -> str:
    """The regular expression of a path with braces."""
    parts = re.split(r"\{(\w+)(\*?)\}", path)
    pattern = re.escape(parts[0])
    for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.*' if rest else '[^/]+'})" + re.escape(literal)
    return pattern


def method_not_allowed(methods: list[str]) -> Route:
    """A route that says which methods there are (RFC 9110 section 15.5.6)."""
    response = text_response("method not allowed\n", 405, {"Allow": ", ".join(methods)})
    return Route(lambda request: response)


NOT_FOUND = Route(lambda request: text_response("not found\n", 404))
