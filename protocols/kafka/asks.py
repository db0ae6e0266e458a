"""Questions under way, and what is to be done with each answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import Reply, Scope

__all__ = ["Asks"]


class Asks:
    """A machine's open questions. Their replies wake it; `collect` then hands out the answers."""

    __slots__ = ("_scope", "_under_way")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._under_way: list[tuple[Reply[Any], Callable[[Reply[Any]], object]]] = []

    def __len__(self) -> int:
        return len(self._under_way)

    def ask(self, reply: Reply[Any], answered: Callable[[Reply[Any]], object]) -> None:
        """Have `answered(reply)` called by `collect` when it has settled."""
        self._under_way.append((reply, answered))
        reply.attach(self._scope)

    def collect(self) -> None:
        """See to what has been answered."""
        settled = [entry for entry in self._under_way if entry[0].settled]
        if settled:
            self._under_way = [entry for entry in self._under_way if not entry[0].settled]
            for reply, answered in settled:
                answered(reply)
