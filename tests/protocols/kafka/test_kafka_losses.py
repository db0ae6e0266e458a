"""The producer against fake brokers: connections, leaders and answers that are lost, in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pools
from protocols import kafka
from protocols.kafka.producer.accumulator import EPOCH_MAX
from protocols.kafka.protocol import api
from tests.protocols.kafka.fake_kafka import HANG, LOSE, RESET, FakeKafka, refusing


def test_what_was_written_before_the_answer_was_lost_is_not_written_twice() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, LOSE)
    replies = fake.send(b"1", b"2")
    fake.advance(1)
    assert [reply.result().offset for reply in replies] == [0, 1]
    assert fake.values() == [b"1", b"2"]
    assert fake.pool.statistics().retried == 1


def test_without_idempotence_it_is() -> None:
    fake = FakeKafka(idempotent=False)
    fake.script(api.Produce, LOSE)
    fake.send(b"1", b"2")
    fake.advance(1)
    assert fake.values() == [b"1", b"2", b"1", b"2"]
    assert not fake.asked(api.InitProducerId)


def test_a_leader_that_has_moved_is_found() -> None:
    fake = FakeKafka(nodes=2)
    fake.send(b"1")
    fake.run()
    fake.topics["t"] = [2]
    (reply,) = fake.send(b"2")
    fake.advance(1)
    assert reply.result().offset == 1
    assert fake.values() == [b"1", b"2"]


def test_a_broker_that_is_gone_is_left_for_the_new_leader() -> None:
    fake = FakeKafka(nodes=3, topics={"t": [1, 2, 3]})
    fake.send(b"0", partition=1)
    fake.run()
    fake.down.add(2)
    fake.reset(2)
    (reply,) = fake.send(b"1", partition=1)
    fake.advance(0.5)
    assert not reply.settled
    fake.topics["t"] = [1, 3, 3]
    fake.advance(2)
    assert reply.result().partition == 1
    assert fake.values("t", 1) == [b"0", b"1"]


def test_an_advertised_address_that_cannot_be_reached_is_named() -> None:
    fake = FakeKafka(nodes=2, topics={"t": [2]})
    fake.down.add(2)
    (reply,) = fake.send(b"1", timeout=3)
    fake.advance(3)
    assert isinstance(reply.error, pools.DeadlineExceeded)
    assert reply.error.stage == "connecting"
    assert "broker 2, which advertises 192.0.2.2:9092 cannot be reached" in str(reply.error)


def test_a_leader_that_has_lost_that_office_may_have_written() -> None:
    fake = FakeKafka(nodes=2)

    def had_it(node: int, request: Any) -> api.ProduceResponse:
        fake.produce(node, request)
        return refusing(6)(node, request)  # type: ignore[return-value]

    fake.script(api.Produce, had_it)
    one, two = fake.send(b"1", b"2")
    fake.run()
    one.cancel()  # too late: the same batch goes again, or the broker could not tell
    fake.topics["t"] = [2]
    fake.advance(1)
    assert two.result().offset == 1
    assert fake.values() == [b"1", b"2"]
    assert fake.pool.statistics().epochs == 0


def test_an_election_is_waited_for() -> None:
    fake = FakeKafka(topics={"t": [-1]})
    (reply,) = fake.send(b"1")
    fake.advance(3)
    assert not reply.settled
    fake.topics["t"] = [1]
    fake.advance(2)
    assert reply.result().offset == 0


def test_a_broker_that_has_lost_our_messages_gets_a_new_epoch() -> None:
    fake = FakeKafka()
    fake.send(b"1", b"2")
    fake.run()
    fake.sequences.clear()  # and with them what it knows of us
    fake.sequences[7001, "t", 0] = (0, 1, 0)
    (reply,) = fake.send(b"3")
    fake.advance(1)
    assert reply.result().offset == 2
    assert fake.pool.statistics().epochs == 1


def test_replicas_that_are_late_may_have_it() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, refusing(7), refusing(20))
    (reply,) = fake.send(b"1", timeout=20)
    fake.advance(2)
    assert reply.result().offset == 0
    fake.script(api.Produce, refusing(7), refusing(29, message="no ACL"))
    (refused,) = fake.send(b"2")
    fake.advance(2)
    assert isinstance(refused.error, kafka.KafkaError)
    assert refused.error.name == "TOPIC_AUTHORIZATION_FAILED"
    assert "may have been written" in str(refused.error)


def test_a_new_address_of_a_broker_is_used() -> None:
    fake = FakeKafka(metadata_age=5.0)
    fake.send(b"1")
    fake.run()
    fake.nodes[1] = "192.0.2.9"
    fake.topics["t"] = [9]
    fake.nodes[9] = fake.nodes.pop(1)
    fake.advance(6)
    (reply,) = fake.send(b"2")
    fake.advance(1)
    assert reply.result().offset == 1
    assert fake.seen[-1][0] == 9


def test_an_answer_that_does_not_name_a_partition_is_none() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, api.ProduceResponse([], 0))
    (reply,) = fake.send(b"1")
    fake.advance(1)
    assert reply.result().offset == 0
    assert fake.pool.statistics().retried == 1


def test_after_the_last_epoch_there_is_another_identity() -> None:
    fake = FakeKafka()
    fake.send(b"1")
    fake.run()
    (partition,) = fake.pool.topics.partitions
    partition.epoch = EPOCH_MAX
    fake.sequences[7001, "t", 0] = (EPOCH_MAX, 9, 0)
    (reply,) = fake.send(b"2")
    fake.advance(1)
    assert reply.result().offset == 1
    assert (partition.producer, partition.epoch, partition.sequence) == (7002, 0, 1)


def test_a_cluster_that_says_nothing_useful_is_asked_again() -> None:
    fake = FakeKafka(nodes=2, topics={"t": [2]}, metadata_age=1.0)
    (reply,) = fake.send(b"1")
    fake.run()
    assert reply.error is None
    nodes, fake.nodes = fake.nodes, {}
    fake.advance(2)  # an answer without brokers is not believed
    assert fake.pool.cluster.nodes
    fake.nodes = {1: nodes[1]}
    fake.advance(2)  # and one where the leader is not among them names none
    (waits,) = fake.send(b"2")
    fake.advance(2)
    assert not waits.settled
    fake.nodes = nodes
    fake.advance(3)
    assert waits.result().offset == 1


def test_a_cluster_that_is_asked_for_a_broker_it_has_not() -> None:
    fake = FakeKafka()
    fake.send(b"1")
    fake.run()
    cluster = fake.pool.cluster
    missing = cluster.call(api.Metadata([]), 77)
    assert isinstance(missing.error, pools.BackendDown)
    assert "no broker 77" in str(missing.error)
    assert repr(cluster) == "<Cluster 192.0.2.1:9092, 1 brokers, 1 topics, 2 refreshes>"
    cluster.forget("t")
    assert not cluster.topics


def test_acks_0_settles_without_an_answer() -> None:
    fake = FakeKafka(acks=0)
    replies = fake.send(b"1", b"2")
    fake.run()
    assert [reply.result().offset for reply in replies] == [-1, -1]
    assert fake.values() == [b"1", b"2"]
    more = fake.send(b"3")
    fake.run()
    assert more[0].settled


# -- anything may happen ---------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.05, 0.3, 2.0, 11.0])),
        st.tuples(st.just("script"), st.sampled_from([RESET, LOSE, HANG, 7, 6, 20, 19, 10])),
        st.tuples(st.just("lead"), st.integers(1, 2)),
        st.tuples(st.just("toggle"), st.integers(1, 2)),
        st.tuples(st.just("reset"), st.integers(1, 2)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=30,
)


@pytest.mark.no_cover
@settings(max_examples=150, deadline=None)
@given(EVENTS, st.booleans())
def test_whatever_happens_nothing_is_lost_doubled_or_out_of_order(
    events: list[tuple[str, Any]], linger: bool
) -> None:
    fake = FakeKafka(nodes=2, linger=0.1 if linger else 0.0)
    replies: list[Any] = []
    for event, value in events:
        if event == "send":
            replies += fake.send(*(b"%d" % (len(replies) + number) for number in range(value)))
        elif event == "advance":
            fake.advance(value)
        elif event == "script":
            fake.script(api.Produce, refusing(value) if isinstance(value, int) else value)
        elif event == "lead":
            fake.topics["t"] = [value]
        elif event == "toggle":
            fake.down ^= {value}
            fake.reset(value)
        elif event == "reset":
            fake.reset(value)
        elif value < len(replies):
            replies[value].cancel()
    fake.down.clear()
    fake.scripts.clear()
    fake.advance(60)
    written = [int(value or b"") for value in fake.values()]
    assert written == sorted(set(written))
    for number, reply in enumerate(replies):
        if reply.error is None:
            assert written[reply.result().offset] == number
    assert fake.add_up()
    assert not fake.pool.waiting
    assert fake.loop.statistics().crashed == 0
