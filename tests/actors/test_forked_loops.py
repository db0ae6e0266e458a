"""A fork: the parent's loop goes on, and the child is told what it cannot use. And starts that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors import Loop, SystemKernel

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 60.0

BEFORE = """
import os, signal, socket, sys
from actors import Loop, Misuse, UNCHANGED, Machine, sleep, gather
from actors.kernel import READABLE

class Echo(Machine):
    def __init__(self):
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
    def handle(self, scope):
        return self
    def start(self, scope):
        scope.register(self.here.fileno(), READABLE)
        return UNCHANGED
    def ready(self, scope, events):
        self.here.send(self.here.recv(100))
        return UNCHANGED
    def stopped(self, scope, error):
        self.here.send(b"bye")
        self.here.close()

def answers(tick):
    echo.there.send(b"x")
    for _ in range(100):
        tick()
        try:
            return echo.there.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

def in_child(function):
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            function()
        except SystemExit as error:
            os._exit(error.code)
        except BaseException as error:
            print(type(error).__name__, error)
            sys.stdout.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def nothing(): return 1

def refused(call, *arguments):
    try:
        call(*arguments)
    except Misuse as error:
        assert "the parent's; make another one in the child: " in str(error), error
    else:
        raise AssertionError(f"{call} was not refused")
"""
PLAIN = """
loop = Loop()
echo = loop.spawn(Echo())

def child():
    refused(loop.spawn, Echo())
    refused(loop.tick, 0)
    refused(loop.run)
    loop.close()
    with Loop() as own:
        async def main(): await sleep(0); return 5
        assert own.run_until(own.spawn(main())) == 5

assert in_child(child) == 0
assert answers(lambda: loop.tick(0.05)) == b"x"

def leaves():
    with loop:
        sys.exit(5)

assert in_child(leaves) == 5
assert answers(lambda: loop.tick(0.05)) == b"x"
loop.close()
assert in_child(loop.close) == 0
"""
IN_ASYNCIO = """
import asyncio

async def main():
    global echo
    loop = Loop.in_asyncio().attach()
    echo = loop.spawn(Echo())

    def child():
        refused(loop.spawn, Echo())
        loop.detach()
        asyncio._set_running_loop(None)
        async def own():
            async with Loop.in_asyncio() as mine:
                return await mine.spawn(nothing())
        assert asyncio.run(own()) == 1

    assert in_child(child) == 0
    echo.there.send(b"x")
    got = await asyncio.to_thread(echo.there.recv, 100)
    assert got == b"x", got
    await loop.aclose()

asyncio.run(main())
"""
TERMINATED = """
loop = Loop()
async def main():
    here, there = socket.socketpair()
    child = os.fork()
    if not child:
        signal.alarm(20)
        there.send(b"up")  # a signal in the middle of a fork is lost by Python
        while True:
            signal.pause()
        os._exit(0)
    here.recv(2)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
reply = loop.spawn(main())
loop.run()
assert reply.result() == -signal.SIGTERM, reply
"""
IN_THREAD = """
loop = Loop.in_thread().start()
async def long(): await sleep(1000)
reply = loop.spawn(long())

def child():
    for wait in (reply.result, reply.wait, lambda: reply.wait(0.1), reply.cancel):
        try:
            wait()
        except Misuse as error:
            assert "start another one here, after the fork" in str(error)
        else:
            raise AssertionError(wait)

assert in_child(child) == 0
reply.cancel()
loop.stop()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    "program", [PLAIN, IN_ASYNCIO, TERMINATED, IN_THREAD], ids=["plain", "asyncio", "signal", "thread"]
)
def test_a_forked_child_is_told_and_the_parent_goes_on(program):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEFORE + program],
        capture_output=True, check=False, cwd=ROOT, text=True, timeout=SECONDS_MAX,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- in this process ---------------------------------------------------------------------------------------


class Broken(SystemKernel):
    def poller(self):
        raise RuntimeError("no poller today")


@pytest.mark.parametrize(
    ("options", "error"), [({"slots": 0}, ValueError), ({"kernel": Broken()}, RuntimeError)]
)
def test_a_thread_whose_loop_cannot_be_made_says_why(options, error):
    with pytest.raises(error):
        Loop.in_thread(**options).start()
