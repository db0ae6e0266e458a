"""The guard: while a simulation runs, its thread reaches no real clock, socket, thread or entropy.

What is guarded is replaced for as long as a simulation runs, and only for its thread: others (a progress bar,
say) are let through. Not guarded: `datetime.now` (a type that cannot be patched), names that were imported
from their module before (`from time import time`), and OpenSSL's own entropy, so a simulation with TLS cannot
be repeated exactly.
"""

from __future__ import annotations

import gc
import os
import random
import secrets
import select
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from actors.kernel import SystemKernel

from .errors import RealityReached

__all__ = ["guard"]

GUARDED: Final[dict[Any, tuple[str, ...]]] = {
    time: (
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "sleep",
    ),
    random: (
        "random",
        "randrange",
        "randint",
        "choice",
        "choices",
        "shuffle",
        "sample",
        "uniform",
        "expovariate",
        "gauss",
        "getrandbits",
        "randbytes",
        "seed",
    ),
    os: ("urandom", "getrandom", "fork", "eventfd", "pipe"),
    secrets: ("token_bytes", "token_hex", "token_urlsafe", "randbits", "choice", "randbelow"),
    uuid: ("uuid1", "uuid4"),
    socket: ("socket", "create_connection", "create_server", "getaddrinfo", "gethostbyname", "socketpair"),
    select: ("select", "poll", "epoll"),
    subprocess: ("Popen",),
    threading.Thread: ("start",),
    SystemKernel: ("monotonic", "wall_clock", "poller", "listen", "connect", "resolve"),
}
INSTEAD: Final = "take it from the loop's kernel (scope.kernel), or from the world (world.random, world.now)"


@contextmanager
def guard() -> Iterator[None]:
    """Raise `RealityReached` in this thread for as long as the block runs. The cyclic garbage collector,
    whose moments are not the program's, rests meanwhile."""
    owner = threading.get_ident()
    before: list[tuple[Any, str, Any]] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for place, names in GUARDED.items():
            for name in names:
                if name in vars(place):
                    before.append((place, name, vars(place)[name]))
                    setattr(place, name, _guarded(place, name, getattr(place, name), owner))
        yield
    finally:
        for place, name, real in reversed(before):
            setattr(place, name, real)
        if collecting:
            gc.enable()


def _guarded(place: Any, name: str, real: Any, owner: int) -> Any:
    text = f"{place.__name__}.{name} was called in a simulation; {INSTEAD}"
    here: Callable[[], int] = threading.get_ident
    if isinstance(real, type):
        return _guarded_type(real, text, owner)

    def guarded(*arguments: Any, **options: Any) -> Any:
        if here() == owner:
            raise RealityReached(text)
        return real(*arguments, **options)

    return staticmethod(guarded) if place is SystemKernel and name in ("monotonic", "wall_clock") else guarded


def _guarded_type(real: Any, text: str, owner: int) -> Any:
    """A subclass, so that `isinstance` goes on working."""

    def make(kind: Any, *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() == owner:
            raise RealityReached(text)
        return real(*arguments, **options)

    try:
        return type(real.__name__, (real,), {"__new__": make})
    except TypeError:  # `select.epoll` cannot be derived from

        def guarded(*arguments: Any, **options: Any) -> Any:
            return make(None, *arguments, **options)

        return guarded
