"""The books of a pool, looked at in the middle of things: when many units end at once, when somebody hears of
an end and acts, when a callback, a unit or a wire raises. Whoever submits counts for themselves.
"""

from __future__ import annotations

from typing import Any

import pytest

from actors import ActorError, Misuse, Reply, gather
from pools import BackendDown, Cancelled, ConnectionLost, DeadlineExceeded, PoolClosed, Unit, UnitQueue, Work
from pools.testing import Ask, Bench, LineWire

MANY = [1, 64, 65, 66, 131, 300]


class Books:
    """A submitter's own count, held against the pool's whenever a reply settles."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.replies: list[Reply[Any]] = []
        self.settled = 0
        self.wrong: list[Any] = []  # a callback's own error would reach nobody

    def submit(self, unit: Unit[Any] | str, **options: Any) -> Reply[Any]:
        reply = self.bench.submit(unit, **options)
        self.replies.append(reply)
        reply.when_settled(self.look)
        return reply

    def look(self, reply: Reply[Any]) -> None:
        self.settled += 1
        now = self.bench.pool.statistics()
        if now.submitted - now.succeeded - sum(now.failed.values()) != now.queued + now.in_flight:
            self.wrong.append(now)


def serve(bench: Bench, text: str = "after") -> bytes:
    """One unit more, which must be served."""
    reply = bench.submit(text, timeout=1.0)
    bench.accept()
    assert bench.sent()[-1:] == [text]
    bench.answer(text.upper())
    answer: bytes = reply.result()
    return answer


def healthy(books: Books) -> bool:
    bench = books.bench
    return (
        not books.wrong
        and books.settled == sum(reply.settled for reply in books.replies)
        and bench.add_up()
        and len(bench.pool.queue) == len(list(bench.pool.queue))
        and serve(bench) == b"AFTER"
    )


@pytest.mark.parametrize("count", MANY)
def test_many_wait_and_the_backend_refuses(count: int) -> None:
    bench = Bench(connections=1, queue=1000)
    books = Books(bench)
    for number in range(count):
        books.submit(f"{number}")
    bench.refuse()
    assert {type(reply.error) for reply in books.replies} == {BackendDown}
    assert len(bench.pool.queue) == 0
    bench.advance(1.0)
    assert healthy(books)


@pytest.mark.parametrize("count", MANY)
def test_many_wait_past_their_deadline(count: int) -> None:
    bench = Bench(connections=1, queue=1000)
    books = Books(bench)
    books.submit("busy", timeout=5.0)
    bench.accept()
    for number in range(count):
        books.submit(f"{number}", timeout=0.2)
    patient = books.submit("patient", timeout=3.0)
    bench.advance(0.3)
    assert {type(reply.error) for reply in books.replies[1:-1]} == {DeadlineExceeded}
    assert bench.sent() == ["busy"]
    bench.answer("BUSY")
    assert bench.sent() == ["patient"]
    bench.answer("PATIENT")
    assert patient.result() == b"PATIENT"
    assert healthy(books)


@pytest.mark.parametrize("count", MANY)
def test_many_that_wait_are_cancelled_by_the_first_that_hears(count: int) -> None:
    bench = Bench(connections=1, queue=1000)
    books = Books(bench)
    for number in range(count):
        books.submit(f"{number}", timeout=0.1 if number == 0 else 5.0)
    together = gather(*books.replies)
    bench.run()
    bench.advance(0.2)
    assert isinstance(together.error, DeadlineExceeded)
    assert all(isinstance(reply.error, Cancelled) for reply in books.replies[1:])
    assert healthy(books)


@pytest.mark.parametrize("count", MANY)
def test_whoever_hears_of_an_end_submits_again(count: int) -> None:
    bench = Bench(connections=1, queue=2000)
    books = Books(bench)
    again: list[Reply[Any]] = []
    for number in range(count):
        books.submit(f"{number}", timeout=0.2).when_settled(
            lambda _, number=number: again.append(books.submit(f"again {number}", timeout=9.0))  # type: ignore[misc]
        )
    bench.advance(0.3)
    assert len(again) == count
    assert not any(reply.settled for reply in again)
    bench.accept()
    for number in range(count):
        assert bench.sent() == [f"again {number}"]
        bench.answer("yes")
    assert all(reply.result() == b"yes" for reply in again)
    assert healthy(books)


def test_many_wait_when_the_pool_stops() -> None:
    bench = Bench(connections=1)
    books = Books(bench)
    for number in range(100):
        books.submit(f"{number}")
    bench.accept()
    bench.loop.kill(bench.pool.token)
    assert {type(reply.error) for reply in books.replies} == {PoolClosed}
    assert not books.wrong
    assert bench.add_up()


# -- the queue -------------------------------------------------------------------------------------------


def works(pool: Any, count: int, priority: int = 0) -> list[Work[Any]]:
    return [Work(pool, Ask(f"{n}", size=10), 9.0, priority) for n in range(count)]


@pytest.mark.parametrize("order", ["as they were", "backwards", "in two parts"])
def test_what_comes_back_stands_where_it_stood(order: str) -> None:
    queue = UnitQueue(1000, 1 << 20)
    all_of_them = works(Bench().pool, 20)
    for work in all_of_them:
        queue.push(work, 10)
    queue.take(10)
    back = all_of_them[:10]
    if order == "in two parts":
        queue.put_back(back[1::2])
        queue.put_back(back[::2])
    else:
        queue.put_back(back if order == "as they were" else reversed(back))
    assert list(queue) == all_of_them
    assert (len(queue), queue.bytes) == (20, 200)


def test_a_long_queue_is_eaten_from_its_head() -> None:
    queue = UnitQueue(10_000, 1 << 20)
    pool = Bench().pool
    first, second = works(pool, 2000), works(pool, 1000, priority=1)
    for work in second + first:
        queue.push(work, 10)
    left = first + second
    while left:
        for gone in left[3:5]:
            assert queue.discard(gone)
            assert not queue.discard(gone)
            assert gone not in queue
        del left[3:5]
        queue.take(min(7, len(left)))
        back = left[2:4]
        del left[:7]
        queue.put_back(back)
        left = back + left
        assert list(queue) == left
        assert (len(queue), queue.bytes) == (len(left), 10 * len(left))
        queue.take(len(back))
        del left[: len(back)]


# -- whoever raises --------------------------------------------------------------------------------------


def test_a_callback_that_raises_hurts_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(connections=1)
    bench.submit("busy", timeout=5.0)
    bench.accept()
    mine = bench.submit("mine", timeout=0.1)
    mine.when_settled(lambda reply: reply.result())
    others = [bench.submit(f"{number}", timeout=5.0) for number in range(3)]
    bench.advance(0.2)
    assert isinstance(mine.error, DeadlineExceeded)
    assert bench.loop.alive(bench.pool.token)
    assert "callback failed" in capsys.readouterr().out
    bench.sent()
    bench.answer("BUSY")
    for number, reply in enumerate(others):
        assert bench.sent() == [f"{number}"]
        bench.answer("yes")
        assert reply.result() == b"yes"


@pytest.mark.parametrize("how", ["answered", "refused", "reset", "late", "stopped", "not sendable"])
def test_a_callback_may_raise_however_its_unit_ends(how: str) -> None:
    bench = Bench(Half, connections=1, pipeline=4)
    mine = bench.submit("none" if how == "not sendable" else "mine", timeout=1.0)
    mine.when_settled(lambda reply: 1 / 0)
    other = bench.submit("other", timeout=3.0)
    if how == "refused":
        bench.refuse()
    else:
        bench.accept()
    if how == "answered":
        bench.answer("MINE")
    elif how == "reset":
        bench.reset()
    elif how == "late":
        bench.advance(1.1)
    elif how == "stopped":
        bench.loop.kill(bench.pool.token)
    assert mine.settled
    if how == "answered" or how == "not sendable":
        bench.answer("OTHER")
    elif how == "late":
        bench.answer("MINE", "OTHER")
    assert other.settled
    assert bench.add_up()
    assert bench.loop.statistics().crashed == 0


def test_a_unit_that_cannot_hear_that_it_was_dropped_hurts_nobody_else() -> None:
    class Deaf(Ask):
        __slots__ = ()

        def dropped(self) -> None:
            raise RuntimeError("a bug")

    bench = Bench(connections=1)
    bench.submit("busy", timeout=5.0)
    bench.accept()
    deaf = bench.submit(Deaf("deaf"), timeout=0.1)
    bench.advance(0.2)
    assert isinstance(deaf.error, DeadlineExceeded)
    bench.answer("BUSY")
    assert serve(bench) == b"AFTER"


@pytest.mark.parametrize("handler", ["abandoned", "goodbye"])
def test_a_wire_that_raises_while_it_is_told_hurts_nobody_else(handler: str) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    bench = Bench(type("Broken", (LineWire,), {handler: broken}), connections=1, idle_timeout=10.0)
    late = bench.submit("late", timeout=1.0)
    bench.accept()
    bench.advance(1.1)
    assert isinstance(late.error, DeadlineExceeded)
    assert serve(bench) == b"AFTER"
    bench.advance(11.0)
    assert bench.pool.statistics().connections == 0
    assert serve(bench) == b"AFTER"


# -- units that cannot be sent ---------------------------------------------------------------------------


class Half(LineWire):
    """Fails in the middle of `bad`, before the first byte of `none`."""

    __slots__ = ()

    def send(self, work: Work[Any]) -> None:
        if work.unit.line.startswith(b"bad"):
            self.transport.write(b"ba")
            raise ValueError("half way")
        if work.unit.line.startswith(b"none"):
            raise ValueError("not at all")
        super().send(work)


def test_a_unit_that_fails_half_way_takes_nobody_with_it_and_changes_no_order() -> None:
    bench = Bench(Half, connections=1, pipeline=8)
    bench.submit("warm")
    bench.accept()
    bench.sent()
    bench.answer("WARM")
    names = ["1", "2", "bad", "3", "4"]
    replies = {name: bench.submit(name) for name in names}
    bench.accept()
    assert str(replies["bad"].error) == "half way"
    assert bench.sent() == ["1", "2", "3", "4"]
    bench.answer("1", "2", "3", "4")
    assert [reply.result().decode() for name, reply in replies.items() if name != "bad"] == [
        "1",
        "2",
        "3",
        "4",
    ]
    assert bench.pool.statistics().connects_failed == 0


def test_what_had_left_before_it_may_have_been_executed() -> None:
    bench = Bench(Half, connections=1, pipeline=8)
    before = bench.submit("before")
    bench.accept()
    assert bench.sent() == ["before"]
    bench.submit("bad")
    behind = bench.submit("behind")
    bench.accept()
    assert isinstance(before.error, ConnectionLost)
    assert bench.sent() == ["behind"]
    bench.answer("BEHIND")
    assert behind.result() == b"BEHIND"


@pytest.mark.parametrize(
    "order", [["f", "X", "none", "bad"], ["X", "f", "bad", "none"], ["bad", "X", "none"]]
)
def test_what_came_back_while_the_plan_is_carried_out_is_cancelled(order: list[str]) -> None:
    bench = Bench(Half, connections=2, pipeline=2, timeout=5.0)
    for _ in range(2):
        bench.submit("w")
    bench.accept()
    for index in range(2):
        bench.answer("W", index=index)
    books = Books(bench)
    replies = {name: books.submit(name) for name in order}
    replies["none"].when_settled(lambda _: replies["X"].cancel())
    bench.run()
    assert replies["X"].settled
    assert bench.add_up()
    assert [work.unit.line for work in bench.pool.queue if work.settled] == []
    for _ in range(4):
        bench.accept()
        for sock in bench.sockets:
            if not sock.closed:
                for line in sock.delivered().decode().splitlines():
                    sock.arrive(f"{line}\n".encode())
        bench.run()
    assert not books.wrong
    assert all(reply.settled for reply in books.replies)
    assert bench.pool.statistics().queued == bench.pool.statistics().in_flight == 0


# -- units that are taken back ---------------------------------------------------------------------------


class Forgetful(LineWire):
    """`AGAIN` says that the unit was not executed."""

    __slots__ = ()

    def received(self) -> None:
        *lines, rest = bytes(self.transport.input).split(b"\n")
        self.transport.input = rest
        for line in lines:
            if line == b"AGAIN":
                self.connection.take_back()
            else:
                self.connection.settle(line)


def test_a_unit_taken_back_after_its_asker_has_gone_is_over() -> None:
    bench = Bench(Forgetful, connections=1, timeout=50.0, lifetime=100.0)
    gone = bench.submit("gone")
    bench.accept()
    gone.cancel()
    bench.answer("AGAIN")
    now = bench.pool.statistics()
    assert (now.queued, now.in_flight, now.orphans) == (0, 0, 0)
    assert now.backends[0].idle == 1
    assert serve(bench) == b"AFTER"
    bench.advance(101.0)
    assert bench.pool.statistics().connections == 0
    assert bench.add_up()


def test_a_unit_taken_back_goes_before_those_that_came_later() -> None:
    bench = Bench(Forgetful, connections=1, pipeline=2)
    replies = [bench.submit(f"{number}") for number in range(4)]
    bench.accept()
    assert bench.sent() == ["0", "1"]
    bench.answer("AGAIN", "ONE")
    assert bench.sent() == ["0", "2"]
    bench.answer("ZERO", "TWO")
    assert [reply.result() for reply in replies[:3]] == [b"ZERO", b"ONE", b"TWO"]


def test_a_pool_that_crashes_in_the_middle_of_its_plan_settles_what_it_had() -> None:
    class Dead(LineWire):
        __slots__ = ()
        asked = 0

        @property
        def writable(self) -> bool:  # type: ignore[override]
            Dead.asked += self.transport.unsent > 0
            if Dead.asked > 1:
                raise RuntimeError("a bug")
            return True

        @writable.setter
        def writable(self, value: bool) -> None:
            pass

    bench = Bench(Dead, connections=1, pipeline=8)
    replies = [bench.submit(f"{number}") for number in range(6)]
    bench.accept()
    assert not bench.loop.alive(bench.pool.token)
    assert all(reply.settled for reply in replies)
    assert bench.add_up()


# -- what is no unit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["/x", None, b"GET", 7, object])
def test_what_is_no_unit_is_refused_by_name(value: Any) -> None:
    bench = Bench()
    with pytest.raises(Misuse, match="not a unit of work; submit what a function of the protocol makes"):
        bench.pool.submit(value)
    assert bench.add_up()
    assert bench.pool.statistics().submitted == 0


def test_a_units_own_attribute_error_is_told_as_it_is() -> None:
    class Broken(Ask):
        __slots__ = ()

        @property
        def line(self) -> bytes:  # type: ignore[override]
            return self.spelling.encode()  # type: ignore[attr-defined, no-any-return]

        @line.setter
        def line(self, value: bytes) -> None:
            pass

    bench = Bench(connections=1)
    reply = bench.submit(Broken("x"))
    bench.accept()
    error = reply.error
    assert isinstance(error, AttributeError)
    assert "has no attribute 'spelling'" in str(error)
    assert not isinstance(error, ActorError)
    assert any("LineWire.send could not send" in note for note in error.__notes__)


def test_a_units_broken_property_reaches_whoever_submits() -> None:
    class Broken(Unit[bytes]):
        @property
        def detour(self) -> None:  # type: ignore[override]
            return self.missing  # type: ignore[attr-defined, no-any-return]

        @property
        def size(self) -> int:  # type: ignore[override]
            return self.missing  # type: ignore[attr-defined, no-any-return]

    class Big(Broken):
        detour = None  # type: ignore[assignment]

    bench = Bench()
    for unit in (Broken(), Big()):
        with pytest.raises(AttributeError, match="has no attribute 'missing'"):
            bench.submit(unit)
    assert bench.pool.statistics().submitted == 0
    assert serve(bench) == b"AFTER"
