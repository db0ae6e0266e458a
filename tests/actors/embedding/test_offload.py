"""Blocking calls on threads: bounded, cancelled before they begin, told when the loop ends."""

from __future__ import annotations

import contextvars
import threading

import pytest

from actors import Cancelled, Loop, MachineStopped, MailboxFull, Misuse, Offloader, Reply, gather, offload
from actors.testing import run_until


@pytest.fixture
def loop():
    with Loop() as loop:
        yield loop


def settle(loop, *replies):
    run_until(loop, lambda: all(reply.settled for reply in replies))


def test_a_flow_awaits_blocking_calls(loop):
    async def flow():
        one, two = await gather(offload(int, "7"), offload(dict, a=1))
        with pytest.raises(ValueError, match="invalid literal"):
            await offload(int, "x")
        return one, two, await offload(threading.get_ident)

    one, two, thread = loop.run_until(loop.spawn(flow()))
    assert (one, two) == (7, {"a": 1})
    assert thread != threading.get_ident()


def test_at_most_so_many_run_and_so_many_wait(loop):
    offloader = loop.spawn(Offloader(threads=2, waiting=1))
    gate, running = threading.Event(), threading.Semaphore(0)

    def block():
        running.release()
        gate.wait(10)
        return threading.current_thread().name

    replies = [offloader.submit(block) for _ in range(4)]
    settle(loop, replies[3])
    assert isinstance(replies[3].error, MailboxFull)
    running.acquire()
    running.acquire()
    assert not running.acquire(blocking=False)
    assert repr(offloader) == "<Offloader 3 calls pending, 2/2 threads>"
    gate.set()
    settle(loop, *replies)
    assert {reply.result() for reply in replies[:3]} == {"windlass-offload"}
    idle = offloader.submit(int)
    settle(loop, idle)
    assert "2/2 threads" in repr(offloader)


def test_threads_are_used_again_before_new_ones_are_started(loop):
    for _ in range(5):
        settle(loop, offload(int))
    assert "1/8 threads" in repr(loop.offloader)


def test_cancelled_before_it_begins_it_is_not_called(loop):
    offloader = loop.spawn(Offloader(threads=1))
    gate, called = threading.Event(), []
    first = offloader.submit(gate.wait, 10)
    waiting = offloader.submit(called.append, 1)
    assert waiting.cancel()
    gate.set()
    last = offloader.submit(called.append, 2)
    settle(loop, first, last)
    assert called == [2]
    assert isinstance(waiting.error, Cancelled)


def test_a_call_that_is_cancelled_while_it_runs_ends_unheard(loop):
    entered, leave = threading.Event(), threading.Event()

    def block():
        entered.set()
        leave.wait(10)
        return 1

    reply = offload(block)
    entered.wait(10)
    reply.cancel()
    leave.set()
    settle(loop, offload(int))
    assert isinstance(reply.error, Cancelled)


def test_the_callers_context_is_seen(loop):
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("caller's")
    reply = offload(variable.get)
    variable.set("later")
    settle(loop, reply)
    assert reply.result() == "caller's"


def test_a_drain_waits_for_calls(loop):
    gate = threading.Event()
    reply = offload(gate.wait, 10)
    loop.drain(10)
    loop.tick(0)
    assert not reply.settled
    gate.set()
    loop.run(signals=False)
    assert reply.result() is True


def test_at_the_loops_end_what_is_pending_is_told():
    gate = threading.Event()
    with Loop() as loop:
        offloader = loop.spawn(Offloader(threads=1))
        replies = [offloader.submit(gate.wait, 10), offloader.submit(int)]
    late = offloader.submit(int)
    for reply in (*replies, late):
        assert isinstance(reply.error, MachineStopped)
    gate.set()


def test_misuse_is_told():
    with pytest.raises(ValueError, match="threads=0"):
        Offloader(threads=0)
    assert isinstance(Offloader().submit(int).error, MachineStopped)
    said: list[BaseException] = []

    def outside():
        try:
            offload(int)
        except Misuse as error:
            said.append(error)

    thread = threading.Thread(target=outside)
    thread.start()
    thread.join()
    assert "no loop in this thread" in str(said[0])
    assert not Reply().settled


def test_with_nothing_pending_a_drain_ends_it_at_once(loop):
    settle(loop, offload(int))
    offloader = loop.offloader
    loop.drain(3600)
    loop.tick(0)
    assert isinstance(offloader.submit(int).error, MachineStopped)


def test_after_its_last_call_a_drain_ends_it(loop):
    gate = threading.Event()
    reply, offloader = offload(gate.wait, 10), loop.offloader
    loop.drain(3600)
    loop.tick(0)
    gate.set()
    settle(loop, reply)
    assert reply.result() is True
    assert isinstance(offloader.submit(int).error, MachineStopped)
