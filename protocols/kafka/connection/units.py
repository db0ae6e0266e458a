"""Units for one broker's connection: a request, and the answer to it as its value."""

from __future__ import annotations

from typing import Any, TypeVar

from pools import Unit
from protocols.kafka.protocol.schema import Message, Request

__all__ = ["Call"]

R = TypeVar("R", bound=Message)


class Call(Unit[R]):
    """One request; settles with its answer, whatever codes stand in that.

    `idempotent`: asking twice is the same as asking once. `answered`: whether there is an answer; a produce
    request with `acks` 0 has none, and settles with None when it is written.
    """

    __slots__ = ("answered", "idempotent", "request", "size")

    def __init__(
        self, request: Request[R], *, idempotent: bool = False, answered: bool = True, size: int = 0
    ) -> None:
        self.request: Request[Any] = request
        self.idempotent = idempotent
        self.answered = answered
        self.size = size

    def __repr__(self) -> str:
        return f"<Call {self.request.api.name}>"
