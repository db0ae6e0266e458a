"""Heads that came before, by their bytes: clients poll and backends repeat themselves, byte for byte.

Rules:
1. A memo keeps what its owner has made of a head beside the head. The head itself is frozen: two owners of
   the same head never see each other's notes.
2. It is bounded in number and forgets everything when it is full, which costs less than to know the oldest.
3. The one that came last is compared in place: `data.startswith(memo.last, start)` copies no bytes, and
   `memo.last is head` calls nothing.
4. A head that carries a secret is not kept (`is_plain_request`, `is_plain_response`). Otherwise the time of
   an answer would tell whether a guess of the secret was right.
"""

import re
from typing import Generic, TypeVar

__all__ = ["HEADS_KEPT", "HEAD_KEPT_BYTES", "Memo", "is_plain_request", "is_plain_response"]

K = TypeVar("K")
V = TypeVar("V")

HEADS_KEPT = 512
"""How many heads one memo keeps."""
HEAD_KEPT_BYTES = 1024
"""How large a head may be that is kept."""

_secret_of_request = re.compile(
    rb"(?i)\n(?:cookie|(?:proxy-)?authorization|[^:\n]*(?:key|token|secret|auth)[^:\n]*):"
).search
_secret_of_response = re.compile(rb"(?i)\nset-cookie:").search


class Memo(Generic[K, V]):
    """At most `HEADS_KEPT` values, each by its key: the bytes of a head, or a head, which is only itself."""

    __slots__ = ("_by_key", "last", "last_value")

    last_value: V  # of `last`; there is none before the first

    def __init__(self) -> None:
        self._by_key: dict[K, V] = {}
        self.last: K | tuple[()] = ()  # the newest key; no bytes start with () and none are equal to it

    def __repr__(self) -> str:
        return f"<Memo of {len(self._by_key)}>"

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: K) -> V | None:
        """What was kept by this key, which is the last one from now on; None if nothing was."""
        value = self._by_key.get(key)
        if value is not None:
            self.last, self.last_value = key, value
        return value

    def keep(self, key: K, value: V) -> None:
        """Keep the value; the key is the last one from now on."""
        if len(self._by_key) >= HEADS_KEPT:
            self._by_key.clear()
        self._by_key[key] = value
        self.last, self.last_value = key, value


def is_plain_request(data: bytes) -> bool:
    """Whether a request's head, from its first byte to its last, is small and carries no credentials."""
    return len(data) <= HEAD_KEPT_BYTES and _secret_of_request(data) is None


def is_plain_response(data: bytes) -> bool:
    """Whether a response's head, from its first byte to its last, is small and sets no cookie."""
    return len(data) <= HEAD_KEPT_BYTES and _secret_of_response(data) is None
