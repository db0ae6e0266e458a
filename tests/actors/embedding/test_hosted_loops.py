"""A loop that asyncio, uvloop or trio drives: every test runs in each of the three, through anyio."""

from __future__ import annotations

import contextvars
import gc
import threading
import warnings
import weakref

import anyio
import pytest
import structlog

from actors import (
    Cancelled,
    Channel,
    Continue,
    DeadlineExceeded,
    Loop,
    Machine,
    Misuse,
    Reply,
    current_loop,
    deadline,
    gather,
    offload,
    sleep,
    with_deadline,
)
from actors.testing import ManualKernel
from pools import PoolClosed, suspects
from protocols import http
from tests.actors.embedding.hosts import (
    HOSTS,
    Backend,
    CountingKernel,
    backend_and_pool,
    descriptors,
    pump,
    run_in,
)


@pytest.fixture(params=HOSTS)
def run(request):
    """`run(main)`: in each host."""
    return lambda main: run_in(request.param, main)


async def text(pool, path, **options):
    return (await pool.submit(http.get(path), **options)).text()


# -- waiting -------------------------------------------------------------------------------------------------


def test_tasks_get_their_own_answers(run):
    answers = {}

    async def ask(pool, number):
        for step in range(10):
            answers[number, step] = await text(pool, f"/{number}/{step}")

    async def main():
        async with (
            backend_and_pool(connections=4, pipeline=4) as (_, pool, _),
            anyio.create_task_group() as tasks,
        ):
            for number in range(16):
                tasks.start_soon(ask, pool, number)

    run(main)
    assert answers == {(n, step): f"/{n}/{step}" for n in range(16) for step in range(10)}


def test_what_is_submitted_in_one_turn_leaves_in_one_write(run):
    kernel = CountingKernel()

    async def main():
        async with backend_and_pool(kernel=kernel, connections=1, pipeline=64) as (_, pool, _):
            await text(pool, "/warm")
            before = kernel.sends
            async with anyio.create_task_group() as tasks:
                for number in range(32):
                    tasks.start_soon(text, pool, f"/{number}")
            return kernel.sends - before

    assert run(main) == 1


def test_replies_are_composed_as_in_flows(run):
    async def main():
        async with backend_and_pool(connections=1) as (backend, pool, _):
            one, two = await gather(pool.submit(http.get("/1")), pool.submit(http.get("/2")))
            assert (one.text(), two.text()) == ("/1", "/2")
            assert await pool.submit(http.get("/3")).map(lambda response: response.status) == 200
            held = pool.submit(http.get("/held"))
            await backend.until_held(1)
            with anyio.move_on_after(0):
                await gather(held, pool.submit(http.get("/never")))
            assert isinstance(held.error, Cancelled)
            backend.release()
            return backend.asked

    assert "/never" not in run(main)


def test_channels_are_read_by_tasks(run):
    async def main():
        async with backend_and_pool() as (_, pool, _):
            response = await pool.submit(http.stream("GET", "/pieces"))
            return b"".join([piece async for piece in response.body])

    assert run(main) == b"one two three"


def test_a_channel_between_a_task_and_a_flow_makes_both_wait(run):
    async def main():
        async with Loop.in_anyio() as loop:
            channel, back = Channel(1), Channel(1)

            async def double():
                async for number in channel:
                    await back.send(number * 2)
                back.close()

            loop.spawn(double())
            received = []

            async def receive():
                received.extend([number async for number in back])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive)
                for number in range(20):
                    await channel.send(number)
                channel.close()
            return received

    assert run(main) == [2 * number for number in range(20)]


def test_sleep_flows_and_their_results(run):
    async def main():
        async with Loop.in_anyio() as loop:

            async def flow(value):
                await sleep(0.001)
                return value

            await sleep(0.001)
            assert await loop.spawn(flow("flow")) == "flow"
            assert await gather(*[loop.spawn(flow(n)) for n in range(3)]) == (0, 1, 2)
            assert current_loop() is loop

    run(main)


# -- cancelling and deadlines --------------------------------------------------------------------------------


def test_a_cancelled_task_touches_no_wire(run):
    async def main():
        async with backend_and_pool(connections=1) as (backend, pool, _):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(text, pool, "/held")
                await backend.until_held(1)
                tasks.start_soon(text, pool, "/queued")
                await pump()
                tasks.cancel_scope.cancel()
            statistics = pool.statistics()
            assert (statistics.failed, statistics.orphans, statistics.queued) == ({"Cancelled": 2}, 1, 0)
            backend.release()
            assert await text(pool, "/mine") == "/mine"
            statistics = pool.statistics()
            assert (statistics.opened, statistics.lost, statistics.closed) == (1, 0, 0)
            return backend.asked

    assert run(main) == ["/held", "/mine"]


def test_a_timeout_of_the_host_cancels_the_reply(run):
    async def main():
        async with backend_and_pool(connections=1) as (backend, pool, _):
            reply = pool.submit(http.get("/held"))
            while not backend.held:
                await pump(1)
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await reply
            assert isinstance(reply.error, Cancelled)
            backend.release()
            assert await text(pool, "/next") == "/next"

    run(main)


def test_a_reply_that_another_task_waits_for_is_not_cancelled(run):
    async def main():
        async with backend_and_pool() as (backend, pool, _):
            reply = pool.submit(http.get("/held"))
            got = []

            async def wait():
                got.append((await reply).text())

            async with anyio.create_task_group() as staying:
                staying.start_soon(wait)
                async with anyio.create_task_group() as going:
                    going.start_soon(wait)
                    await backend.until_held(1)
                    going.cancel_scope.cancel()
                assert not reply.settled
                backend.release()
            return got

    assert run(main) == ["/held"]


def test_a_deadline_holds_in_its_own_task_only(run):
    async def main():
        async with backend_and_pool() as (backend, pool, _):
            ended = []

            async def hurried():
                with deadline(0.02), pytest.raises(DeadlineExceeded):
                    await text(pool, "/held/hurried")
                ended.append("hurried")
                await backend.until_asked("/held/patient")
                backend.release()

            async def patient():
                assert await text(pool, "/held/patient") == "/held/patient"
                ended.append("patient")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hurried)
                tasks.start_soon(patient)
            assert await text(pool, "/") == "/"
            return ended

    assert run(main) == ["hurried", "patient"]


def test_a_deadline_ends_every_wait_inside_it(run):
    async def main():
        async with Loop.in_anyio() as loop:
            channel, reply = Channel(1), Reply()
            with deadline(0.005):
                with pytest.raises(DeadlineExceeded, match="while waiting"):
                    await reply
                with pytest.raises(DeadlineExceeded):
                    await channel.receive()
                with pytest.raises(DeadlineExceeded):
                    await sleep(60)
            assert isinstance(reply.error, DeadlineExceeded)

            async def inherits():
                await sleep(60)

            with deadline(0.005), pytest.raises(DeadlineExceeded):
                await loop.spawn(inherits())
            with pytest.raises(DeadlineExceeded):
                await with_deadline(Reply(), 0.005)

    run(main)


def test_cancelled_at_any_moment_answers_stay_with_their_callers(run, monkeypatch):
    monkeypatch.setattr(suspects, "SILENT_SECONDS", 60.0)  # a slow machine is no silent backend

    async def ask(pool, number, rounds):
        with anyio.move_on_after(0.0002 * (number % 20)):
            for step in range(rounds):
                assert await text(pool, f"/{number}/{step}") == f"/{number}/{step}"

    async def main():
        async with backend_and_pool(connections=2, pipeline=8) as (_, pool, _):
            await text(pool, "/warm")
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(ask, pool, number, 3)
            for number in range(20):
                assert await text(pool, f"/after/{number}") == f"/after/{number}"
            statistics = pool.statistics()
            assert (statistics.lost, statistics.closed, statistics.in_flight) == (0, 0, 0)

    run(main)


# -- errors stay where they belong ---------------------------------------------------------------------------


def test_an_error_of_a_task_does_not_reach_machines(run):
    async def main():
        async with backend_and_pool() as (_, pool, loop):
            with pytest.raises(ZeroDivisionError):
                _ = 1 / len((await pool.submit(http.get("/"))).headers.get("nothing") or "")
            assert await text(pool, "/") == "/"
            assert loop.statistics().crashed == 0

    run(main)


class Crashing(Machine):
    """Fails when woken."""

    def wakeup(self, scope):
        raise RuntimeError("a bug of a machine")

    def handle(self, scope):
        return scope


def test_an_error_of_a_machine_does_not_reach_tasks(run):
    async def main():
        async with Loop.in_anyio() as loop:
            loop.spawn(Crashing()).wake()
            await pump()
            assert loop.statistics().crashed == 1

            async def failing():
                raise LookupError("a flow's own")

            with pytest.raises(LookupError):
                await loop.spawn(failing())

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert [log["event"] for log in logs] == ["machine crashed"]


def test_a_flow_cannot_await_what_the_host_drives(run):
    async def main():
        async with Loop.in_anyio() as loop:
            with pytest.raises((Misuse, RuntimeError)):
                await loop.spawn(anyio.Event().wait())

    run(main)


def test_context_variables_of_tasks_do_not_reach_machines(run):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    class Looking(Machine):
        def wakeup(self, scope):
            seen.append(variable.get())
            return Continue(self)

        def handle(self, scope):
            return scope

    async def main():
        async with Loop.in_anyio() as loop:
            variable.set("a task's")
            loop.spawn(Looking()).wake()
            await pump()

    run(main)
    assert seen == ["outside"]


# -- coming and going ----------------------------------------------------------------------------------------


def test_two_loops_end_in_any_order(run):
    async def main():
        one, two = Loop.in_anyio(), Loop.in_anyio()
        one.attach()
        two.attach()
        backend = Backend(one)
        pool = two.spawn(http.pool(backend.url))
        assert await text(pool, "/") == "/"
        third = Loop.in_anyio()
        third.attach()
        await third.aclose()
        assert await text(pool, "/") == "/"
        await one.aclose()
        assert current_loop() is two
        await sleep(0.001)
        await two.aclose()
        await two.aclose()
        assert await Loop.in_anyio().attach().aclose() is None

    run(main)


def test_loops_are_opened_again_in_the_same_thread(run):
    async def main():
        async with backend_and_pool() as (_, pool, _):
            return await text(pool, "/again")

    before = descriptors()
    assert [run(main) for _ in range(3)] == ["/again"] * 3
    gc.collect()
    assert descriptors() == before


def test_threads_may_each_have_a_host_and_a_loop(run):
    async def main():
        async with backend_and_pool() as (_, pool, _):
            answers.append([await text(pool, f"/{n}") for n in range(20)])

    answers = []
    threads = [threading.Thread(target=run, args=(main,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[f"/{n}" for n in range(20)]] * 4


def test_a_loop_that_was_closed_is_forgotten(run):
    left = []

    async def main():
        async with backend_and_pool() as (_, pool, loop):
            await offload(int)
            await text(pool, "/")
            left.append(weakref.ref(loop))

    run(main)
    for thread in threading.enumerate():
        if thread.name == "windlass-offload":  # it ends after the loop, and holds it until then
            thread.join(10)
    gc.collect()
    assert left[0]() is None


def test_leaving_waits_for_what_is_in_flight(run):
    async def main():
        got = []

        async def ask(pool, path):
            got.append(await text(pool, path))

        async with anyio.create_task_group() as tasks:  # noqa: SIM117 - the pool is left first
            async with backend_and_pool(connections=1) as (backend, pool, _):
                tasks.start_soon(ask, pool, "/held")
                await backend.until_held(1)
                tasks.start_soon(ask, pool, "/queued")
                await pump()
                backend.release()
        return got

    assert run(main) == ["/held", "/queued"]


def test_leaving_waits_for_a_bounded_time_only(run):
    async def main():
        errors = []

        async def ask(pool, path):
            with pytest.raises(PoolClosed) as caught:
                await text(pool, path)
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:  # noqa: SIM117 - the pool is left first
            async with backend_and_pool(connections=2, drain=0.02) as (backend, pool, _):
                for _ in range(4):
                    tasks.start_soon(ask, pool, "/held")
                await backend.until_held(2)
        assert len(errors) == 4
        with pytest.raises(PoolClosed):
            await text(pool, "/late")

    before = descriptors()
    with structlog.testing.capture_logs() as logs, warnings.catch_warnings(record=True) as warned:
        run(main)
        gc.collect()
    assert not [log for log in logs if log["log_level"] != "info"]
    assert not warned
    assert descriptors() == before


def test_leaving_does_not_wait_for_what_was_cancelled(run):
    async def main():
        with anyio.fail_after(30):  # much less than the drain's time
            async with backend_and_pool(connections=1, drain=600.0) as (_, pool, loop):
                with anyio.move_on_after(0.005) as moment:
                    await text(pool, "/held")
        assert moment.cancelled_caught
        assert loop.closed

    run(main)


def test_leaving_by_an_error_waits_for_nothing(run):
    async def main():
        replies = []

        async def fail():
            async with backend_and_pool(drain=60.0) as (backend, pool, _):
                replies.append(pool.submit(http.get("/held")))
                await backend.until_held(1)
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert isinstance(replies[0].error, PoolClosed)

    run(main)


def test_cancelled_while_leaving_it_is_closed_all_the_same(run):
    async def main():
        with anyio.CancelScope() as scope:
            async with backend_and_pool(drain=60.0) as (backend, pool, loop):
                reply = pool.submit(http.get("/held"))
                await backend.until_held(1)
                scope.deadline = anyio.current_time() + 0.01
        assert loop.closed
        assert isinstance(reply.error, PoolClosed)

    before = descriptors()
    run(main)
    assert descriptors() == before


def test_misuse_is_told(run):
    async def main():
        async with Loop.in_anyio() as loop:
            for wrong in (loop.attach, loop.run, lambda: loop.run_until(Reply())):
                with pytest.raises(Misuse):
                    wrong()
        with pytest.raises(Misuse, match="closed"):
            loop.attach()
        with pytest.raises(Misuse, match="closed"):
            loop.spawn(Crashing())

    run(main)


def test_a_loop_that_cannot_be_watched_says_what_to_use(run):
    async def main():
        loop = Loop.in_anyio(kernel=ManualKernel())
        with pytest.raises(Misuse, match=r"Loop\.in_thread\(\)"):
            loop.attach()
        loop.close()

    run(main)


def test_the_next_loop_tells_of_one_that_was_forgotten(run):
    left = []

    async def forget():
        left.append(Loop.in_anyio().attach())
        Backend(left[0])

    async def next_one():
        with pytest.warns(ResourceWarning, match="was never closed"):
            async with Loop.in_anyio():
                assert left[0].closed

    before = descriptors()
    run(forget)
    run(next_one)
    assert descriptors() == before


def test_outside_of_the_host_nothing_attaches():
    for make, error in ((Loop.in_asyncio, RuntimeError), (Loop.in_trio, Misuse)):
        loop = make()
        with pytest.raises(error):
            loop.attach()
        loop.close()


def test_another_thread_is_told_to_have_a_loop_of_its_own(run):
    async def main():
        async with backend_and_pool() as (_, pool, loop):
            said = []

            def use():
                for wrong in (lambda: pool.submit(http.get("/")), lambda: loop.spawn(Crashing())):
                    with pytest.raises(Misuse, match=r"Loop.in_thread\(\)") as caught:
                        wrong()
                    said.append(caught)

            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            assert len(said) == 2
            assert await text(pool, "/") == "/"

    run(main)


def test_a_loop_that_outlives_its_host_says_so(run):
    left = []

    async def main():
        loop = Loop.in_anyio()
        loop.attach()
        backend = Backend(loop)
        left.append((loop, loop.spawn(http.pool(backend.url))))
        await text(left[0][1], "/")

    run(main)
    loop, pool = left[0]
    with pytest.raises(Misuse, match="inside what"):
        pool.submit(http.get("/"))
    before = len(descriptors())
    loop.close()
    assert len(descriptors()) < before


def test_a_forgotten_loop_is_told_of(run):
    async def main():
        Loop.in_anyio().attach()

    before = descriptors()
    run(main)
    with pytest.warns(ResourceWarning, match="was never closed; write `async with Loop.in_"):
        gc.collect()
    assert descriptors() == before


# -- blocking calls ------------------------------------------------------------------------------------------


def test_tasks_and_handlers_offload_blocking_calls(run):
    async def main():
        async def handler(request):
            return http.text_response(str(await offload(int, request.path[1:])))

        async with Loop.in_anyio() as loop:
            server = loop.spawn(http.server("127.0.0.1:0", handler))
            pool = loop.spawn(http.pool(f"http://{server.address}"))
            assert await offload(sum, [1, 2]) == 3
            assert await text(pool, "/42") == "42"
            with pytest.raises(ZeroDivisionError):
                await offload(divmod, 1, 0)

    run(main)
