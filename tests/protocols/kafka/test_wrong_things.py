"""What a person gets wrong: each gives the error that says what to do, in time, and once in the log instead
of once per message. With real servers; for what these do not do, with fake brokers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest
import structlog.testing

from actors import Loop, settle_all
from pools import DeadlineExceeded
from protocols import http, kafka
from protocols.kafka.protocol import api
from tests.kafka_server import PASSWORD, USER, KafkaCluster
from tests.protocols.kafka.fake_kafka import FakeKafka
from tests.redis_server import RedisServer

MESSAGES = 50
LINES_MAX = 4  # a line, the same from another layer, and one more of either a second later
PATIENCE_SECONDS = 20.0
SHORT_SECONDS = 0.7


NONE: Final[dict[str, Any]] = {}


class Wrong(NamedTuple):
    """One mistake. `where` finds the brokers' addresses by the name of a fixture; `consumer`: whether it ends
    one, or has it wait and say so in the log.
    """

    name: str
    where: str
    says: str  # a part of the error's text
    options: Any = NONE
    error: type[BaseException] = DeadlineExceeded
    seconds: float = SHORT_SECONDS
    topic: str = "wrong"
    value: bytes = b"payload"
    consumer: str = "waits"


PLAIN = {"sasl": "PLAIN", "user": USER, "password": PASSWORD}
SCRAM = {"sasl": "SCRAM-SHA-512", "user": USER, "password": PASSWORD}
NOBODY = {"user": "nobody"}
FORGOTTEN = {"password": "forgotten"}
REFUSED: dict[str, Any] = {
    "error": kafka.AuthenticationFailed,
    "seconds": PATIENCE_SECONDS,
    "consumer": "ends",
}
CREATE_NOT = {"create_topics": False}

TABLE = [
    Wrong("nothing listens there", "nowhere", "Connection refused"),
    Wrong("no such name", "nameless", "cannot resolve"),
    Wrong("it never answers", "silent", "did not finish its handshake", {"connect_timeout": 0.2}),
    Wrong("no answer, and time is short", "silent", "no broker has answered yet", seconds=0.1, consumer=""),
    Wrong("an HTTP server", "web", "is it a Kafka broker", consumer="ends"),
    Wrong("a Redis", "redis", "did not finish its handshake", {"connect_timeout": 0.2}),
    Wrong("a wrong password, PLAIN", "SASL", "check user and password", PLAIN | FORGOTTEN, **REFUSED),
    Wrong("a wrong user, PLAIN", "SASL", "user 'nobody'", PLAIN | NOBODY, **REFUSED),
    Wrong("a wrong password, SCRAM", "SASL", "check user and password", SCRAM | FORGOTTEN, **REFUSED),
    Wrong("a wrong user, SCRAM", "SASL", "user 'nobody'", SCRAM | NOBODY, **REFUSED),
    Wrong("a password is wanted", "SASL", "is one of PLAIN, SCRAM", **REFUSED),
    Wrong("no password is wanted", "PLAINTEXT", "does not use authentication", PLAIN, **REFUSED),
    Wrong("TLS is wanted", "TLS", "tls=", consumer="ends"),
    Wrong("TLS is not spoken", "PLAINTEXT", "does it speak TLS?", {"tls": True}),
    Wrong("a certificate that nobody vouches for", "TLS", "certificate verify failed", {"tls": True}),
    Wrong("no such topic, and time is short", "PLAINTEXT", "create the topic", CREATE_NOT, topic="slip"),
    Wrong(
        *("no such topic", "PLAINTEXT", "create the topic", CREATE_NOT, kafka.NoSuchTopic, PATIENCE_SECONDS),
        topic="slip",
    ),
    Wrong(
        *("no topic's name", "PLAINTEXT", "letters, digits", {}, kafka.KafkaError, PATIENCE_SECONDS),
        topic="no name",
        consumer="ends",
    ),
    Wrong(
        *("too large for the pool", "PLAINTEXT", "message_bytes=", {}, kafka.MessageTooLarge),
        value=bytes(1_000_001),
        consumer="",
    ),
    Wrong(
        *("too large for the topic", "PLAINTEXT", "raise the topic's max.message.bytes", {}),
        *(kafka.MessageTooLarge, PATIENCE_SECONDS, "small", bytes(5000), ""),
    ),
]


@pytest.fixture
def nowhere(free_port: Callable[[], int]) -> str:
    """Nobody listens there."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def nameless() -> str:
    """A name that there is not (RFC 6761)."""
    return "kafka.invalid:9092"


@pytest.fixture
def silent() -> Iterator[str]:
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """An HTTP server."""
    with Loop.in_thread() as loop:
        server = loop.spawn(http.server("127.0.0.1:0", lambda request: http.text_response("hello")))
        yield str(server.address)


@pytest.fixture
def redis(redis_server: RedisServer) -> str:
    """A Redis."""
    return f"127.0.0.1:{redis_server.port}"


@pytest.fixture
def find(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The addresses that a name in the table stands for: a listener of a broker, or another fixture."""

    def found(where: str) -> str:
        if where not in ("PLAINTEXT", "SASL", "TLS"):
            return str(request.getfixturevalue(where))
        cluster: KafkaCluster = request.getfixturevalue("kafka_broker")
        if "small" not in cluster.admin.list_topics(timeout=10).topics:
            cluster.create_topic("small", **{"max.message.bytes": "1000"})
        return cluster.bootstrap(where)

    return found


def lines(logs: Any) -> list[str]:
    """What was said that a person should look at."""
    return [str(line) for line in logs if line["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.name)
def test_a_producer(wrong: Wrong, find: Callable[[str], str]) -> None:
    brokers = find(wrong.where)
    with structlog.testing.capture_logs() as logs, Loop() as loop:
        pool = loop.spawn(kafka.pool(brokers, **wrong.options))
        message = kafka.message(wrong.topic, wrong.value)
        replies = [pool.submit(message, wrong.seconds) for _ in range(MESSAGES)]
        errors = loop.run_until(settle_all(*replies))
        assert {type(error) for error in errors} == {wrong.error}
        assert all(wrong.says in str(error) for error in errors)
        assert pool.statistics().held_bytes == 0
    said = lines(logs)
    if not wrong.name.endswith("time is short"):
        assert any(wrong.says in line for line in said)
    assert len(said) <= LINES_MAX, said


@pytest.mark.parametrize("wrong", [wrong for wrong in TABLE if wrong.consumer], ids=lambda wrong: wrong.name)
def test_a_consumer(wrong: Wrong, find: Callable[[str], str]) -> None:
    brokers = find(wrong.where)
    with structlog.testing.capture_logs() as logs, Loop() as loop:
        consumer = loop.spawn(kafka.consumer(brokers, wrong.topic, group="wrong", **wrong.options))
        if wrong.consumer == "ends":
            expected = kafka.BadMessage if wrong.error is DeadlineExceeded else wrong.error
            with pytest.raises(expected, match=wrong.says):
                loop.run_until(consumer.subscribed)
            with pytest.raises(expected, match=wrong.says):
                loop.run_until(loop.spawn(consumer.receive()))
        else:
            while not any(wrong.says in line for line in lines(logs)):
                loop.tick()
            assert not consumer.subscribed.settled
        assert any(wrong.says in line for line in lines(logs))
        assert len(lines(logs)) <= LINES_MAX


# -- what no real server does ------------------------------------------------------------------------------


def test_a_producer_of_a_broker_that_is_too_old() -> None:
    fake = FakeKafka()
    fake.versions[api.Produce.api.key] = (0, 2)
    with structlog.testing.capture_logs() as logs:
        replies = fake.send(*[b"x"] * MESSAGES)
        fake.advance(1)
    assert {type(reply.error) for reply in replies} == {kafka.BrokerTooOld}
    assert "only versions 0 to 2 of Produce" in str(replies[0].error)
    assert "Kafka 2.1 or newer" in str(replies[0].error)
    assert len(lines(logs)) == 1


def test_a_consumer_of_a_broker_that_is_too_old() -> None:
    fake = FakeKafka()
    fake.versions[api.Metadata.api.key] = (0, 1)
    with structlog.testing.capture_logs() as logs:
        consumer = fake.loop.spawn(kafka.consumer("192.0.2.1:9092", "t"))
        fake.advance(1)
    assert isinstance(consumer.subscribed.error, kafka.BrokerTooOld)
    assert "only versions 0 to 1 of Metadata" in str(consumer.subscribed.error)
    assert len(lines(logs)) == 1


def test_an_advertised_listener_that_cannot_be_reached() -> None:
    fake = FakeKafka()
    fake.nodes[1] = "192.0.2.77"
    fake.down.add(77)
    with structlog.testing.capture_logs() as logs:
        consumer = fake.loop.spawn(kafka.consumer("192.0.2.1:9092", "t", auto_offset_reset="earliest"))
        replies = fake.send(*[b"x"] * MESSAGES, timeout=5.0)
        fake.advance(6)
    assert {type(reply.error) for reply in replies} == {DeadlineExceeded}
    assert "broker 1, which advertises 192.0.2.77:9092 cannot be reached" in str(replies[0].error)
    assert not consumer.subscribed.settled
    told = [line for line in logs if line["event"] == "cannot connect"]
    assert {line["pool"] for line in told} == {"broker 1, which advertises 192.0.2.77:9092"}
    assert len(lines(logs)) < 20
    assert fake.add_up()
