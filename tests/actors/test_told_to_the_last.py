"""Who is to be told of an end is told, though Ctrl-C hits a callback before: outside of every tick, where
nobody else would go on with it."""

from __future__ import annotations

import socket
import threading

import pytest

from actors import Channel, Loop, Reply, ResolveError, TcpAddress, sleep
from actors.net.resolver import ThreadedResolver
from actors.testing import ManualKernel
from pools.testing import Bench

INTERRUPTS = [KeyboardInterrupt, SystemExit]


@pytest.fixture
def loop():
    with Loop(kernel=ManualKernel()) as loop:
        yield loop


def raising(interrupt):
    def interrupted(*_):
        raise interrupt

    return interrupted


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("settle", [lambda reply: reply.settle(1), lambda reply: reply.cancel()])
def test_every_callback_of_a_reply_is_called(interrupt, settle):
    reply, heard = Reply(), []
    reply.when_settled(raising(interrupt))
    reply.when_settled(heard.append)
    with pytest.raises(interrupt):
        settle(reply)
    assert heard == [reply]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_every_hook_of_a_cancelled_reply_is_called(interrupt):
    reply, heard = Reply(), []
    reply.on_cancel(raising(interrupt))
    reply.on_cancel(lambda: heard.append("second"))
    with pytest.raises(interrupt):
        reply.cancel()
    assert heard == ["second"]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_a_pool_that_is_closed_settles_all_and_closes_its_connections(interrupt):
    bench = Bench(connections=1)
    replies = [bench.submit("unit", timeout=30) for _ in range(3)]
    bench.accept()
    heard = []
    for reply in replies:
        reply.when_settled(raising(interrupt))
        reply.when_settled(heard.append)
    with pytest.raises(interrupt):
        bench.loop.close()
    assert sorted(map(id, heard)) == sorted(map(id, replies))
    assert all(sock.closed for sock in bench.sockets)
    assert bench.add_up()


def test_receivers_that_are_given_items_and_go_put_them_back_in_order(loop):
    channel = Channel(8)
    receivers = [loop.spawn(channel.receive()) for _ in range(3)]
    loop.tick(0)
    for number in range(4):
        channel.put(number)
    for receiver in receivers:
        receiver.cancel()
    loop.tick(0)
    assert [channel.take() for _ in range(len(channel))] == [0, 1, 2, 3]


def test_an_item_that_comes_back_goes_to_who_still_waits(loop):
    channel = Channel(8)
    first, second = (loop.spawn(channel.receive()) for _ in range(2))
    loop.tick(0)
    channel.put("only")
    first.cancel()
    assert loop.run_until(second) == "only"


class Unstartable(threading.Thread):
    """There are too many threads: the first cannot be started."""

    refused = 0

    def start(self):
        if not Unstartable.refused:
            Unstartable.refused += 1
            raise RuntimeError("can't start new thread")
        super().start()


def test_a_name_is_resolved_when_there_are_threads_again(monkeypatch):
    monkeypatch.setattr(Unstartable, "refused", 0)
    monkeypatch.setattr(threading, "Thread", Unstartable)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("192.0.2.7", port))])
    names = ThreadedResolver()
    answers = []
    came = threading.Event()

    def deliver(found):
        answers.append(found)
        came.set()

    names.resolve(TcpAddress("one.test", 80), deliver)
    assert isinstance(answers[0], ResolveError)
    assert "thread" in str(answers[0])
    came.clear()
    names.resolve(TcpAddress("one.test", 80), deliver)
    assert came.wait(10)
    assert answers[1:] == [[TcpAddress("192.0.2.7", 80)]]


def test_flows_told_by_a_tick_are_untouched(loop):
    """The same within a tick: there it is raised when no handler is on."""
    reply, heard = Reply(), []

    async def settles():
        await sleep(0)
        reply.settle(1)
        return "done"

    reply.when_settled(raising(SystemExit))
    reply.when_settled(heard.append)
    flow = loop.spawn(settles())
    with pytest.raises(SystemExit):
        loop.run_until(flow)
    assert loop.run_until(flow) == "done"
    assert heard == [reply]
