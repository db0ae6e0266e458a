"""The parent: forks the workers, starts again those that die, and passes on what it is told by signals.

One turn: start what is due, wait, see to signals, to the dead, and to those that are late. Forks happen
between the ticks of the parent's own loop, so a child never runs inside somebody's handler.

| signal | what happens |
|---|---|
| SIGTERM, SIGINT | the listening sockets are closed, all workers drain; the second time they stop at once |
| SIGHUP | the workers are replaced, one by one |
| SIGUSR1 | the statistics of all workers are added up and logged |

A worker says something once per second (`worker.TELL_SECONDS`); what its silence means is in `slots`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

import msgspec

from actors.backoff import Backoff
from actors.errors import ActorError, Misuse
from actors.loop import DRAIN_SECONDS, Loop
from actors.net.addresses import Address
from actors.options import check_counts, check_seconds
from actors.outcomes import NEVER
from actors.signals import noticed_at_once

from .inheritance import WorkerKernel, bind, close
from .pipe import Drain, Failed, Halt, Pipe, Ready, Report, Tell
from .slots import Limits, Process, Slot, WorkerState, explain
from .totals import add_up, done, flat
from .worker import FAILED, TELL_SECONDS, Main, run_worker

__all__ = ["Parent", "WorkerStatistics", "WorkersGaveUp", "WorkersStatistics", "serve"]

WORKERS_MAX: Final = 1024
BACKOFF: Final = Backoff(0.1, 5.0)  # as `Supervisor`
START_SECONDS: Final = 60.0
HARMLESS_THREADS: Final = frozenset({"windlass-resolver"})  # each process starts its own when it needs them
KILL_SECONDS: Final = 2.0  # what a worker may take longer than its drain before it is killed
PATIENCE: Final = 1.0  # seconds that a worker that is replaced waits for its idle connections' last request
SILENCE: Final = 10.0  # seconds; gunicorn kills after 30, uWSGI's harakiri is off; here nothing is lost by it
LATE: Final = 3.0  # seconds between two turns of the parent: then it was itself stopped, and knows nothing
TELL_SECONDS_MAX: Final = 1.0  # to wait for the snapshots of workers that are busy
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


class WorkersGaveUp(ActorError):
    """A worker died again and again; the text says of what. All workers have been stopped. Mend that, or
    allow more restarts."""


class WorkerStatistics(msgspec.Struct, frozen=True):
    """A snapshot of one living worker; `seconds` is its age, `statistics` what it has told last."""

    number: int
    pid: int
    state: WorkerState
    seconds: float
    statistics: dict[str, Any]


class WorkersStatistics(msgspec.Struct, frozen=True):
    """A snapshot of all workers. `total` adds up their statistics, those of workers that have ended
    included."""

    started: int
    died: int  # before they were told to end
    replaced: int
    cut_off: int  # that did not finish their work when they drained
    total: dict[str, Any]
    workers: list[WorkerStatistics]


class Parent:
    """What `serve` runs. `statistics` may be asked at any time, `stop` and `replace` between two turns."""

    def __init__(
        self, main: Main, slots: list[Slot], limits: Limits, *, drain: float, start: float, loop: Loop
    ) -> None:
        self._main = main
        self._slots = slots
        self._limits = limits
        self._drain_seconds = drain
        self._start_seconds = start
        self._loop = loop
        self._signals: deque[int] = deque()
        self._to_replace: deque[Slot] = deque()
        self._stopping = self._halting = False
        self._unanswered: set[int] | None = None  # pids that were asked for a snapshot; None: nobody asked
        self._tell_due = NEVER
        self._looked = NEVER  # when the parent was last awake (monotonic seconds)
        self._gone: dict[str, Any] = {}  # what workers that have ended have done
        self._started = self._died = self._replaced = self._cut_off = self._told = 0
        self.failure: str | None = None

    def __repr__(self) -> str:
        state = "stopping" if self._stopping else "replacing" if self._to_replace else "serving"
        return f"<Parent {state}, {len(self._slots)} slots, {len(self._processes())} processes>"

    def run(self) -> None:
        """Serve until told to stop, or until a worker has died too often (`failure` says so)."""
        loop = self._loop
        with noticed_at_once(loop), self._signals_taken():
            try:
                while True:
                    self._start_due()  # it may give up
                    if self._stopping and not self._processes():
                        break
                    loop.tick(self._wait())
                    self._see_to_signals()
                    self._see_to_the_dead()
                    self._see_to_the_late()
                    self._see_to_the_silent()
            finally:
                for process in self._processes():  # nobody, unless something here has failed
                    os.kill(process.pid, signal.SIGKILL)
                    os.waitpid(process.pid, 0)
                self._close_sockets()

    def _processes(self) -> list[Process]:
        return [process for slot in self._slots for process in slot.processes()]

    def _wait(self) -> float | None:
        dues = [slot.due for slot in self._slots] if not self._stopping else []
        dues += [process.due for process in self._processes()]
        due = min([*dues, self._tell_due])
        longest = NEVER if self._limits.silence == NEVER else TELL_SECONDS
        wait = min(longest, due - self._loop.time())
        return None if wait == NEVER else max(0.0, wait)

    # -- starting --------------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        if self._stopping:
            return
        now = self._loop.time()
        for slot in self._slots:
            if slot.due <= now:
                slot.due = NEVER
                try:
                    slot.current = self._fork(slot)
                except OSError as error:
                    self._restart(slot, f"cannot start a process: {error.strerror}")
        while self._to_replace:
            slot = self._to_replace[0]
            if slot.successor is not None or slot.leaving is not None:
                return  # one at a time
            if slot.current is not None:
                try:
                    slot.successor = self._fork(slot)
                except OSError as error:
                    self._replacement_failed(slot, f"cannot start a process: {error.strerror}")
                return
            self._to_replace.popleft()  # it will be started anew anyhow

    def _fork(self, slot: Slot) -> Process:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child has its own handlers
        try:
            pid = os.fork()
            if not pid:
                self._become_worker(slot, ours, theirs, before)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        now = self._loop.time()
        process = Process(slot, pid, now, now + self._start_seconds)
        process.pipe = self._loop.spawn(
            Pipe(ours, Report, partial(self._told_by, process), lambda: None)  # its end is seen by its exit
        )
        self._started += 1
        return process

    def _become_worker(
        self, slot: Slot, ours: socket.socket, theirs: socket.socket, mask: Iterable[int]
    ) -> NoReturn:
        """In the child: let go of all that is the parent's, and run."""
        status = FAILED
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the worker's loop takes it
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, _ignore)  # a terminal sends them to all; the parent decides
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for process in self._processes():
                assert process.pipe is not None
                process.pipe.close()
            ours.close()
            for other in self._slots:
                if other is not slot:
                    close(other.sockets)
            kernel = WorkerKernel(slot.sockets)
            status = run_worker(self._main, kernel, theirs, slot.number, self._drain_seconds)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # -- what workers say ------------------------------------------------------------------------------------

    def _told_by(self, process: Process, report: Report) -> None:
        process.hears(self._loop.now)
        if isinstance(report, Ready):
            self._ready(process)
        elif isinstance(report, Failed):
            process.reason = process.reason or report.reason
        else:
            process.snapshot = report.statistics
            if report.asked and self._unanswered is not None:
                self._unanswered.discard(process.pid)

    def _ready(self, process: Process) -> None:
        slot = process.slot
        if process.state == "starting":
            process.state = "ready"
            process.due = NEVER
        self._say("info", "worker ready", process)
        if process is slot.successor:
            slot.promote()
            self._replaced += 1
            if self._to_replace and self._to_replace[0] is slot:
                self._to_replace.popleft()
            if slot.leaving is not None and not self._stopping:
                self._drain(slot.leaving, PATIENCE)

    def _drain(self, process: Process, patience: float = 0.0) -> None:
        process.state = "draining"
        process.due = self._loop.time() + self._drain_seconds + KILL_SECONDS
        assert process.pipe is not None
        process.pipe.send(Drain(self._drain_seconds, patience))

    def _say(self, level: str, event: str, process: Process, **fields: Any) -> None:
        """A line about one worker."""
        say = getattr(self._loop.log, level)
        say(event, cause=f"{event} {process.pid}", worker=process.slot.number, pid=process.pid, **fields)

    # -- signals ---------------------------------------------------------------------------------------------

    @contextmanager
    def _signals_taken(self) -> Iterator[None]:
        def arrived(number: int, frame: object) -> None:
            self._signals.append(number)
            self._loop.notifier.wake(0)

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, arrived)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _see_to_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            elif number == signal.SIGHUP:
                self.replace()
            elif number == signal.SIGUSR1:
                self._ask()

    def stop(self) -> None:
        """Have all workers drain; the second time, have them stop at once."""
        processes = self._processes()
        if not self._stopping:
            self._stopping = True
            self._to_replace.clear()
            self._loop.log.info("stopping", workers=len(processes), seconds=self._drain_seconds)
            self._close_sockets()
            for process in processes:
                self._drain(process)
        elif not self._halting:
            self._halting = True
            self._loop.log.warning("stopping at once", workers=len(processes))
            for process in processes:
                assert process.pipe is not None
                process.pipe.send(Halt())
                process.due = self._loop.time() + KILL_SECONDS

    def _close_sockets(self) -> None:
        """The last ones to hold them: from here on connections are refused, not left waiting."""
        for slot in self._slots:
            for address in slot.sockets:
                self._loop.kernel.unlisten(address)
            close(slot.sockets)
            slot.sockets = {}

    def replace(self) -> None:
        """Replace every worker by a new one."""
        if self._stopping:
            return
        self._loop.log.info("replacing the workers", workers=len(self._slots))
        self._to_replace.extend(slot for slot in self._slots if slot not in self._to_replace)

    def _ask(self) -> None:
        """Ask all workers for a snapshot; when they have answered, the sum is logged."""
        self._unanswered = set()
        self._tell_due = self._loop.time() + TELL_SECONDS_MAX
        for process in self._processes():
            assert process.pipe is not None
            self._unanswered.add(process.pid)
            process.pipe.send(Tell())

    # -- who has died, and who is late -----------------------------------------------------------------------

    def _see_to_the_dead(self) -> None:
        for process in self._processes():
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                process.status = status
                self._read_last_words(process)
                self._ended(process)
        if self._unanswered is not None:
            self._unanswered &= {process.pid for process in self._processes()}
            if not self._unanswered or self._tell_due <= self._loop.time():
                self._tell()

    def _read_last_words(self, process: Process) -> None:
        pipe = process.pipe
        assert pipe is not None
        pipe.read_rest()
        pipe.close()

    def _ended(self, process: Process) -> None:
        slot, why = process.slot, explain(process)
        self._gone = add_up([self._gone, done(process.snapshot)])
        was_current, was_successor = process is slot.current, process is slot.successor
        slot.forget(process)
        if process.state == "draining":
            self._cut_off += bool(process.status)
            if process.status:
                self._say("warning", "worker ended before its work was done", process, reason=why)
            else:
                self._say("info", "worker ended", process)
            return
        self._died += 1
        if was_successor:
            self._replacement_failed(slot, why, pid=process.pid)
        elif was_current and not self._stopping:
            self._restart(slot, why, pid=process.pid)

    def _replacement_failed(self, slot: Slot, why: str, **who: Any) -> None:
        self._to_replace.clear()
        self._loop.log.error(
            "replacement failed; the old worker continues", worker=slot.number, reason=why, **who
        )

    def _restart(self, slot: Slot, why: str, **who: Any) -> None:
        now = self._loop.time()
        delay = slot.delay(now, self._limits, self._loop.kernel.random())
        if delay is None:
            window, most = self._limits.window, self._limits.restarts_max
            self.failure = (
                f"worker {slot.number} has ended again ({why}) after {most} restarts within {window:g} s"
            )
            self._loop.log.error("gave up", reason=self.failure)
            self.stop()
            return
        self._loop.log.warning(
            "worker died",
            cause=f"worker died {who}",
            worker=slot.number,
            reason=why,
            restart_in=round(delay, 3),
            **who,
        )
        if slot.successor is not None:
            slot.promote()  # it is on its way, and this slot has nobody else
            if slot in self._to_replace:
                self._to_replace.remove(slot)
        else:
            slot.due = now + delay

    def _see_to_the_late(self) -> None:
        now = self._loop.time()
        for process in self._processes():
            if process.due <= now:
                process.due = NEVER
                if process.state == "starting":
                    process.reason = f"`main` has not returned within {self._start_seconds:g} s"
                self._say("warning", "worker killed: it is late", process, state=process.state)
                os.kill(process.pid, signal.SIGKILL)

    def _see_to_the_silent(self) -> None:
        now, silence = self._loop.now, self._limits.silence
        if now - self._looked > LATE:
            for each in self._processes():
                each.heard = now  # it may have spoken while nobody listened
        self._looked = now
        for slot in self._slots if not self._stopping else ():
            process = slot.current
            if process is None:
                continue
            verdict = process.verdict(now, silence)
            if verdict == "fine" or (verdict == "replace" and slot.leaving is not None):
                continue
            why = f"it has said nothing for {now - process.heard:.0f} s"
            if verdict == "replace":
                process.suspected = True
                process.reason = why
                self._say("warning", "worker silent; it gets a successor", process, reason=why)
                self._succeed(slot)
            else:
                process.reason = why
                self._say("warning", "worker killed: it is silent", process, reason=why)
                os.kill(process.pid, signal.SIGKILL)

    def _succeed(self, slot: Slot) -> None:
        if slot.successor is None:
            try:
                slot.successor = self._fork(slot)
            except OSError as error:
                self._replacement_failed(slot, f"cannot start a process: {error.strerror}")

    # -- looking at it ---------------------------------------------------------------------------------------

    def _tell(self) -> None:
        self._unanswered, self._tell_due = None, NEVER
        self._told += 1
        told = self.statistics()
        self._loop.log.info(
            "statistics",
            cause=f"statistics {self._told}",
            workers=len(told.workers),
            started=told.started,
            died=told.died,
            replaced=told.replaced,
            cut_off=told.cut_off,
            **flat(told.total),
        )

    def statistics(self) -> WorkersStatistics:
        """What all workers have done so far, as far as they have told (they do once per second)."""
        processes = self._processes()
        now = self._loop.time()
        return WorkersStatistics(
            started=self._started,
            died=self._died,
            replaced=self._replaced,
            cut_off=self._cut_off,
            total=add_up([self._gone, *(process.snapshot for process in processes)]),
            workers=[
                WorkerStatistics(
                    number=process.slot.number,
                    pid=process.pid,
                    state=process.state,
                    seconds=now - process.started,
                    statistics=process.snapshot,
                )
                for process in processes
            ],
        )


def cores() -> int:
    """How many this process may use, as far as the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_threads() -> None:
    """Raise `Misuse` if a fork would leave threads behind that anybody needs."""
    others = [thread for thread in threading.enumerate() if thread.name not in HARMLESS_THREADS]
    if others != [threading.main_thread()] or threading.current_thread() is not threading.main_thread():
        names = ", ".join(thread.name for thread in others)
        raise Misuse(
            "serve() forks, and a fork copies only the thread that calls it; other threads are running: "
            f"{names}. Call it "
            "in the main thread, and start threads in main(loop), which runs in each worker"
        )


def _ignore(number: int, frame: object) -> None:
    """Instead of SIG_IGN, which programs that are started would inherit."""


def serve(
    main: Main,
    *,
    workers: int | None = None,
    listen: Iterable[Address | str] = (),
    drain: float = DRAIN_SECONDS,
    start: float = START_SECONDS,
    restarts_max: int = 5,
    window: float = 30.0,
    backoff: Backoff = BACKOFF,
    silence: float | None = SILENCE,
) -> WorkersStatistics:
    """Run `main(loop)` in `workers` processes (None: one per core), each with a loop of its own, until
    SIGTERM or SIGINT; then return what they have done.

    `listen` names the addresses that `main` spawns listeners on. `main` may return a mapping of names to
    objects with `statistics()`, which are then counted for all workers together. SIGTERM grants `drain`
    seconds to what is under way; a worker must be ready within `start` seconds; one that dies is started
    again, at most `restarts_max` times within `window` seconds. One that says nothing for `silence` seconds,
    because it is stopped or computes without end, gets a successor, and `drain` seconds to come to its end
    before it is killed (None: it is waited for).

    Raises `OSError`, before anything is forked, if an address is taken; `Misuse` if the process has other
    threads or this is not the main one; `WorkersGaveUp` if a worker dies too often.
    """
    count = cores() if workers is None else workers
    check_counts(most=WORKERS_MAX, workers=count)
    check_seconds(zero=True, drain=drain)
    check_seconds(start=start)
    limits = Limits(restarts_max, window, backoff, NEVER if silence is None else silence)
    _check_threads()
    bound = bind(listen, count)
    slots = [Slot(number, sockets) for number, sockets in enumerate(bound, 1)]
    with Loop() as loop:
        loop.log.bind(pid=os.getpid())
        parent = Parent(main, slots, limits, drain=drain, start=start, loop=loop)
        parent.run()
        if parent.failure is not None:
            raise WorkersGaveUp(parent.failure)
        return parent.statistics()
