"""What can go wrong with HTTP on the wire, told apart by whose fault it is.

`BadRequest` is the client's doing and names the status it gets; `BadResponse` is a backend's doing and
becomes a 502 wherever it is passed on. What a handler asks its request for and cannot get (`json()`, `query`,
`text()`) is the client's doing too: a 400, unless the handler catches it. Misuse by the program itself (a
header with a line break in it, say) is neither: that is a plain `ValueError` where the value is given.
"""

import msgspec

from pools import BackendError

__all__ = ["BadContent", "BadJson", "BadRequest", "BadResponse", "HttpError", "UnexpectedJson"]


class HttpError(Exception):
    """The other side broke the protocol. `reason` is one short sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BadRequest(HttpError):
    """The client sent what cannot be served. Raised by the parser, it is answered with `status` and the
    connection is closed (its framing is lost); raised by a handler, it is only answered."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


class BadContent(BadRequest, ValueError):
    """A request is well-formed, but what it carries is not what a handler has asked it for."""

    def __str__(self) -> str:
        return self.reason


class BadJson(BadContent, msgspec.DecodeError):
    """A request's body is not JSON."""


class UnexpectedJson(BadJson, msgspec.ValidationError):
    """A request's body is JSON of another type than a handler has asked for."""


class BadResponse(HttpError, BackendError):
    """The backend sent what is not HTTP, or is ambiguous: discard its connection."""
