"""Running beside other loops and threads: what `Loop.in_asyncio()`, `in_trio()`, `in_thread()` and `offload`
stand on."""

import sys

__all__ = ["asyncio_host", "hosted", "in_trio_run", "offload", "thread_host", "trio_host"]


def in_trio_run() -> bool:
    """Whether the calling code runs in a trio program (trio is asked only if the program has imported it)."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())
