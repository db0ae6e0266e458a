"""Serving on several cores: a process per worker, each with a loop of its own, and a parent that minds them.

    def main(loop: Loop) -> None:
        loop.spawn(http.server("127.0.0.1:8080", handler))

    workers.serve(main, workers=4, listen=["127.0.0.1:8080"])

Rules:
1. The parent binds every address once per worker (`SO_REUSEPORT`), before it forks, and keeps the sockets
   open. So a connection that waits to be accepted outlives the worker that would have accepted it: the next
   worker of that slot does.
2. The parent has no threads, runs no code of the program between forks, and opens nothing that the program
   uses. Loops, pollers, random numbers and connections are a worker's own, made after the fork.
3. Parent and worker talk over one socket. A worker whose parent has gone drains; a parent whose worker has
   gone starts another, within limits; then it gives up and says why.
4. A worker is replaced by starting the new one first. The old one drains when the new one accepts. One that
   says nothing any more is replaced in the same way, and killed when it has not drained in time.
"""

from __future__ import annotations

from .parent import SILENCE, WorkersGaveUp, WorkersStatistics, WorkerStatistics, serve
from .totals import add_up

__all__ = ["SILENCE", "WorkerStatistics", "WorkersGaveUp", "WorkersStatistics", "add_up", "serve"]
