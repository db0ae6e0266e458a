"""What can go wrong with HTTP, beside what the codec alone can tell (`codec.errors`).

What a handler asks its request for and cannot get (`json()`, `query`, `text()`) is the client's doing: a 400,
unless the handler catches it. What a backend has sent wrong is an error of the pool's, too.
"""

from __future__ import annotations

import msgspec

from pools import BackendError

from .codec.errors import BadRequest, HttpError
from .codec.errors import BadResponse as Malformed

__all__ = ["BadContent", "BadJson", "BadRequest", "BadResponse", "HttpError", "UnexpectedJson"]


class BadContent(BadRequest, ValueError):
    """A request is well-formed, but what it carries is not what a handler has asked it for."""

    def __str__(self) -> str:
        return self.reason


class BadJson(BadContent, msgspec.DecodeError):
    """A request's body is not JSON."""


class UnexpectedJson(BadJson, msgspec.ValidationError):
    """A request's body is JSON of another type than a handler has asked for."""


class BadResponse(Malformed, BackendError):
    """The backend sent what is not HTTP, or is ambiguous: its connection is discarded."""
