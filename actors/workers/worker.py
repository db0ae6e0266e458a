"""The worker: what runs in the child after the fork."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from actors.loop import Loop
from actors.outcomes import Outcome, Timeout
from actors.scope import Scope
from actors.telling import told

from .inheritance import WorkerKernel
from .pipe import Drain, Failed, Halt, Order, Pipe, Ready, Snapshot

__all__ = ["CUT_OFF", "FAILED", "Main", "run_worker"]

Main = Callable[[Loop], object]

CUT_OFF: Final = 1  # exit status: the drain's deadline came before the last answer
FAILED: Final = 70  # exit status: `main` or the loop has raised (EX_SOFTWARE)
TELL_SECONDS: Final = 1.0  # between snapshots
FINISH_SECONDS_MAX: Final = 1.0  # for the parent to take the last one


class Control(Pipe):
    """The worker's end of the pipe: it follows orders and sends snapshots."""

    __slots__ = ("_drain_seconds", "_loop", "_release", "_sources", "cut_off")

    def __init__(
        self, sock: socket.socket, loop: Loop, release: Callable[[], None], drain_seconds: float
    ) -> None:
        super().__init__(sock, Order, self._order, self._orphaned)
        self._loop = loop
        self._release = release
        self._drain_seconds = drain_seconds
        self._sources: Mapping[str, Any] = {}
        self.cut_off = False

    def report_on(self, sources: object) -> None:
        """`main` has returned this."""
        if isinstance(sources, Mapping):
            self._sources = sources
        self.send(Ready())

    def start(self, scope: Scope) -> Outcome:
        """Listen to the parent."""
        super().start(scope)
        return Timeout(self, scope.now + TELL_SECONDS)

    def timeout(self, scope: Scope) -> Outcome:
        """Tell the parent how things are. A worker with nothing left to do ends."""
        self.send(self.snapshot())
        if self._loop.machines == 1:
            self._loop.log.warning("nothing is left to run")
            self._loop.stop()
        return Timeout(self, scope.now + TELL_SECONDS)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        """The loop has drained; with an error, not in time."""
        self.cut_off = error is not None

    def _order(self, order: Order) -> None:
        if isinstance(order, Drain):
            self._release()
            self._loop.drain(order.seconds, patience=order.patience)
        elif isinstance(order, Halt):
            self._loop.stop()
        else:
            self.send(self.snapshot(asked=True))

    def _orphaned(self) -> None:
        self._loop.log.warning("the parent has gone; draining")
        self._release()
        self._loop.drain(self._drain_seconds)

    def snapshot(self, *, asked: bool = False) -> Snapshot:
        """What the worker has done so far."""
        found: dict[str, Any] = {"loop": msgspec.to_builtins(self._loop.statistics())}
        for name, source in self._sources.items():
            try:
                values = source.statistics() if hasattr(source, "statistics") else source()
                found[str(name)] = msgspec.to_builtins(values)
            except Exception as error:
                self._loop.log.error(
                    "statistics failed", cause=f"statistics {name}", of=name, error=told(error)
                )
        return Snapshot(found, asked)


def run_worker(
    main: Main, kernel: WorkerKernel, sock: socket.socket, number: int, drain_seconds: float
) -> int:
    """Run one worker to its end; returns its exit status. The loop, and so its poller, is made here."""
    with Loop(kernel=kernel) as loop:
        loop.log.bind(worker=number, pid=os.getpid())
        control = Control(sock, loop, kernel.release, drain_seconds)
        loop.spawn(control)
        last: Failed | Snapshot
        try:
            control.report_on(main(loop))
            loop.run(drain=drain_seconds)
        except BaseException as error:  # SystemExit, too: the parent must be told
            loop.log.error("worker failed", error=told(error), exc_info=error)
            last, status = Failed(told(error)), FAILED
        else:
            last, status = control.snapshot(), CUT_OFF if control.cut_off else 0
        control.finish(last, FINISH_SECONDS_MAX)
        return status
