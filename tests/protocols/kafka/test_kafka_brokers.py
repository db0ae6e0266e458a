"""The producer against real brokers, read back by an independent client."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import pools
from actors import Loop, Reply, settle_all
from actors.testing import run_until
from protocols import kafka
from tests.kafka_server import PASSWORD, USER, KafkaCluster, read_all
from tests.redis_server import unused_port

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def finish(loop: Loop, replies: list[Reply[kafka.RecordMetadata]]) -> list[Any]:
    return loop.run_until(settle_all(*replies))


def ask(loop: Loop, reply: Reply[Any]) -> BaseException | None:
    """The error it settles with."""
    run_until(loop, lambda: reply.settled, seconds=30)
    return reply.error


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_was_acknowledged_is_read_back(any_kafka: Any, loop: Loop, compression: str) -> None:
    topic = any_kafka.create_topic(f"produce-{compression}", 4)
    pool = loop.spawn(kafka.pool(any_kafka.bootstrap(), compression=compression, batch_bytes=4000))
    sent = [f"value {number} ".encode() * 20 for number in range(300)]
    told = finish(
        loop,
        [pool.submit(kafka.message(topic, value, key=b"%d" % (n % 7))) for n, value in enumerate(sent)],
    )
    read = read_all(any_kafka.bootstrap(), topic, "%p %o %s\n")
    expected = [b"%d %d " % (one.partition, one.offset) + v for one, v in zip(told, sent, strict=True)]
    assert sorted(read) == sorted(expected)


def test_headers_nulls_and_timestamps(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("produce-parts", 1)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap()))
    finish(
        loop,
        [
            pool.submit(kafka.message(topic, b"v", key=b"k", headers=[("a", b"1"), ("b", b"2")])),
            pool.submit(kafka.message(topic, None, key=b"gone", timestamp=1234567890123)),
            pool.submit(kafka.message(topic, b"x" * 100_000)),
        ],
    )
    first, second, third = read_all(kafka_broker.bootstrap(), topic, "%k|%S|%h|%T\n")
    assert first.startswith(b"k|1|a=1,b=2|")
    assert second == b"gone|-1||1234567890123"
    assert third.startswith(b"|100000||")


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_who_must_have_it(kafka_cluster: KafkaCluster, loop: Loop, acks: Any) -> None:
    topic = kafka_cluster.create_topic(f"produce-acks-{acks}", 3)
    careful = loop.spawn(kafka.pool(kafka_cluster.bootstrap()))
    finish(loop, [careful.submit(kafka.message(topic, b"-1", partition=n)) for n in range(3)])  # all lead
    pool = loop.spawn(kafka.pool(kafka_cluster.bootstrap(), acks=acks))
    told = finish(loop, [pool.submit(kafka.message(topic, b"%d" % n, partition=n % 3)) for n in range(30)])
    assert [one.offset for one in told] == [-1 if acks == 0 else 1 + n // 3 for n in range(30)]
    finish(loop, [careful.submit(kafka.message(topic, b"30", partition=n)) for n in range(3)])
    read = sorted(map(int, read_all(kafka_cluster.bootstrap(), topic, least=36)))
    assert read == [-1, -1, -1, *range(30), 30, 30, 30]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_leader_that_goes_away_costs_nothing(
    kafka_cluster: KafkaCluster, loop: Loop, number: signal.Signals
) -> None:
    topic = kafka_cluster.create_topic(f"produce-{number.name.lower()}", 1)
    pool = loop.spawn(kafka.pool(kafka_cluster.bootstrap(), request_timeout=5.0))
    before = pool.submit(kafka.message(topic, b"before"))
    assert ask(loop, before) is None
    leader = kafka_cluster.leader(topic)
    try:
        leader.stop(number)
        after = [pool.submit(kafka.message(topic, b"%d" % n)) for n in range(100)]
        assert ask(loop, after[-1]) is None
        assert [reply.result().offset for reply in after] == list(range(1, 101))
    finally:
        leader.start()
        leader.wait()
    assert len(read_all(kafka_cluster.bootstrap(), topic, least=101)) == 101


def test_a_broker_that_is_restarted_is_waited_for(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("produce-restart", 2)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap()))
    assert ask(loop, pool.submit(kafka.message(topic, b"before", key=b"k"))) is None
    kafka_broker.brokers[0].kill()
    meanwhile = [pool.submit(kafka.message(topic, b"%d" % n, key=b"k")) for n in range(10)]
    for _ in range(20):
        loop.tick(0.01)
    kafka_broker.brokers[0].start()
    assert ask(loop, meanwhile[-1]) is None
    assert read_all(kafka_broker.bootstrap(), topic) == [b"before", *(b"%d" % n for n in range(10))]


def test_inside_asyncio_and_from_threads(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic("produce-hosts", 1)

    async def in_asyncio() -> list[int]:
        async with Loop.in_asyncio() as loop:
            pool = loop.spawn(kafka.pool(kafka_broker.bootstrap()))
            told = await asyncio.gather(
                *[wait(pool.submit(kafka.message(topic, b"%d" % n))) for n in range(5)]
            )
            return [one.offset for one in told]

    async def wait(reply: Reply[kafka.RecordMetadata]) -> kafka.RecordMetadata:
        return await reply

    assert sorted(asyncio.run(in_asyncio())) == list(range(5))
    with Loop.in_thread() as loop:
        pool: Any = loop.spawn(kafka.pool(kafka_broker.bootstrap()))
        assert pool.submit(kafka.message(topic, b"x")).result(timeout=30).offset == 5


# -- who we are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("listener", ["SASL", "SASL_TLS"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl(kafka_broker: KafkaCluster, loop: Loop, listener: str, mechanism: str) -> None:
    topic = kafka_broker.create_topic(f"produce-{listener}-{mechanism}")
    tls = ssl.create_default_context(cafile=kafka_broker.authority) if "TLS" in listener else False
    pool = loop.spawn(
        kafka.pool(kafka_broker.bootstrap(listener), sasl=mechanism, user=USER, password=PASSWORD, tls=tls)
    )
    assert ask(loop, pool.submit(kafka.message(topic, b"x"))) is None
    assert read_all(kafka_broker.bootstrap(), topic) == [b"x"]


def test_tls(kafka_broker: KafkaCluster, loop: Loop) -> None:
    topic = kafka_broker.create_topic("produce-tls")
    context = ssl.create_default_context(cafile=kafka_broker.authority)
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap("TLS"), tls=context))
    assert ask(loop, pool.submit(kafka.message(topic, b"x"))) is None


# -- what a person must mend -----------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_wrong_credentials(
    kafka_broker: KafkaCluster, loop: Loop, mechanism: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap("SASL"), sasl=mechanism, user=USER, password="wrong"))
    replies = [pool.submit(kafka.message("any", b"x")) for _ in range(50)]
    error = ask(loop, replies[-1])
    assert isinstance(error, kafka.AuthenticationFailed)
    assert "check user and password" in str(error)
    assert all(isinstance(reply.error, kafka.AuthenticationFailed) for reply in replies)
    told = capsys.readouterr().out
    assert told.count("check user and password") == 1
    assert "wrong" not in told


def test_no_credentials_where_some_are_wanted(kafka_broker: KafkaCluster, loop: Loop) -> None:
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap("SASL")))
    error = ask(loop, pool.submit(kafka.message("any", b"x")))
    assert isinstance(error, kafka.AuthenticationFailed)
    assert "SCRAM-SHA-512" in str(error)


def test_tls_where_none_is_given_and_the_other_way_round(kafka_broker: KafkaCluster, loop: Loop) -> None:
    plain = loop.spawn(kafka.pool(kafka_broker.bootstrap("TLS"), timeout=1.5))
    context = ssl.create_default_context(cafile=kafka_broker.authority)
    sealed = loop.spawn(kafka.pool(kafka_broker.bootstrap(), tls=context, timeout=1.5, connect_timeout=0.5))
    unknown = loop.spawn(kafka.pool(kafka_broker.bootstrap("TLS"), tls=True, timeout=1.5))
    replies = [pool.submit(kafka.message("any", b"x")) for pool in (plain, sealed, unknown)]
    errors = [ask(loop, reply) for reply in replies]
    assert all(isinstance(error, pools.DeadlineExceeded) for error in errors)
    assert "tls=" in str(errors[0])
    assert "TLS" in str(errors[1])
    assert "certificate" in str(errors[2])


def test_a_wrong_address(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{unused_port()}"
    pool = loop.spawn(kafka.pool(address, timeout=0.3))
    replies = [pool.submit(kafka.message("any", b"x")) for _ in range(50)]
    error = ask(loop, replies[-1])
    assert isinstance(error, pools.DeadlineExceeded)
    assert (error.stage, address in str(error)) == ("connecting", True)
    assert "refused" in str(error)
    assert capsys.readouterr().out.count("cannot connect") <= 4  # the first, the second, the fourth …


def test_a_topic_that_does_not_exist_and_one_that_cannot(kafka_broker: KafkaCluster, loop: Loop) -> None:
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), create_topics=False))
    illegal = pool.submit(kafka.message("not legal!", b"x"))
    missing = pool.submit(kafka.message("nowhere", b"x"))
    assert "INVALID_TOPIC_EXCEPTION" in str(ask(loop, illegal))
    error = ask(loop, missing)
    assert isinstance(error, kafka.NoSuchTopic)
    assert "nowhere" in str(error)
    kafka_broker.create_topic("nowhere")
    assert ask(loop, pool.submit(kafka.message("nowhere", b"x"))) is None


def test_a_topic_may_be_made_by_asking_for_it(any_kafka: Any, loop: Loop) -> None:
    pool = loop.spawn(kafka.pool(any_kafka.bootstrap()))
    assert ask(loop, pool.submit(kafka.message("made-by-asking", b"x"))) is None


def test_a_message_that_is_too_large_for_its_topic(
    kafka_broker: KafkaCluster, loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = kafka_broker.create_topic("produce-large", 1, **{"max.message.bytes": "2000"})
    pool = loop.spawn(kafka.pool(kafka_broker.bootstrap()))
    replies = [pool.submit(kafka.message(topic, b"x" * size)) for size in (10, 1900, 3000, 1900, 10, 3000)]
    results = finish(loop, replies)
    assert [isinstance(result, kafka.MessageTooLarge) for result in results] == [
        n in (2, 5) for n in range(6)
    ]
    assert "max.message.bytes" in str(results[2])
    assert [reply.result().offset for n, reply in enumerate(replies) if n not in (2, 5)] == [0, 1, 2, 3]
    assert capsys.readouterr().out.count("messages refused") == 1
