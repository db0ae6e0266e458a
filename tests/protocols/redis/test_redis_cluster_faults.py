"""A cluster whose nodes the test plays, on a kernel without sockets: nodes that lie, disagree, vanish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hiredis
import pytest
import structlog

from actors import Loop, Misuse, TcpAddress, deadline
from actors.testing import FakeSocket, ManualKernel
from pools import BackendDown, Cancelled, ConnectionLost, DeadlineExceeded, PoolClosed, QueueFull
from pools.testing import Ask
from protocols import redis
from protocols.redis.slots import SLOTS, key_slot

Answer = Callable[[int, list[bytes]], Any]
HELLO = b"%1\r\n+version\r\n+7.0.15\r\n"
A, B = 7001, 7002
SILENCE = object()


def packed(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(packed(part) for part in value)
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"_\r\n"
    if isinstance(value, str):
        return f"{value}\r\n".encode()  # as it stands: +OK, -MOVED …
    return b"$%d\r\n%b\r\n" % (len(value), value)


def the_map(*nodes: tuple[int, int, int]) -> list[Any]:
    return [[first, last, [b"10.0.0.1", port, b"id"]] for first, last, port in nodes]


HALVES = the_map((0, 8191, A), (8192, SLOTS - 1, B))
LOW, HIGH = "b", "a"  # keys of A's half and of B's
assert key_slot(LOW.encode()) < 8192 <= key_slot(HIGH.encode())


class Fake:
    """A cluster of as many nodes as anybody connects to. `answer(port, command)` is what each says."""

    def __init__(self, answer: Answer, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.answer = answer
        self.map: Any = HALVES
        self.asked: list[tuple[int, list[bytes]]] = []
        self.down: set[int] = set()
        self._readers: dict[FakeSocket, hiredis.Reader] = {}
        urls = options.pop("urls", f"redis://10.0.0.1:{A}")
        self.cluster: redis.Cluster = self.loop.spawn(redis.cluster(urls, connections=1, **options))

    def run(self, ticks: int = 40) -> None:
        for _ in range(ticks):
            self.loop.tick(0)
            for sock in self.kernel.sockets:
                if not sock.closed:
                    self._play(sock)

    def _play(self, sock: FakeSocket) -> None:
        assert isinstance(sock.address, TcpAddress)
        port = sock.address.port
        if port in self.down:
            if sock not in self._readers:
                sock.refuse()
            else:
                sock.reset()
            return
        if sock not in self._readers:
            sock.accept_connection()
            self._readers[sock] = hiredis.Reader(notEnoughData=SILENCE)
        reader = self._readers[sock]
        reader.feed(sock.delivered())
        while (command := reader.gets()) is not SILENCE:
            if command[0] == b"HELLO":
                sock.arrive(HELLO)
                continue
            self.asked.append((port, command))
            said = self.map if command[0] == b"CLUSTER" else self.answer(port, command)
            if callable(said):
                said = said()
            if said is not SILENCE:
                sock.arrive(packed(said))

    def advance(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.kernel.clock.advance(step)
            self.run(6)

    def ask(self, unit: Any, **options: Any) -> Any:
        reply = self.cluster.submit(unit, **options)
        self.run()
        return reply

    def count(self, name: bytes) -> int:
        return sum(command[0] == name for _, command in self.asked)

    def adds_up(self) -> bool:
        now = self.cluster.statistics()
        return (
            now.submitted == now.succeeded + sum(now.failed.values()) + now.queued + now.in_flight
            and now.queued >= 0
            and now.in_flight >= 0
        )


def echo(port: int, command: list[bytes]) -> Any:
    return b"%d:" % port + command[-1]


def test_units_go_where_their_keys_live() -> None:
    fake = Fake(echo)
    assert fake.ask(redis.get(LOW)).result() == b"7001:b"
    assert fake.ask(redis.get(HIGH)).result() == b"7002:a"
    whole = fake.ask(redis.pipeline(redis.get(HIGH), redis.get(LOW), redis.get("{a}x"), redis.echo("e")))
    assert whole.result()[:3] == [b"7002:a", b"7001:b", b"7002:{a}x"]
    assert {fake.ask(redis.echo("e")).result() for _ in range(4)} == {b"7001:e", b"7002:e"}
    assert fake.count(b"CLUSTER") == 1
    assert fake.cluster.node_of(HIGH) == TcpAddress("10.0.0.1", B)
    assert len(fake.cluster.masters()) == 2
    assert fake.adds_up()


def test_units_of_the_first_moment_wait_for_one_map() -> None:
    fake = Fake(echo)
    replies = [fake.cluster.submit(redis.get(key)) for key in (LOW, HIGH) * 50]
    assert fake.cluster.statistics().queued == 100
    fake.run()
    assert all(reply.settled for reply in replies)
    assert fake.count(b"CLUSTER") == 1


def test_moved_is_followed_and_remembered() -> None:
    fake = Fake(lambda port, command: "-MOVED 3300 10.0.0.1:7002" if port == A else echo(port, command))
    slot = key_slot(LOW.encode())
    fake.answer = lambda port, command: f"-MOVED {slot} 10.0.0.1:7002" if port == A else echo(port, command)
    reply = fake.cluster.submit(redis.get(LOW))
    fake.run(8)
    fake.map = the_map((0, SLOTS - 1, B))
    fake.run()
    assert reply.result() == b"7002:b"
    assert fake.ask(redis.get(LOW)).result() == b"7002:b"
    assert fake.cluster.moved == 1
    fake.advance(0.2)
    assert fake.cluster.refreshed == 2
    assert len(fake.cluster.masters()) == 1  # A has left
    assert fake.cluster.statistics().connections == 1
    assert fake.adds_up()


def test_ask_is_for_once_and_in_one_write() -> None:
    def answer(port: int, command: list[bytes]) -> Any:
        if port == A and LOW.encode() in command:
            return f"-ASK {key_slot(LOW.encode())} 10.0.0.1:7009"
        return "+OK" if command == [b"ASKING"] else echo(port, command)

    fake = Fake(answer)
    for _ in range(2):
        assert fake.ask(redis.get(LOW)).result() == b"7009:b"
    assert fake.asked[-2:] == [(7009, [b"ASKING"]), (7009, [b"GET", b"b"])]
    assert fake.cluster.refreshed == 1
    assert fake.cluster.node_of(LOW) == TcpAddress("10.0.0.1", A)
    assert fake.ask(redis.blpop(LOW, seconds=1)).result() is not None
    assert fake.ask(redis.pipeline(redis.get(LOW), redis.get(LOW), redis.get("{b}c"))).result() == [
        b"7009:b",
        b"7009:b",
        b"7001:{b}c",
    ]


def test_nodes_that_send_each_other_round_and_round() -> None:
    def answer(port: int, command: list[bytes]) -> Any:
        return f"-MOVED {key_slot(command[1])} 10.0.0.1:{A + B - port}"

    fake = Fake(answer, redirects=5)
    reply = fake.ask(redis.get(LOW))
    fake.advance(3.0)
    assert isinstance(reply.error, redis.RedisError)
    assert "followed 5 times" in str(reply.error)
    assert fake.count(b"GET") == 6
    assert fake.count(b"CLUSTER") <= 8
    assert fake.adds_up()


@pytest.mark.parametrize(
    "text", ["-MOVED", "-MOVED 1 x", "-ASK 99999 10.0.0.1:7001", "-MOVED x 10.0.0.1:7001"]
)
def test_a_redirect_that_is_garbage(text: str) -> None:
    fake = Fake(lambda port, command: text)
    reply = fake.ask(redis.get(LOW))
    assert isinstance(reply.error, redis.BadReply)
    whole = fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH)))
    assert isinstance(whole.error, redis.BadReply)
    assert fake.adds_up()


def test_a_redirect_without_a_host_stays_on_the_host() -> None:
    def answer(port: int, command: list[bytes]) -> Any:
        return f"-MOVED {key_slot(command[1])} :{B}" if port == A else echo(port, command)

    assert Fake(answer).ask(redis.get(LOW)).result() == b"7002:b"


@pytest.mark.parametrize(
    "text",
    [
        "-TRYAGAIN Multiple keys", "-CLUSTERDOWN The cluster is down", "-LOADING Redis",
        "-READONLY You can't write against a read only replica.", "-MASTERDOWN Link with MASTER is down",
    ],
)  # fmt: skip
def test_what_cannot_be_served_now_is_tried_until_the_deadline(text: str) -> None:
    fake = Fake(lambda port, command: text)
    reply = fake.ask(redis.get(LOW), timeout=2.0)
    later = fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH)), timeout=5.0)
    fake.advance(2.1)
    assert isinstance(reply.error, DeadlineExceeded)
    assert text[1:] in str(reply.error)
    assert reply.error.stage == "queued"
    assert 5 < fake.count(b"GET") < 60
    assert fake.count(b"CLUSTER") <= 25
    fake.answer = echo
    fake.advance(1.0)
    assert later.result() == [b"7001:b", b"7002:a"]
    assert fake.adds_up()


NOW_A_REPLICA = (
    "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)


def test_who_waits_at_a_master_that_becomes_a_replica_waits_at_the_next_one() -> None:
    fake = Fake(lambda port, command: NOW_A_REPLICA if port == A else SILENCE)
    waiting = fake.ask(redis.blpop(LOW))
    assert not waiting.settled
    fake.map = the_map((0, 8191, 7009), (8192, SLOTS - 1, B))
    fake.answer = lambda port, command: NOW_A_REPLICA if port == A else [LOW.encode(), b"%d" % port]
    fake.advance(1.0)
    assert waiting.result() == (b"b", b"7009")
    assert fake.adds_up()


@pytest.mark.parametrize("loading", [["FUNCTION", "LOAD", "#!lua name=x"], ["SCRIPT", "LOAD", "return 1"]])
@pytest.mark.parametrize("gone", [True, False])
def test_a_command_for_every_node_that_finds_no_master_has_the_map_asked_for(
    loading: list[str], gone: bool
) -> None:
    def answer(port: int, command: list[bytes]) -> Any:
        return "-READONLY You can't write against a read only replica." if port == A else b"x"

    fake = Fake(answer)
    first = fake.ask(redis.command(*loading))
    assert isinstance(first.error, redis.RedisError)
    fake.map = the_map((0, 8191, 7009), (8192, SLOTS - 1, B))
    with structlog.testing.capture_logs():
        if gone:
            fake.down.add(A)
        fake.ask(redis.command(*loading))
        fake.advance(0.5)
    assert fake.ask(redis.command(*loading)).result() == b"x"
    assert fake.adds_up()


def test_a_node_that_goes_away_and_the_one_that_takes_over() -> None:
    fake = Fake(echo)
    fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH)))
    fake.answer = lambda port, command: SILENCE if port == A else echo(port, command)
    read, write = fake.ask(redis.get(LOW)), fake.ask(redis.incrby(LOW))
    with structlog.testing.capture_logs() as logs:
        fake.down.add(A)
        fake.run()
        unsent = fake.ask(redis.incrby(LOW))
        fake.advance(1.0)
        assert isinstance(write.error, ConnectionLost)
        assert not read.settled
        assert not unsent.settled
        assert fake.ask(redis.get(HIGH)).result() == b"7002:a"
        fake.map = the_map((0, 8191, 7009), (8192, SLOTS - 1, B))
        fake.advance(1.0)
    assert read.result() == b"7009:b"
    assert unsent.result() == b"7009:1"
    assert [entry["event"] for entry in logs].count("cannot connect") < 8
    assert fake.adds_up()
    assert TcpAddress("10.0.0.1", A) not in [pool.backends[0].address for pool in fake.cluster.masters()]


def test_when_nobody_can_be_reached_it_says_so_at_once() -> None:
    fake = Fake(echo, urls=[f"redis://10.0.0.1:{A}", f"redis://10.0.0.1:{B}"])
    fake.down |= {A, B}
    with structlog.testing.capture_logs():
        first = fake.ask(redis.get(LOW))
        assert isinstance(first.error, BackendDown)
        assert "refused" in str(first.error)
        second = fake.ask(redis.get(HIGH))
        assert isinstance(second.error, BackendDown)
        assert second.error is not first.error  # each has a traceback of its own
        assert isinstance(fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH))).error, BackendDown)
        fake.down.clear()
        fake.advance(3.0)
    assert fake.ask(redis.get(LOW)).result() == b"7001:b"
    assert fake.adds_up()


def test_the_next_seed_is_asked_when_one_is_silent_or_lies() -> None:
    fake = Fake(echo, urls=[f"redis://10.0.0.1:{port}" for port in (7005, 7006, A)])
    maps: list[Any] = [HALVES, b"nonsense", SILENCE]
    fake.map = maps.pop
    reply = fake.ask(redis.get(LOW))
    fake.advance(1.2)
    assert reply.result() == b"7001:b"
    assert len(fake.cluster.masters()) == 2


def test_a_server_that_is_no_cluster() -> None:
    fake = Fake(echo)
    fake.map = "-ERR This instance has cluster support disabled"
    error = fake.ask(redis.get(LOW)).error
    assert isinstance(error, BackendDown)
    assert "cluster support disabled" in str(error)


def test_a_cluster_without_slots_and_one_with_a_hole() -> None:
    fake = Fake(echo)
    fake.map = []
    error = fake.ask(redis.get(LOW)).error
    assert "no slots yet" in str(error)
    fake.map = the_map((8192, SLOTS - 1, B))
    fake.advance(3.0)
    assert fake.ask(redis.get(HIGH)).result() == b"7002:a"
    reply = fake.ask(redis.get(LOW), timeout=1.0)
    fake.advance(0.5)
    fake.map = HALVES
    fake.advance(0.3)
    assert reply.result() == b"7001:b"


def test_a_node_under_a_name_that_is_none_here() -> None:
    fake = Fake(echo)
    fake.map = [[0, SLOTS - 1, [b"redis-0.internal", 6379]]]
    with structlog.testing.capture_logs():
        reply = fake.ask(redis.get(LOW), timeout=1.0)
        fake.advance(1.1)
    assert isinstance(reply.error, DeadlineExceeded)
    assert "announces this node as redis-0.internal:6379" in str(reply.error)
    assert "cluster-announce" in str(reply.error)


def test_a_node_that_refuses_us_is_not_waited_for() -> None:
    fake = Fake(echo, password="wrong")
    fake.ask(redis.get(LOW))

    def refuse(sock: FakeSocket) -> None:
        sock.arrive(b"-WRONGPASS invalid username-password pair\r\n")

    fake.map = the_map((0, SLOTS - 1, 7009))
    play = fake._play

    def refusing(sock: FakeSocket) -> None:
        assert isinstance(sock.address, TcpAddress)
        if sock.address.port != 7009:
            play(sock)
        elif sock not in fake._readers:
            sock.accept_connection()
            fake._readers[sock] = hiredis.Reader()
            refuse(sock)

    fake._play = refusing  # type: ignore[method-assign]
    fake.answer = lambda port, command: f"-MOVED {key_slot(command[1])} 10.0.0.1:7009"
    with structlog.testing.capture_logs():
        error = fake.ask(redis.get(LOW)).error
    assert isinstance(error, BackendDown)
    assert "password is wrong" in str(error)


def test_a_cancelled_unit_is_told_to_whoever_has_it() -> None:
    fake = Fake(lambda port, command: SILENCE)
    waiting = fake.cluster.submit(redis.get(LOW))
    assert waiting.cancel()
    assert isinstance(waiting.error, Cancelled)
    assert not waiting.cancel()
    fake.run()
    sent = fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH)))
    assert sent.cancel()
    fake.run()
    assert isinstance(sent.error, Cancelled)
    assert fake.cluster.statistics().orphans == 2
    fake.answer = lambda port, command: "-TRYAGAIN"
    fake.advance(6.0)
    parked = fake.ask(redis.get(LOW))
    assert fake.cluster.parked
    assert parked.cancel()
    assert not fake.cluster.parked
    assert fake.cluster.statistics().failed == {"Cancelled": 3}
    assert fake.adds_up()


def test_deadlines_count_everything() -> None:
    fake = Fake(echo)
    fake.map = lambda: SILENCE
    with deadline(0.5):
        reply = fake.cluster.submit(redis.get(LOW))
    fake.advance(0.6)
    assert isinstance(reply.error, DeadlineExceeded)
    assert "was not known" in str(reply.error)
    fake.map = HALVES
    fake.advance(2.0)
    fake.answer = lambda port, command: SILENCE
    late = fake.ask(redis.get(LOW), timeout=0.3)
    fake.advance(0.4)
    assert isinstance(late.error, DeadlineExceeded)
    assert late.error.stage == "sent"
    assert fake.adds_up()


def test_a_pipeline_whose_parts_all_wait_fails_once() -> None:
    fake = Fake(echo)
    fake.map = lambda: SILENCE
    units = [redis.get(LOW), redis.get(HIGH), redis.get("c")]
    late = fake.ask(redis.pipeline(*units), timeout=0.3)
    fake.advance(0.4)
    assert isinstance(late.error, DeadlineExceeded)
    fake.down.add(A)
    with structlog.testing.capture_logs():
        down = fake.ask(redis.pipeline(*units), timeout=5.0)
        fake.advance(3.0)
    assert isinstance(down.error, BackendDown)
    assert fake.loop.statistics().crashed == 0
    assert fake.adds_up()


def test_no_more_wait_than_there_is_room_for() -> None:
    fake = Fake(echo, queue=3)
    replies = [fake.cluster.submit(redis.get(LOW)) for _ in range(5)]
    assert [type(reply.error).__name__ for reply in replies if reply.settled] == ["QueueFull"] * 2
    assert isinstance(replies[-1].error, QueueFull)
    fake.run()
    assert Counter(reply.error is None for reply in replies) == {True: 3, False: 2}


def test_a_drain_finishes_what_is_there() -> None:
    fake = Fake(
        lambda port, command: (
            f"-MOVED {key_slot(command[1])} 10.0.0.1:{B}" if port == A else echo(port, command)
        )
    )
    reply = fake.cluster.submit(redis.get(LOW))
    fake.loop.drain(5.0)
    fake.run()
    assert reply.result() == b"7002:b"
    assert isinstance(fake.cluster.submit(redis.get(LOW)).error, PoolClosed)
    assert fake.loop.machines == 0


def test_stopped_everything_settles() -> None:
    fake = Fake(lambda port, command: SILENCE)
    fake.ask(redis.get(LOW)).cancel()
    replies = [fake.cluster.submit(redis.get(LOW)), fake.cluster.submit(redis.pipeline(redis.get(HIGH)))]
    fake.run()
    fake.map = lambda: SILENCE
    fake.cluster._table = [None] * SLOTS
    replies.append(fake.cluster.submit(redis.get(LOW)))
    fake.loop.kill(fake.cluster.token)
    assert [type(reply.error) for reply in replies] == [PoolClosed] * 3
    assert "has stopped" in str(fake.cluster.submit(redis.get(LOW)).error)
    fake.run()
    assert fake.loop.machines == 0
    assert fake.adds_up()


def test_a_nodes_pool_that_was_stopped_is_made_anew() -> None:
    fake = Fake(lambda port, command: SILENCE)
    sent = fake.ask(redis.get(LOW))
    fake.loop.kill(fake.cluster.masters()[0].token)
    fake.loop.kill(fake.cluster.masters()[1].token)
    assert isinstance(sent.error, ConnectionLost)
    fake.answer = echo
    fake.advance(0.3)
    assert fake.ask(redis.pipeline(redis.get(LOW), redis.get(HIGH))).result() == [b"7001:b", b"7002:a"]


def test_what_is_no_unit_of_a_cluster() -> None:
    fake = Fake(echo)
    with pytest.raises(Misuse, match=r"not a unit of protocols\.redis"):
        fake.cluster.submit(Ask("x"))
    with pytest.raises(ValueError, match="write 0"):
        fake.cluster.submit(redis.get("a"), priority=4)
    for unit in (redis.dbsize(), redis.scan(), redis.flushdb()):
        error = fake.ask(unit).error
        assert isinstance(error, Misuse)
        assert "cluster.masters()" in str(error)
    assert isinstance(fake.ask(redis.mget(LOW, HIGH)).error, redis.CrossSlot)
    assert isinstance(fake.ask(redis.pipeline(redis.mget(LOW, HIGH))).error, redis.CrossSlot)
    assert fake.asked[1:] == []
    assert "parked" in repr(fake.cluster)


def test_errors_of_a_pipelines_own_commands() -> None:
    fake = Fake(lambda port, command: "-WRONGTYPE no" if command[1] == b"a" else b"7")
    units = [redis.get(LOW), redis.get(HIGH), redis.hgetall("{b}h")]
    assert isinstance(fake.ask(redis.pipeline(*units[:2])).error, redis.RedisError)
    kept = fake.ask(redis.pipeline(*units[:2], keep_errors=True)).result()
    assert kept[0] == b"7"
    assert kept[1].code == "WRONGTYPE"
    assert isinstance(fake.ask(redis.pipeline(units[0], units[2])).error, redis.BadReply)


def test_a_part_of_a_pipeline_that_is_lost_is_the_whole() -> None:
    fake = Fake(echo)
    fake.ask(redis.get(LOW))
    fake.answer = lambda port, command: SILENCE
    whole = fake.ask(redis.pipeline(redis.incrby(LOW), redis.get(HIGH)))
    fake.down.add(A)
    with structlog.testing.capture_logs():
        fake.run()
    assert isinstance(whole.error, ConnectionLost)
    assert fake.adds_up()


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        ([], "name at least one"),
        (["redis://host/3"], "has only 0"),
        (["unix:///a.sock"], "not the address of a cluster's node"),
        (["redis://:a@host", "redis://:b@host"], "differ in user"),
        (["http://host"], "write redis://"),
    ],
)
def test_urls_of_no_cluster(urls: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        redis.cluster(urls)
