"""Running beside other loops and threads: what `Loop.in_asyncio()`, `Loop.in_thread()` and `offload` use."""

__all__ = ["asyncio_host", "hosted", "offload", "thread_host"]
