"""What is asyncio's own: its ways of waiting, `attach`, a loop closed underneath, Ctrl-C. With uvloop too."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from actors import Cancelled, Loop, Misuse, Reply
from protocols import http
from tests.actors.embedding.hosts import Backend, backend_and_pool, descriptors

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """`run(main)`: in both."""

    def running(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(main(), 20.0))

    return running


def test_gather_wait_wait_for_and_task_groups(run):
    async def main():
        async with backend_and_pool(connections=2) as (backend, pool, _):

            async def ask(path):
                return (await pool.submit(http.get(path))).text()

            assert await asyncio.gather(ask("/1"), ask("/2")) == ["/1", "/2"]
            both = await asyncio.gather(pool.submit(http.get("/3")), pool.submit(http.get("/4")))
            assert [response.text() for response in both] == ["/3", "/4"]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(f"/{n}")) for n in range(8)]
            assert [task.result() for task in tasks] == [f"/{n}" for n in range(8)]
            held = pool.submit(http.get("/held"))
            await backend.until_held(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(held, 0.01)
            assert isinstance(held.error, Cancelled)
            second = asyncio.ensure_future(ask("/held"))
            await backend.until_held(2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await second
            waiting = asyncio.ensure_future(pool.submit(http.get("/queued")))
            done, _ = await asyncio.wait([waiting], timeout=0.01)
            assert not done
            backend.release()
            assert (await waiting).text() == "/queued"
            first, *_ = asyncio.as_completed([ask("/5")])
            assert await first == "/5"

    run(main)


def test_cancelled_tasks_report_cancellation(run):
    async def main():
        async with backend_and_pool(connections=1) as (backend, pool, _):
            task = asyncio.ensure_future(pool.submit(http.get("/held")))
            await backend.until_held(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.statistics().orphans == 1
            backend.release()

    run(main)


def test_attach_and_detach_by_hand(run):
    async def main():
        loop = Loop.in_asyncio().attach(asyncio.get_running_loop())
        backend = Backend(loop)
        pool = loop.spawn(http.pool(backend.url))
        assert (await pool.submit(http.get("/"))).text() == "/"
        loop.detach()
        loop.detach()
        assert loop.closed

    before = descriptors()
    run(main)
    assert descriptors() == before


def test_what_waits_before_attach_goes_on_with_it(run):
    loop = Loop.in_asyncio()
    backend = Backend(loop)
    pool = loop.spawn(http.pool(backend.url))
    reply = pool.submit(http.get("/early"))

    async def main():
        loop.attach()
        assert (await reply).text() == "/early"
        await loop.aclose()

    run(main)


def test_a_closed_asyncio_loop_is_refused():
    host = asyncio.new_event_loop()
    host.close()
    loop = Loop.in_asyncio()
    with pytest.raises(Misuse, match="closed"):
        loop.attach(host)
    loop.close()


def test_closing_after_the_host_settles_replies_that_tasks_had_waited_for():
    host = asyncio.new_event_loop()
    loop = Loop.in_asyncio().attach(host)
    reply = Reply()

    async def wait():
        await reply

    async def begin():
        task = host.create_task(wait())
        await asyncio.sleep(0)
        return task

    task = host.run_until_complete(begin())
    host.close()
    loop.close()
    assert reply.settle(None)
    task._log_destroy_pending = False
    task.get_coro().close()
    del task
    gc.collect()


def test_awaiting_what_no_loop_drives_says_what_to_write():
    async def main():
        await Reply()

    with pytest.raises(Misuse, match=r"async with Loop.in_asyncio\(\)"):
        asyncio.run(main())


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from actors import Loop
from protocols import http

async def main():
    async with Loop.in_asyncio() as loop:
        server = loop.spawn(http.server("127.0.0.1:0", lambda request: http.text_response("hello")))
        pool = loop.spawn(http.pool(f"http://{{server.address}}"))
        while True:
            await pool.submit(http.get("/"))
            if pool.statistics().succeeded == 10:
                print("ready", flush=True)

asyncio.run(main())
"""


def test_ctrl_c_ends_the_program():
    # Traced by coverage, even `asyncio.run(asyncio.sleep(1))` ends with CancelledError instead.
    without_coverage = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    program = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROGRAM.format(root=str(ROOT))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_coverage,
    )
    with program:
        while "ready" not in program.stdout.readline():
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        errors = program.communicate(timeout=60)[1]
    assert program.returncode == -signal.SIGINT, errors
    assert errors.strip().endswith("KeyboardInterrupt")
    assert "Warning" not in errors
    assert "never" not in errors


def test_a_flow_that_leaves_the_program_does(run):
    async def leave():
        raise SystemExit(3)

    async def main():
        async with Loop.in_asyncio() as loop:
            await loop.spawn(leave())

    before = descriptors()
    with pytest.raises(SystemExit):
        run(main)
    gc.collect()
    assert descriptors() == before


def test_a_task_that_leaves_the_program_does_not_keep_the_others_of_its_turn_from_going_on(run):
    seen = []

    async def main():
        async with Loop.in_asyncio() as loop:
            reply = Reply()

            async def wait(number):
                seen.append((number, await reply))
                if number == 1:
                    raise SystemExit(3)

            tasks = [asyncio.ensure_future(wait(number)) for number in range(4)]

            async def settle():
                reply.settle("now")

            await asyncio.sleep(0)
            loop.spawn(settle())
            await asyncio.wait(tasks)

    with pytest.raises(SystemExit):
        run(main)
    assert seen[:2] == [(0, "now"), (1, "now")]
    assert [number for number, _ in seen] in ([0, 1], [0, 1, 2, 3])  # asyncio may end before its next turn


def test_a_cancellation_that_meets_the_answer(run):
    """Cancelled before it is settled, after, and both in one turn: the task ends one way, exactly once."""

    async def main():
        async with Loop.in_asyncio() as loop:

            async def outcome(*steps):
                reply = Reply()
                task = asyncio.ensure_future(reply)
                await asyncio.sleep(0)

                async def in_a_turn():
                    for step in steps:
                        getattr(task if step == "cancel" else reply, step)(*("done",))

                await loop.spawn(in_a_turn())
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                return result if isinstance(result, str) else type(result)

            assert await outcome("settle") == "done"
            assert await outcome("cancel") == asyncio.CancelledError
            assert await outcome("cancel", "settle") == asyncio.CancelledError
            assert await outcome("settle", "cancel") == asyncio.CancelledError

    run(main)


def test_tasks_go_on_in_their_own_context(run):
    name = contextvars.ContextVar("name", default="nobody")

    async def main():
        async with Loop.in_asyncio() as loop:
            reply = Reply()

            async def wait(mine):
                name.set(mine)
                await reply
                return name.get(), asyncio.current_task().get_name()

            tasks = [asyncio.create_task(wait(mine), name=mine) for mine in ("anna", "bert")]
            await asyncio.sleep(0)

            async def settle():
                reply.settle(None)

            await loop.spawn(settle())
            assert await asyncio.gather(*tasks) == [("anna", "anna"), ("bert", "bert")]
            assert name.get() == "nobody"

    run(main)
