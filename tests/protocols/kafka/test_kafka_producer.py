"""The producer against fake brokers: what becomes of messages, whatever happens on the way."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pools
from protocols import kafka
from protocols.kafka.producer.accumulator import Batch, Partition, Sending, pack, pack_plain
from protocols.kafka.protocol import api
from tests.protocols.kafka.fake_kafka import HANG, RESET, FakeKafka, refusing


def test_a_message_is_written_and_its_place_told() -> None:
    fake = FakeKafka()
    (reply,) = fake.send(b"payload", key=b"user-7", headers=[("a", b"1"), ("b", None)], timestamp=12345)
    fake.run()
    assert reply.result() == kafka.RecordMetadata("t", 0, 0, 12345)
    (record,) = fake.log["t", 0]
    assert (record.key, record.value, record.timestamp) == (b"user-7", b"payload", 12345)
    assert tuple(record.headers) == (("a", b"1"), ("b", None))
    assert fake.add_up()


def test_messages_of_one_turn_go_in_one_batch_in_their_order() -> None:
    fake = FakeKafka()
    replies = fake.send(*(b"%d" % number for number in range(500)))
    fake.run()
    assert [reply.result().offset for reply in replies] == list(range(500))
    assert fake.values() == [b"%d" % number for number in range(500)]
    assert fake.pool.statistics().batches == 1


def test_a_batch_that_has_waited_for_long_keeps_its_timestamps() -> None:
    fake = FakeKafka(linger=40.0, timeout=100.0)
    early = fake.send(b"1")
    fake.advance(30)
    late = fake.send(b"2")
    fake.advance(20)
    assert late[0].result().timestamp - early[0].result().timestamp == 30_000
    assert [record.timestamp for record in fake.log["t", 0]] == [
        early[0].result().timestamp,
        late[0].result().timestamp,
    ]


@given(st.lists(st.tuples(st.binary(max_size=300), st.none() | st.binary(max_size=20)), min_size=1))
def test_the_short_loop_packs_as_the_careful_one(messages: list[tuple[bytes, bytes | None]]) -> None:
    batch = Batch(Partition("t", 0, random.Random(0)), 0.0, lambda batch, work: None)
    works = [
        Sending(kafka.message("t", value, key), batch, 1000.0 + number / 7, 2000.0)
        for number, (value, key) in enumerate(messages)
    ]
    assert pack_plain(works, 1e9) == pack(works, 1e9)


def test_what_comes_while_a_batch_is_on_its_way_gathers_in_the_next() -> None:
    fake = FakeKafka()
    fake.send(b"first")
    fake.run()
    fake.script(api.Produce, HANG)
    (stuck,) = fake.send(b"stuck")
    fake.run()
    later = [reply for number in range(5) for reply in fake.send(b"%d" % number) if fake.run()]
    assert not stuck.settled
    fake.reset(1)
    fake.advance(1)
    assert stuck.result().offset == 1
    assert [reply.result().offset for reply in later] == [2, 3, 4, 5, 6]
    assert len(fake.asked(api.Produce)) == 4  # the first, the lost one, it again, and one for the five


def test_a_batch_that_is_full_is_not_waited_for_and_linger_is() -> None:
    fake = FakeKafka(linger=0.05, batch_bytes=100)
    (first,) = fake.send(b"x")
    fake.run()
    assert not first.settled
    fake.advance(0.05)
    assert first.settled
    full = fake.send(b"y" * 60, b"z" * 60)
    fake.run()
    assert [reply.settled for reply in full] == [True, False]
    fake.advance(0.05)
    assert full[1].result().offset == 2


def test_a_named_partition_a_key_and_neither() -> None:
    fake = FakeKafka(topics={"t": [1, 1, 1]})
    fake.run()
    (named,) = fake.send(b"x", partition=2)
    keyed = [fake.send(b"x", key=b"user-7")[0] for _ in range(3)]
    (beyond,) = fake.send(b"x", partition=3)
    free = fake.send(*[b"x" * 1000] * 100)
    fake.advance(3)  # a partition may be so new that not all brokers know of it
    assert named.result().partition == 2
    assert len({reply.result().partition for reply in keyed}) == 1
    assert isinstance(beyond.error, kafka.NoSuchTopic)
    assert "3 partitions" in str(beyond.error)
    assert {reply.result().partition for reply in free} == {0, 1, 2}
    assert fake.add_up()


def test_what_is_no_message_is_refused_where_the_mistake_was_made() -> None:
    fake = FakeKafka()
    text: Any = "text"
    for unit in (
        kafka.message("t", text),
        kafka.message("t", b"", key=text),
        kafka.message(b"t", b""),  # type: ignore[arg-type]
        kafka.message("t", b"", headers=[("a", text)]),
        kafka.message("t", b"", headers=[(b"a", b"")]),  # type: ignore[list-item]
        text,
    ):
        with pytest.raises(TypeError):
            fake.pool.submit(unit)
    for unit in (
        kafka.message("t", b"", timestamp=10**30),
        kafka.message("t", b"", timestamp=1.5),  # type: ignore[arg-type]
        kafka.message("t", b"", partition=-1),
        kafka.message("t", b"", headers=[("\ud800", b"")]),
    ):
        with pytest.raises(ValueError):
            fake.pool.submit(unit)
    assert fake.pool.statistics().submitted == 0


def test_a_full_accumulator_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    fake = FakeKafka(queue_bytes=10_000)
    fake.down.add(1)
    replies = fake.send(*[b"x" * 500] * 20)
    assert isinstance(replies[-1].error, pools.QueueFull)
    assert not replies[0].settled
    assert fake.pool.statistics().held_bytes <= 10_000
    taken = [reply for reply in replies if not reply.settled]
    fake.down.clear()
    fake.advance(2)
    assert all(reply.error is None for reply in taken)
    (again,) = fake.send(b"x")
    fake.run()
    assert again.error is None
    assert fake.add_up()


def test_a_message_that_is_too_large_is_not_sent() -> None:
    fake = FakeKafka(message_bytes=1000)
    (reply,) = fake.send(b"x" * 1001)
    assert isinstance(reply.error, kafka.MessageTooLarge)
    assert "message_bytes" in str(reply.error)
    assert fake.add_up()


def test_a_batch_that_the_broker_finds_too_large_is_split() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, refusing(10), refusing(10))
    replies = fake.send(b"1", b"2", b"3", b"4")
    fake.run()
    assert [reply.result().offset for reply in replies] == [0, 1, 2, 3]
    assert fake.values() == [b"1", b"2", b"3", b"4"]
    assert fake.pool.statistics().split == 2
    fake.script(api.Produce, refusing(10))
    (alone,) = fake.send(b"5")
    fake.run()
    assert isinstance(alone.error, kafka.MessageTooLarge)
    assert "max.message.bytes" in str(alone.error)


def test_one_bad_record_does_not_fail_the_others() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, refusing(87, records=[api.RecordError(1, "no key")]))
    replies = fake.send(b"1", b"2", b"3")
    fake.run()
    assert isinstance(replies[1].error, kafka.KafkaError)
    assert "no key" in str(replies[1].error)
    assert fake.values() == [b"1", b"3"]
    assert fake.add_up()


# -- cancelling and deadlines ----------------------------------------------------------------------


def test_a_cancelled_message_is_not_sent() -> None:
    fake = FakeKafka(linger=1.0)
    one, two, three = fake.send(b"1", b"2", b"3")
    fake.run()
    two.cancel()
    assert isinstance(two.error, pools.Cancelled)
    fake.advance(1)
    assert fake.values() == [b"1", b"3"]
    assert (one.result().offset, three.result().offset) == (0, 1)
    assert fake.pool.statistics().failed == {"Cancelled": 1}
    assert fake.add_up()


def test_a_message_that_is_cancelled_on_its_way_harms_nobody() -> None:
    fake = FakeKafka()
    fake.send(b"0")
    fake.run()
    fake.script(api.Produce, HANG)
    one, two = fake.send(b"1", b"2")
    fake.run()
    one.cancel()
    fake.reset(1)
    fake.advance(1)
    assert two.result().offset == 2
    assert fake.values() == [b"0", b"1", b"2"]  # it could not be recalled
    assert fake.add_up()


@pytest.mark.parametrize("how", ["written", "refused", "one record", "late", "stopped"])
def test_who_hears_of_a_message_may_cancel_its_neighbours(how: str) -> None:
    fake = FakeKafka(linger=0.1)
    fake.send(b"0")
    fake.advance(0.2)
    if how == "refused":
        fake.script(api.Produce, refusing(29))
    elif how == "one record":
        records = [api.RecordError(0, "bad"), api.RecordError(1, "bad")]
        fake.script(api.Produce, refusing(87, records=records))
    elif how in ("late", "stopped"):
        fake.script(api.Produce, HANG)
    replies = fake.send(b"1", b"2", b"3", timeout=1.0)
    replies[0].when_settled(lambda reply: [other.cancel() for other in replies[1:]])
    fake.advance(0.2)
    if how == "stopped":
        fake.loop.kill(fake.pool.token)
    fake.advance(2.0)
    assert (replies[0].error is None) == (how == "written")
    # A producer that stops has ended all of them before anybody hears of it.
    ended = pools.PoolClosed if how == "stopped" else pools.Cancelled
    assert all(isinstance(reply.error, ended) for reply in replies[1:])
    assert fake.add_up()
    told = fake.pool.statistics()
    assert told.failed[ended.__name__] >= 2
    assert told.succeeded == 1 + (how == "written")


@pytest.mark.parametrize("how", ["no topic", "refused", "late", "queued and late", "identity"])
def test_who_hears_of_a_failure_may_submit_again_at_once(how: str) -> None:
    fake = FakeKafka(topics={"t": [1], "u": [1]})
    if how != "identity":
        fake.send(b"0")
        fake.run()
    topic = "nowhere" if how == "no topic" else "t"
    again: list[Any] = []

    def submit_again(reply: Any) -> None:
        if reply.error is not None and len(again) < 50:
            again.extend(fake.send(b"again", topic=topic, timeout=30.0))
            again.extend(fake.send(b"elsewhere", topic="u", timeout=30.0))

    if how == "refused":
        fake.script(api.Produce, refusing(29))
    elif how == "late":
        fake.script(api.Produce, HANG)
    elif how == "queued and late":
        fake.down.add(1)
        fake.reset(1)
    elif how == "identity":
        fake.script(api.InitProducerId, api.InitProducerIdResponse(0, 31, -1, -1))
    for reply in fake.send(b"1", b"2", topic=topic, timeout=8.0):
        reply.when_settled(submit_again)
    fake.advance(9.0)
    fake.down.clear()
    fake.advance(30.0)
    assert len(again) == 4
    assert all(reply.settled for reply in again)
    assert [reply.error is None for reply in again] == [how != "no topic", True] * 2
    assert fake.add_up()


def test_a_deadline_says_how_far_the_message_had_come() -> None:
    fake = FakeKafka()
    fake.down.add(1)
    (unreached,) = fake.send(b"1", timeout=1)
    fake.advance(1)
    assert isinstance(unreached.error, pools.DeadlineExceeded)
    assert unreached.error.stage == "connecting"
    assert "192.0.2.1:9092" in str(unreached.error)
    assert "not written" in str(unreached.error)
    fake.down.clear()
    fake.advance(1)
    fake.script(api.Produce, HANG)
    (sent,) = fake.send(b"2", timeout=1)
    fake.advance(1)
    assert isinstance(sent.error, pools.DeadlineExceeded)
    assert sent.error.stage == "sent"
    assert "may have been written" in str(sent.error)
    assert fake.add_up()


def test_many_deadlines_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    expired = Batch.expired

    def counted(batch: Batch, now: float) -> list[Any]:
        looks.append(len(batch.works))
        return expired(batch, now)

    monkeypatch.setattr(Batch, "expired", counted)
    fake = FakeKafka()
    fake.down.add(1)
    replies = [fake.send(b"x", timeout=1.0 + 1e-5 * number)[0] for number in range(5000)]
    fake.advance(1.1)
    assert {type(reply.error) for reply in replies} == {pools.DeadlineExceeded}
    assert sum(looks) < 10 * len(replies)
    assert fake.add_up()


def test_a_batch_whose_messages_all_gave_up_does_not_break_the_sequence() -> None:
    fake = FakeKafka(request_timeout=2.0)
    fake.send(b"0")
    fake.run()
    fake.script(api.Produce, HANG)
    (lost,) = fake.send(b"1", timeout=1)
    fake.advance(1)
    assert isinstance(lost.error, pools.DeadlineExceeded)
    (later,) = fake.send(b"2", timeout=10)
    fake.advance(3)
    assert later.result().offset == 1
    assert fake.values() == [b"0", b"2"]
    assert fake.pool.statistics().epochs == 1
    assert fake.add_up()


# -- what a person must mend -----------------------------------------------------------------------


def test_a_topic_that_is_not_there_is_waited_for_and_then_said() -> None:
    fake = FakeKafka()
    (reply,) = fake.send(b"1", topic="nowhere")
    fake.advance(2)
    assert not reply.settled  # it may have been made this moment
    fake.advance(5)
    assert isinstance(reply.error, kafka.NoSuchTopic)
    assert "nowhere" in str(reply.error)
    (next_one,) = fake.send(b"2", topic="nowhere")
    fake.advance(1)
    assert isinstance(next_one.error, kafka.NoSuchTopic)
    fake.topics["nowhere"] = [1]
    (last,) = fake.send(b"3", topic="nowhere")
    fake.advance(1)
    assert last.result().offset == 0
    assert fake.add_up()


def test_that_a_topic_was_not_there_long_ago_says_nothing_of_now() -> None:
    fake = FakeKafka()
    (early,) = fake.send(b"1", topic="later", timeout=1)
    fake.advance(60)
    assert isinstance(early.error, pools.DeadlineExceeded)
    (late,) = fake.send(b"2", topic="later", timeout=10)
    fake.advance(1)
    assert not late.settled  # made this moment, and not known everywhere
    fake.topics["later"] = [1]
    fake.advance(1)
    assert late.result().offset == 0
    assert fake.add_up()


def test_a_topic_without_leaders_is_there() -> None:
    fake = FakeKafka()
    (reply,) = fake.send(b"1", topic="made", timeout=30)
    fake.advance(4)
    fake.topics["made"] = []
    fake.advance(1)
    del fake.topics["made"]
    fake.advance(3)
    assert not reply.settled  # the broker that was asked last has not heard of it yet
    fake.topics["made"] = [1]
    fake.advance(1)
    assert reply.result().offset == 0
    assert fake.add_up()


@pytest.mark.parametrize("name", ["", ".", "..", "with space", "x" * 250, "\ud800"])
def test_a_topic_that_cannot_be_fails_alone(name: str) -> None:
    fake = FakeKafka()
    (illegal,) = fake.send(b"1", topic=name)
    (fine,) = fake.send(b"2")
    fake.run()
    assert isinstance(illegal.error, kafka.KafkaError)
    assert illegal.error.name == "INVALID_TOPIC_EXCEPTION"
    assert fine.result().offset == 0
    assert fake.add_up()


def test_what_is_refused_is_said_once_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeKafka(message_bytes=1000, timeout=20)
    fake.send(*[b"x" * 2000] * 10)
    assert capsys.readouterr().out.count("messages refused") == 1
    fake.send(*[b"x"] * 10, topic="nowhere")
    fake.advance(10)
    told = capsys.readouterr().out
    assert told.count("messages refused") == 1
    assert "nowhere" in told
    fake.run()
    fake.script(api.Produce, refusing(29), refusing(29))
    fake.send(*[b"x"] * 10)
    fake.run()
    fake.send(*[b"x"] * 10)
    fake.run()
    assert capsys.readouterr().out.count("TOPIC_AUTHORIZATION_FAILED") == 1


def test_a_broker_that_names_records_it_was_not_sent_is_not_asked_for_ever() -> None:
    fake = FakeKafka()
    fake.script(api.Produce, refusing(87, records=[api.RecordError(9, "?"), api.RecordError(-1, "?")]))
    (reply,) = fake.send(b"1")
    fake.run()
    assert isinstance(reply.error, kafka.KafkaError)
    assert len(fake.asked(api.Produce)) == 1


def test_names_that_somebody_makes_up_are_not_remembered_for_ever() -> None:
    fake = FakeKafka()
    made_up = [fake.send(b"x", topic=f"nowhere-{number}")[0] for number in range(300)]
    fake.advance(10)
    assert all(isinstance(reply.error, kafka.NoSuchTopic) for reply in made_up)
    (fine,) = fake.send(b"1")
    fake.advance(301)
    assert fine.error is None
    assert len(fake.asked(api.Metadata)[-1].topics) <= 101
    (again,) = fake.send(b"x", topic="nowhere-0")
    fake.advance(10)
    assert isinstance(again.error, kafka.NoSuchTopic)


def test_a_broker_that_is_too_old_is_said_at_once() -> None:
    fake = FakeKafka()
    fake.versions[0] = (0, 5)
    (reply,) = fake.send(b"1")
    fake.run()
    assert isinstance(reply.error, kafka.BrokerTooOld)
    assert "Produce" in str(reply.error)
    ancient = FakeKafka()
    ancient.versions[3] = (0, 4)
    (reply,) = ancient.send(b"1")
    ancient.run()
    assert isinstance(reply.error, kafka.BrokerTooOld)
    assert "Metadata" in str(reply.error)


def test_an_identity_that_is_refused_fails_what_waits() -> None:
    fake = FakeKafka()
    refused = api.InitProducerIdResponse(0, 31, -1, -1)
    fake.script(api.InitProducerId, refused)
    (reply,) = fake.send(b"1")
    fake.run()
    assert isinstance(reply.error, kafka.KafkaError)
    assert "IdempotentWrite" in str(reply.error)
    fake.script(api.InitProducerId, api.InitProducerIdResponse(0, 14, -1, -1), RESET)
    (later,) = fake.send(b"2")
    fake.advance(2)
    assert later.result().offset == 0


# -- the end ---------------------------------------------------------------------------------------


def test_a_drain_writes_what_is_there_and_takes_no_more() -> None:
    fake = FakeKafka(linger=10.0)
    replies = fake.send(b"1", b"2")
    fake.pool.drain()
    refused = fake.send(b"3")
    fake.run()
    assert [reply.result().offset for reply in replies] == [0, 1]
    assert isinstance(refused[0].error, pools.PoolClosed)
    assert fake.loop.machines == 0
    assert fake.add_up()


def test_a_loop_that_drains_drains_the_producer() -> None:
    fake = FakeKafka(linger=10.0)
    (reply,) = fake.send(b"1")
    fake.loop.drain(5)
    fake.run()
    assert reply.result().offset == 0
    assert fake.loop.machines == 0


def test_a_stopped_producer_settles_everything() -> None:
    fake = FakeKafka(topics={"t": [1], "u": []})
    fake.send(b"0")
    fake.run()
    fake.script(api.Produce, HANG)
    (sent,) = fake.send(b"1")
    fake.run()
    (queued,), (held,) = fake.send(b"2"), fake.send(b"3", topic="u")
    fake.loop.kill(fake.pool.token)
    for reply, fate in ((sent, True), (queued, False), (held, False)):
        assert isinstance(reply.error, pools.PoolClosed)
        assert ("may have been written" in str(reply.error)) == fate
    fake.run()
    assert fake.loop.machines == 0
    assert fake.add_up()


def test_what_it_says_of_itself() -> None:
    fake = FakeKafka()
    fake.send(b"x")
    assert repr(fake.pool) == "<KafkaPool 192.0.2.1:9092 open, 1 messages wait, 0 requests on their way>"
    assert repr(kafka.message("t", b"12345")) == "<Push to t, 21 bytes>"
    fake.run()
    told = fake.pool.statistics()
    assert (told.submitted, told.succeeded, told.batches, told.requests) == (1, 1, 1, 1)
    (partition,) = fake.pool.topics.partitions
    (waits,) = fake.send(b"y")
    assert repr(partition) == "<Partition t/0, 1 batches>"
    assert repr(partition.open) == "<Batch for <Partition t/0, 1 batches> waiting, 1 messages>"
    assert repr(waits) == "<Sending <Push to t, 17 bytes>>"
    assert repr(fake.pool.delivery) == "<Delivery to 1 partitions, 0 requests on their way>"
    fake.run()
    assert repr(waits) == "<Sending <Push to t, 17 bytes>, settled>"


def test_a_description_can_be_compared_and_shows_no_password() -> None:
    spec = kafka.pool("h", sasl="PLAIN", user="me", password="secret")
    assert spec == kafka.pool("h", sasl="PLAIN", user="me", password="secret") != kafka.pool("h")
    assert repr(spec).startswith("ProducerOptions(settings=Settings(bootstrap=(")
    assert "secret" not in repr(spec)
    with pytest.raises(AttributeError):
        spec.linger = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"acks": 2}, "acks"),
        ({"acks": 1, "idempotent": True}, "acks='all'"),
        ({"compression": "rar"}, "zstd"),
        ({"linger": -1}, "linger"),
        ({"queue_bytes": 0}, "queue_bytes"),
        ({"sasl": "GSSAPI", "user": "a", "password": "b"}, "SCRAM-SHA-512"),
        ({"sasl": "PLAIN"}, "go together"),
        ({"brokers": " , "}, "no brokers"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kafka.pool(options.pop("brokers", "h:9092"), **options)
