"""Logs that are not the ones that were read: cut off by an unclean election, or of a topic made anew. On the
simulated cluster; nothing of the log that is there now is left out, and nothing happens in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from actors import Listener, Loop
from actors.testing import run_until
from protocols import kafka
from protocols.kafka import TopicPartition
from protocols.kafka.protocol.fetch_api import Fetch
from protocols.kafka.simulated import Broker, SimulatedKafka
from protocols.kafka.simulated.server import HANDLERS, REQUESTS

PART = TopicPartition("t", 0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


class Served:
    """Three simulated brokers on real sockets, a producer, and readers."""

    def __init__(self, loop: Loop, partitions: int = 1) -> None:
        self.loop = loop
        self.cluster = SimulatedKafka(dict.fromkeys((1, 2, 3), "127.0.0.1:1"), {"t": partitions})
        for node in self.cluster.addresses:
            listener = loop.spawn(Listener("127.0.0.1:0", Broker(self.cluster, node)))
            self.cluster.advertise(node, str(listener.address))
        self.bootstrap = "{}:{}".format(*self.cluster.addresses[1])
        self.pool = loop.spawn(kafka.pool(self.bootstrap, timeout=5, batch_bytes=1))

    def write(self, name: str, count: int) -> list[bytes]:
        values = [b"%s %d" % (name.encode(), number) for number in range(count)]
        replies = [self.pool.submit(kafka.message("t", value, partition=0)) for value in values]
        run_until(self.loop, lambda: all(reply.settled for reply in replies))
        assert [reply.error for reply in replies] == [None] * count
        return values

    def reader(self, *, reset: Any = "earliest", **options: Any) -> kafka.Consumer:
        made = kafka.consumer(
            self.bootstrap, "t", auto_offset_reset=reset, fetch_wait=0.02, metadata_age=0.1, **options
        )
        reader: Any = self.loop.spawn(made)
        self.loop.run_until(reader.subscribed)
        return reader

    def read(self, reader: kafka.Consumer, count: int) -> list[bytes | None]:
        async def some() -> list[bytes | None]:
            return [(await reader.receive()).value for _ in range(count)]

        reply = self.loop.spawn(some())
        run_until(self.loop, lambda: reply.settled)
        return reply.result()


def told(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "log has changed"]


def test_a_paused_reader_misses_nothing_after_an_unclean_election(loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 80)
    reader = served.reader()
    assert len(served.read(reader, 80)) == 80
    reader.pause(PART)
    with structlog.testing.capture_logs() as logs:
        served.cluster.lose("t", 0, 30)
        new = served.write("new", 50)
        served.write("more", 5)
        reader.resume(PART)
        found = served.read(reader, 55)
    assert found[:50] == new
    assert reader.statistics().parted == 1
    (line,) = told(logs)
    assert (line["delivered"], line["goes_on"], line["log_level"]) == (80, 30, "warning")


def test_so_does_one_that_has_only_waited_at_the_end(loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 80)
    reader = served.reader(reset="latest")
    reader.pause(PART)
    served.cluster.lose("t", 0, 30)
    new = served.write("new", 60)
    reader.resume(PART)
    assert served.read(reader, 60) == new


def test_and_one_that_was_sent_there(loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 80)
    reader = served.reader()
    reader.seek(PART, 80)
    served.write("last", 1)
    assert served.read(reader, 1) == [b"last 0"]
    served.cluster.lose("t", 0, 30)
    new = served.write("new", 60)
    assert served.read(reader, 60) == new


def test_a_reader_that_is_behind_reads_what_is_left_and_then_the_new(loop: Loop) -> None:
    served = Served(loop)
    old = served.write("old", 80)
    reader = served.reader()
    assert served.read(reader, 10) == old[:10]
    reader.pause(PART)
    served.cluster.lose("t", 0, 30)
    new = served.write("new", 60)
    reader.resume(PART)
    assert served.read(reader, 80) == old[10:30] + new
    assert reader.positions() == {PART: 90}


def test_what_is_stored_with_a_group_is_held_against_the_log(loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 80)
    first = served.reader(group="g")
    served.read(first, 80)
    loop.run_until(first.close())
    served.cluster.lose("t", 0, 30)
    new = served.write("new", 60)
    second = served.reader(group="g")
    assert served.read(second, 60) == new
    loop.run_until(second.commit())
    assert served.cluster.groups["g"].offsets["t", 0] == 90
    loop.run_until(second.close())


def test_where_it_has_gone_back_to_is_stored_though_it_is_less(loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 80)
    reader = served.reader(group="g", auto_commit=0.02)
    served.read(reader, 80)
    run_until(loop, lambda: served.cluster.groups["g"].offsets.get(("t", 0)) or served.read(reader, 0))
    served.cluster.lose("t", 0, 30)
    served.write("new", 2)
    served.read(reader, 2)
    loop.run_until(reader.close())
    assert served.cluster.groups["g"].offsets["t", 0] == 32


@pytest.mark.parametrize("kind", ["lost", "anew"])
def test_who_wants_to_decide_is_told(kind: str, loop: Loop) -> None:
    served = Served(loop)
    served.write("old", 10)
    reader = loop.spawn(
        kafka.consumer(
            served.bootstrap,
            partitions={("t", 0): 0},
            auto_offset_reset="none",
            fetch_wait=0.02,
            metadata_age=0.1,
        )
    )
    served.read(reader, 10)
    if kind == "lost":
        served.cluster.lose("t", 0, 3)
    else:
        served.cluster.delete("t")
        served.cluster.create("t", 1)
    served.write("new", 20)
    with pytest.raises(kafka.NoOffset, match="is gone; seek"):
        served.read(reader, 1)


@pytest.mark.parametrize("elections", [1, 2, 5])
def test_an_election_that_loses_nothing_changes_nothing(elections: int, loop: Loop) -> None:
    served = Served(loop)
    reader = served.reader()
    expected = []
    for _ in range(elections):
        expected += served.write("some", 7)
        served.read(reader, 4)
        served.cluster.move("t", 0)
        served.cluster.move("t", 0)
    expected += served.write("last", 3)
    assert len(served.read(reader, len(expected) - 4 * elections)) == len(expected) - 4 * elections
    assert reader.statistics().parted == 0


def test_election_after_election_each_losing_something(loop: Loop) -> None:
    served = Served(loop)
    reader = served.reader()
    end = 0
    for round_ in range(6):
        new = served.write(f"round {round_}", 10)
        assert served.read(reader, 10) == new
        end += 10 if round_ % 2 else 4
        served.cluster.lose("t", 0, end)
    assert reader.statistics().parted >= 3


@pytest.mark.parametrize(("by_id", "paused"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_a_topic_made_anew_is_read_from_its_beginning(
    by_id: bool, paused: bool, reset: str, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_id:
        monkeypatch.setitem(REQUESTS, 1, OldFetch)
        monkeypatch.setitem(HANDLERS, OldFetch, Broker.fetch)
    served = Served(loop)
    reader = served.reader(reset=reset)
    served.write("old", 10)
    served.read(reader, 10)
    if paused:
        reader.pause(PART)
    with structlog.testing.capture_logs() as logs:
        served.cluster.delete("t")
        served.cluster.create("t", 1)
        new = served.write("new", 20)
        if paused:
            if not by_id:
                run_until(loop, lambda: reader.statistics().parted)
            reader.resume(PART)
        assert served.read(reader, 20) == new
    assert reader.statistics().parted == 1
    assert len(told(logs)) == 1


class OldFetch(Fetch):
    """As brokers before Kafka 3.1 speak it."""

    api = Fetch.api._replace(newest=12)
