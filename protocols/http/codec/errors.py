"""What can go wrong with HTTP on the wire, told apart by whose fault it is.

`BadRequest` is the client's doing and names the status it gets; `BadResponse` is the server's doing and
becomes a 502 wherever it is passed on. Misuse by the program itself (a header with a line break in it, say)
is neither: that is a plain `ValueError` where the value is given.
"""

__all__ = ["BadRequest", "BadResponse", "HttpError"]


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


class BadResponse(HttpError):
    """The server sent what is not HTTP, or is ambiguous: discard its connection."""
