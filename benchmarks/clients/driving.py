"""Drives an HTTP client as hard as it goes: 32 tasks or threads, one request each at a time.

The figure is the CPU time of the whole process per request, in microseconds; every answer is looked at.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable

__all__ = ["ANSWER", "AT_ONCE", "check", "drive_tasks", "drive_threads", "new_loop"]

AT_ONCE = 32
ANSWER = b"Hello World!"
WARM_UP_SECONDS = 0.3


def check(status: int, body: bytes) -> None:
    """What the backend says, and nothing else."""
    if status != 200 or body != ANSWER:
        raise AssertionError(f"status {status}, body {body!r}")


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """`asyncio` or `uvloop`."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


async def drive_tasks(
    ask: Callable[[], Awaitable[None]], seconds: float, count_max: float = math.inf
) -> float:
    """Microseconds of CPU per call of `ask`; each task ends after its share of `count_max` calls as well."""
    count = 0

    async def work(ending: float) -> None:
        nonlocal count
        left = count_max / AT_ONCE
        while left > 0 and time.perf_counter() < ending:
            await ask()
            count += 1
            left -= 1

    async def run(seconds: float) -> None:
        ending = time.perf_counter() + seconds
        await asyncio.gather(*(work(ending) for _ in range(AT_ONCE)))

    if math.isinf(count_max):  # a count is of every call
        await run(WARM_UP_SECONDS)
    count, before = 0, time.process_time()
    await run(seconds)
    return (time.process_time() - before) / count * 1e6


def drive_threads(
    make: Callable[[], Callable[[], None]], seconds: float, count_max: float = math.inf
) -> float:
    """As `drive_tasks`; each thread makes an `ask` of its own."""
    counts = [0] * AT_ONCE
    warm, begin = threading.Barrier(AT_ONCE + 1), threading.Barrier(AT_ONCE + 1)
    ending = 0.0

    def work(number: int) -> None:
        ask = make()
        ask()
        warm.wait()
        begin.wait()
        while counts[number] < count_max / AT_ONCE and time.perf_counter() < ending:
            ask()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    warm.wait()
    ending = time.perf_counter() + seconds
    before = time.process_time()
    begin.wait()
    for thread in threads:
        thread.join()
    return (time.process_time() - before) / sum(counts) * 1e6
