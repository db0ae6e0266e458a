"""A loop that waits notices a signal at once, and shares the interpreter's descriptor with others."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from actors import UNCHANGED, Continue, Loop, Machine, Outcome, Scope, Stop, SystemKernel, Timeout
from actors.kernel import Poller
from tests.actors.embedding.hosts import descriptors

LONG = 60.0  # seconds: the loop has nothing to do before


class Idle(Machine["Idle"]):
    """Waits, and says whether a drain has ended it."""

    def __init__(self) -> None:
        self.drained = False

    def start(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + LONG)

    def draining(self, scope: Scope) -> Outcome:
        self.drained = True
        return Stop()

    def timeout(self, scope: Scope) -> Outcome:
        return Stop()

    def handle(self, scope: Scope) -> Idle:
        return self


class TellingPoller:
    """The real one, which says when the loop is about to wait."""

    def __init__(self, poller: Poller, waiting: threading.Event) -> None:
        self._poller = poller
        self._waiting = waiting
        self.register, self.modify, self.unregister = poller.register, poller.modify, poller.unregister
        self.fileno, self.close = poller.fileno, poller.close

    def poll(self, timeout: float = -1) -> list[tuple[int, int]]:
        if timeout:
            self._waiting.set()
        return self._poller.poll(timeout)


class TellingKernel(SystemKernel):
    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def poller(self) -> Poller:
        return TellingPoller(super().poller(), self.waiting)


@contextmanager
def signalled_in_another_thread(kernel: TellingKernel, number: int = signal.SIGTERM) -> Iterator[None]:
    """The system gives the signal to a thread that is not the main one, which waits or is about to."""

    def send() -> None:
        if kernel.waiting.wait(LONG):
            signal.pthread_kill(threading.get_ident(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def drained_by_a_signal() -> bool:
    kernel = TellingKernel()
    with Loop(kernel=kernel) as loop:
        idle = loop.spawn(Idle())
        with signalled_in_another_thread(kernel):
            loop.run()
        return idle.drained


def test_a_signal_that_interrupts_another_thread_ends_the_wait() -> None:
    before = descriptors()
    assert drained_by_a_signal()
    assert signal.set_wakeup_fd(-1) == -1
    assert descriptors() == before


def test_so_does_one_for_a_handler_of_the_programs_own() -> None:
    kernel = TellingKernel()
    with Loop(kernel=kernel) as loop:
        idle = loop.spawn(Idle())
        before = signal.signal(signal.SIGUSR2, lambda number, frame: loop.stop())
        try:
            with signalled_in_another_thread(kernel, signal.SIGUSR2):
                loop.run()
        finally:
            signal.signal(signal.SIGUSR2, before)
        assert (loop.machines, idle.drained) == (1, False)


def test_a_library_that_listens_goes_on_hearing() -> None:
    theirs, writer = socket.socketpair()
    with theirs, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        try:
            assert drained_by_a_signal()
            assert theirs.recv(10) == bytes([signal.SIGTERM])
        finally:
            assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_a_library_that_listens_meanwhile_keeps_its_descriptor() -> None:
    theirs, writer = socket.socketpair()
    with theirs, writer, Loop() as loop:
        writer.setblocking(False)
        with loop.taking_signals():
            signal.set_wakeup_fd(writer.fileno())
        assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_a_library_that_has_gone_without_a_word_harms_nobody() -> None:
    theirs, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    with Loop() as loop, loop.taking_signals():
        writer.close()
        theirs.close()
        signal.raise_signal(signal.SIGTERM)
        loop.tick(0)
        assert loop.draining
    assert signal.set_wakeup_fd(-1) == -1


def test_there_is_one_however_often_it_is_asked_for() -> None:
    with Loop() as loop, loop.taking_signals():
        ours = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(ours)
        with loop.taking_signals():
            loop.run()  # there is nothing to run
        assert signal.set_wakeup_fd(ours) == ours >= 0
        signal.raise_signal(signal.SIGTERM)
        loop.tick(0)
        assert loop.draining
    assert signal.set_wakeup_fd(-1) == -1


def test_a_forked_child_lets_go_of_it() -> None:
    with Loop() as loop, loop.taking_signals():
        child = os.fork()
        if not child:
            os._exit(signal.set_wakeup_fd(-1) + 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ours = signal.set_wakeup_fd(-1)
        assert ours >= 0
        signal.set_wakeup_fd(ours)


def test_signals_in_the_middle_of_ticks_are_all_handled() -> None:
    class Sends(Machine[int]):
        """Sends itself a signal at every turn, in a handler."""

        left = 200

        def start(self, scope: Scope) -> Outcome:
            scope.wake()
            return Continue(self)

        def wakeup(self, scope: Scope) -> Outcome:
            self.left -= 1
            signal.raise_signal(signal.SIGUSR2)
            if not self.left:
                return Stop()
            scope.wake()
            return UNCHANGED

    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with Loop() as loop:
            loop.spawn(Sends())
            loop.run()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(seen) == 200
