"""What a command without a key means in a cluster, whose nodes have each their own keys, scripts and settings
(https://redis.io/docs/latest/develop/reference/command-tips/: request_policy and response_policy). Pure.

Rules:
1. What any node can do for all of them goes to one, in turn.
2. What is to be so on every node (scripts, functions, settings) goes to every node that serves slots. The
   answers become one; where they differ, that is an error.
3. All else is about one node: it is refused, with the way to ask each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from actors import Misuse

from .errors import RedisError
from .slots import NONE

__all__ = ["ANYWHERE", "MERGES", "check_place", "full_name"]

ANYWHERE: Final = frozenset({"CLUSTER", "COMMAND", "ECHO", "LOLWUT", "PING", "PUBLISH", "TIME"})
"""Who is asked does not matter: what is published is passed on by the nodes themselves."""


def same(answers: list[Any]) -> Any:
    """The answer that all have given. Raises `RedisError`."""
    if any(answer != answers[0] for answer in answers):
        raise RedisError(f"ERR the nodes of the cluster answered differently: {answers!r:.200}")
    return answers[0]


def every(answers: list[Any]) -> list[int]:
    """1 where all have said so."""
    return [min(said) for said in zip(*answers, strict=True)]


MERGES: Final[dict[str, Callable[[list[Any]], Any]]] = {
    **dict.fromkeys(("SCRIPT LOAD", "SCRIPT FLUSH"), same),
    **dict.fromkeys(("FUNCTION LOAD", "FUNCTION DELETE", "FUNCTION FLUSH", "FUNCTION RESTORE"), same),
    "CONFIG SET": same,
    "SCRIPT EXISTS": every,
}
"""What goes to every node, and how one answer is made of theirs."""


def full_name(command: bytes) -> str:
    """An encoded command's name with its first argument, as those of containers are called."""
    words = command.split(b"\r\n", 5)[2:5:2]
    return b" ".join(words).decode("ascii", "replace").upper()


def check_place(command: bytes) -> None:
    """Raise `Misuse` for a command without a key that is not for one node, whichever that is."""
    name = full_name(command)
    first = name.split(" ", 1)[0]
    if first.encode() not in NONE or first in ANYWHERE:
        return
    if name in MERGES:
        raise Misuse(f"{name} goes to every node of a cluster: submit it by itself, not as a part of others")
    shown = name if first in CONTAINERS else first
    raise Misuse(f"{shown} is about one node: submit it to each of cluster.masters()")


CONTAINERS: Final = frozenset(
    {"ACL", "CLIENT", "CONFIG", "FUNCTION", "LATENCY", "MODULE", "PUBSUB", "SCRIPT", "SLOWLOG"}
)
