"""How a program opens a loop that something else drives. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.kernel import Kernel

    from .asyncio_host import AsyncioLoop
    from .thread_host import ThreadLoop
    from .trio_host import TrioLoop

__all__ = ["Hosting"]


class Hosting:
    """What `Loop` has of it: `Loop.in_asyncio()`, `in_trio()`, `in_anyio()`, `in_thread()`."""

    @staticmethod
    def in_thread(*, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> ThreadLoop:
        """A loop in a thread of its own, for ordinary threads: `with Loop.in_thread() as loop:`.

        Leaving the block drains for at most `drain` seconds.
        """
        from .thread_host import ThreadLoop

        return ThreadLoop(drain=drain, kernel=kernel, slots=slots)

    @staticmethod
    def in_trio(*, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> TrioLoop:
        """A loop for a trio program, on its thread: `async with Loop.in_trio() as loop:`. Needs `trio`.

        Leaving the block drains for at most `drain` seconds.
        """
        from .trio_host import TrioLoop

        return TrioLoop(drain=drain, kernel=kernel, slots=slots)

    @staticmethod
    def in_anyio(
        *, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20
    ) -> AsyncioLoop | TrioLoop:
        """`in_trio()` inside a trio program, else `in_asyncio()`: for code that runs in both, as anyio's
        does."""
        from . import in_trio_run

        make = Hosting.in_trio if in_trio_run() else Hosting.in_asyncio
        return make(drain=drain, kernel=kernel, slots=slots)

    @staticmethod
    def in_asyncio(*, drain: float = 5.0, kernel: Kernel | None = None, slots: int = 1 << 20) -> AsyncioLoop:
        """A loop for an asyncio or uvloop program, on its thread: `async with Loop.in_asyncio() as loop:`.

        Leaving the block drains for at most `drain` seconds.
        """
        from .asyncio_host import AsyncioLoop

        return AsyncioLoop(drain=drain, kernel=kernel, slots=slots)
