"""A loop in a thread of its own, used from other threads."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from actors import (
    Cancelled,
    DeadlineExceeded,
    Loop,
    MachineStopped,
    MailboxFull,
    Misuse,
    NotSettled,
    Reply,
    SystemKernel,
    current_loop,
    deadline,
    gather,
    offload,
)
from actors.embedding import thread_host
from pools import BackendDown, PoolClosed, PoolError
from pools import DeadlineExceeded as TooLate
from protocols import http
from tests.actors.embedding.hosts import Backend, descriptors

ROOT = Path(__file__).parents[3]


class Held:
    """A server that holds `/held` back until `release`, and echoes the rest; in the same loop."""

    def __init__(self, loop):
        self.arrived = threading.Semaphore(0)
        self.gates = []
        self.loop = loop
        self.server = loop.spawn(http.server("127.0.0.1:0", self.answer))
        self.url = f"http://{self.server.address}"

    async def answer(self, request):
        if request.path == "/held":
            self.gates.append(Reply())
            self.arrived.release()
            await self.gates[-1]
        return http.text_response(request.path + request.body.decode())

    def release(self):
        self.arrived.acquire()
        for gate in self.gates:
            self.loop.call(gate.settle, None)


@pytest.fixture
def loop():
    with Loop.in_thread(drain=0.0) as loop:
        yield loop


@pytest.fixture
def held(loop):
    return Held(loop)


@pytest.fixture
def pool(loop, held):
    return loop.spawn(http.pool(held.url, connections=4, pipeline=4))


def in_threads(count, work):
    """Run `work(number)` in so many threads; what they raise is raised."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_no_answer_reaches_another_thread(pool):
    def work(number):
        for step in range(30):
            body = f"{number}:{step}".encode()
            response = pool.submit(http.put(f"/{number}/", body=body)).result(timeout=10)
            assert response.text() == f"/{number}/{number}:{step}"

    in_threads(32, work)
    assert pool.statistics().succeeded == 32 * 30


def test_result_waits_as_long_as_it_is_told(pool, held):
    reply = pool.submit(http.get("/held"))
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.01 s"):
        reply.result(timeout=0.01)
    assert not reply.settled
    assert not reply.wait(0)
    with pytest.raises(NotSettled):
        reply.error  # noqa: B018
    assert repr(reply) == "<ThreadReply pending>"
    held.release()
    assert reply.result(timeout=10).text() == "/held"
    assert reply.result(timeout=0).status == 200
    assert (reply.settled, reply.error, reply.wait()) == (True, None, True)
    assert "value" in repr(reply)


def test_a_reply_can_be_waited_for_by_several_threads(pool, held):
    reply = pool.submit(http.get("/held"))
    held.release()
    answers = []
    in_threads(4, lambda number: answers.append(reply.result(timeout=10).status))
    assert answers == [200] * 4


def test_errors_are_those_of_the_pool(loop, pool, held, free_port):
    nowhere = loop.spawn(http.pool(f"http://127.0.0.1:{free_port()}"))
    reply = nowhere.submit(http.get("/"))
    with pytest.raises(BackendDown):
        reply.result(timeout=10)
    assert isinstance(reply.error, BackendDown)
    assert "error" in repr(reply)
    with pytest.raises(TooLate):
        pool.submit(http.get("/held"), timeout=0.01).result(timeout=10)
    with pytest.raises(ValueError, match="priority"):
        pool.submit(http.get("/"), priority=9).result(timeout=10)
    with deadline(0.01), pytest.raises(TooLate):
        pool.submit(http.get("/held")).result(timeout=10)
    with deadline(0.01), deadline(60), pytest.raises(TooLate):
        pool.submit(http.get("/held"), timeout=60).result(timeout=10)


def test_cancelling_touches_no_wire(pool, held):
    reply = pool.submit(http.get("/held"))
    held.arrived.acquire()
    held.arrived.release()
    reply.cancel()
    with pytest.raises(Cancelled):
        reply.result(timeout=10)
    held.release()
    assert pool.submit(http.get("/next")).result(timeout=10).text() == "/next"
    assert (pool.statistics().lost, pool.statistics().closed) == (0, 0)
    with capture_logs() as logs:
        reply.cancel()
        assert pool.submit(http.get("/last")).result(timeout=10).text() == "/last"
    assert logs == []


def test_flows_and_handlers_use_the_same_proxies(loop, pool):
    async def both():
        one, two = await gather(pool.submit(http.get("/1")), pool.submit(http.get("/2")))
        assert pool.statistics().succeeded == 2
        assert loop.here
        return one.text() + two.text()

    async def gateway(request):
        return await pool.submit(http.get("/behind" + request.path))

    async def spawns():
        return await loop.spawn(both())

    assert loop.spawn(spawns()).result(timeout=10) == "/1/2"
    server = loop.spawn(http.server("127.0.0.1:0", gateway))
    front = loop.spawn(http.pool(f"http://{server.address}"))
    assert front.submit(http.get("/x")).result(timeout=10).text() == "/behind/x"
    assert not loop.here


def test_call_runs_on_the_loops_thread(loop):
    assert loop.call(threading.get_ident).result(timeout=10) != threading.get_ident()
    assert loop.call(current_loop).result(timeout=10).machines == 1
    for error in (LookupError, SystemExit):

        def fail(error=error):
            raise error

        with pytest.raises(error):
            loop.call(fail).result(timeout=10)
    assert loop.call(int, "7").result(timeout=10) == 7


def test_what_would_wait_for_itself_is_refused(loop, pool):
    reply = loop.call(lambda: None)

    async def wait():
        thread_host.ThreadReply(loop).result()

    with pytest.raises(Misuse, match="await"):
        loop.spawn(wait()).result(timeout=10)
    with pytest.raises(Misuse, match="own thread"):
        loop.call(loop.stop).result(timeout=10)
    assert reply.result(timeout=10) is None


def test_misuse_before_and_after():
    loop = Loop.in_thread()
    assert "not started" in repr(loop)
    with pytest.raises(Misuse, match=r"with Loop\.in_thread"):
        loop.call(int)
    with loop:
        assert "running" in repr(loop)
        with pytest.raises(Misuse, match="already"):
            loop.start()
    assert "stopped" in repr(loop)
    with pytest.raises(MachineStopped):
        loop.call(int).result(timeout=10)
    loop.stop()


def test_a_thread_that_cannot_start_says_why():
    class NoDescriptors(SystemKernel):
        def poller(self):
            raise OSError(24, "Too many open files")

    with pytest.raises(OSError, match="Too many"):
        Loop.in_thread(kernel=NoDescriptors()).start()


def test_a_pool_that_has_ended_refuses():
    with Loop.in_thread(drain=0.0) as loop:
        held = Held(loop)
        pool = loop.spawn(http.pool(held.url))
        waiting = pool.submit(http.get("/held"))
        held.arrived.acquire()
    for reply in (waiting, pool.submit(http.get("/late"))):
        with pytest.raises(PoolClosed):
            reply.result(timeout=10)
    assert "ThreadPool" in repr(pool)


def test_what_is_asked_while_it_stops_settles():
    before = descriptors()
    for _ in range(5):
        loop = Loop.in_thread(drain=0.01).start()
        held = Held(loop)
        pool = loop.spawn(http.pool(held.url))
        begun = threading.Barrier(5)
        replies = [[] for _ in range(4)]

        def ask(number, pool=pool, replies=replies, begun=begun, loop=loop):
            if number == 4:
                begun.wait()
                loop.stop()
                return
            begun.wait()
            for step in range(100):
                replies[number].append(pool.submit(http.get(f"/{step}")))
                replies[number].append(loop.call(int))

        in_threads(5, ask)
        for reply in itertools.chain(*replies):
            assert reply.wait(10)
            assert reply.error is None or isinstance(reply.error, PoolError | MachineStopped)
    assert descriptors() == before


def test_threads_cannot_ask_without_bound(loop, monkeypatch):
    monkeypatch.setattr(thread_host, "POSTS_MAX", 10)
    entered, leave = threading.Event(), threading.Event()

    def block():
        entered.set()
        leave.wait(10)

    blocking = loop.call(block)
    entered.wait(10)
    replies = [loop.call(int) for _ in range(10)]
    with pytest.raises(MailboxFull):
        loop.call(int)
    leave.set()
    assert [reply.result(timeout=10) for reply in [*replies, blocking]] == [0] * 10 + [None]


def run_program(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SERVE = """
from actors import Loop, offload
from protocols import http
loop = Loop.in_thread().start()
server = loop.spawn(http.server("127.0.0.1:0", lambda request: http.text_response("hello")))
pool = loop.spawn(http.pool(f"http://{server.address}"))
assert pool.submit(http.get("/")).result(timeout=5).text() == "hello"
"""


def test_a_program_ends_without_stopping_it():
    done = run_program(SERVE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_fails_ends_with_its_own_error():
    done = run_program(SERVE + "raise SystemExit(7)")
    assert (done.returncode, done.stderr) == (7, "")


def test_a_forked_process_is_told():
    done = run_program(
        SERVE
        + """
import os
early = pool.submit(http.get("/"))
early.wait()
child = os.fork()
if child == 0:
    from actors import Misuse
    assert early.result().text() == "hello"
    try:
        pool.submit(http.get("/"))
    except Misuse as error:
        assert "start another one here" in str(error), error
        assert "forked away" in repr(loop)
        with Loop.in_thread() as own:
            mine = own.spawn(http.pool(f"http://{server.address}"))
            assert mine.submit(http.get("/")).result(timeout=5).text() == "hello"
        sys.exit(3)
    sys.exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert pool.submit(http.get("/")).result(timeout=5).text() == "hello"
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_offload_from_a_threads_flow(loop):
    async def flow():
        return await offload(os.getpid)

    assert loop.spawn(flow()).result(timeout=10) == os.getpid()


def test_a_listener_is_spawned_from_another_thread(loop):
    backend = Backend(loop)
    assert backend.server.address.port > 0
    pool = loop.spawn(http.pool(backend.url))
    assert pool.submit(http.get("/x")).result(timeout=10).text() == "/x"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_a_flow_ends_is_no_zombie():
    async def leave():
        raise SystemExit(3)

    with Loop.in_thread() as loop:
        pool = loop.spawn(http.pool("http://127.0.0.1:9"))
        with pytest.raises(MachineStopped):
            loop.spawn(leave()).result(timeout=10)
        with pytest.raises(MachineStopped):
            loop.call(int).result(timeout=10)
        with pytest.raises(PoolClosed):
            pool.submit(http.get("/")).result(timeout=10)
