"""One broker's connection: its handshake, its answers at every cut, and what is no answer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pools
from actors import Address
from pools.testing import Bench
from protocols.kafka import AuthenticationFailed, BadMessage, BrokerTooOld
from protocols.kafka.connection.sasl import Login
from protocols.kafka.connection.units import Call
from protocols.kafka.connection.wire import KafkaWire
from protocols.kafka.protocol import api
from protocols.kafka.protocol.schema import Message, Request, writer
from tests.protocols.kafka.fake_kafka import REQUESTS, Connection

OFFERED = {key: (kind.api.oldest, kind.api.newest) for key, kind in REQUESTS.items()}
PLAIN = Login("PLAIN", "walter", "secret", {})


def frame(kind: type[Request[Any]], version: int, correlation: int, answer: Message) -> bytes:
    """An answer as it comes from a broker."""
    flexible = version >= kind.api.flexible
    body = bytearray(b"\0" if flexible and not kind.api.plain_header else b"")
    writer(type(answer), version, flexible)(body, answer)
    return struct.pack(">ii", len(body) + 4, correlation) + bytes(body)


def versions(offered: dict[int, tuple[int, int]] = OFFERED) -> api.ApiVersionsResponse:
    return api.ApiVersionsResponse(0, [api.ApiRange(key, *pair) for key, pair in offered.items()], 0)


def brokers(*hosts: str) -> api.MetadataResponse:
    addresses = [api.BrokerAddress(node, host, 9092, None) for node, host in enumerate(hosts)]
    return api.MetadataResponse(0, addresses, "fake", 1, [], 0)


class Broker(Bench):
    """A bench whose other side speaks Kafka."""

    def __init__(self, login: Login | None = None, answer_bytes: int = 1 << 20, **options: Any) -> None:
        doubts: set[Address] = set()
        options = {"connections": 1, "pipeline": 8, **options}
        super().__init__(lambda: KafkaWire("me", login, doubts, answer_bytes), ("192.0.2.1:9092",), **options)

    def requests(self) -> list[tuple[type[Request[Any]], int, int, Any]]:
        """What has come over the newest connection."""
        self.run()
        return Connection(self.sockets[-1]).requests()

    def send(self, data: bytes) -> None:
        self.sockets[-1].arrive(data)
        self.run()

    def greet(self, offered: dict[int, tuple[int, int]] = OFFERED) -> None:
        """Accept, and say what is spoken."""
        self.accept()
        ((kind, version, correlation, _),) = self.requests()
        assert kind is api.ApiVersions
        self.send(frame(kind, version, correlation, versions(offered)))

    def ask(self, **options: Any) -> Any:
        return self.submit(Call(api.Metadata([]), **options))


def test_requests_go_out_together_and_answers_settle_them_in_order() -> None:
    bench = Broker()
    replies = [bench.ask() for _ in range(3)]
    bench.greet()
    asked = bench.requests()
    assert [kind for kind, *_ in asked] == [api.Metadata] * 3
    answers = [frame(kind, version, number, brokers(f"h{number}")) for kind, version, number, _ in asked]
    bench.send(b"".join(answers))
    assert [reply.result().brokers[0].host for reply in replies] == ["h2", "h3", "h4"]
    assert bench.add_up()


def test_answers_at_every_cut() -> None:
    bench = Broker()
    bench.ask()
    bench.greet()
    ((kind, version, number, _),) = bench.requests()
    bench.send(frame(kind, version, number, brokers()))
    size = 2 * len(frame(kind, version, number, brokers("first"))) + 1
    for cut in range(size):
        replies = [bench.ask() for _ in range(2)]
        asked = bench.requests()
        data = b"".join(
            frame(kind, version, number, brokers(host))
            for (kind, version, number, _), host in zip(asked, ("first", "second"), strict=True)
        )
        bench.send(data[:cut])
        bench.send(data[cut:])
        assert [reply.result().brokers[0].host for reply in replies] == ["first", "second"]


def test_the_handshake_byte_by_byte() -> None:
    bench = Broker(PLAIN)
    reply = bench.ask()
    bench.accept()
    for answer in (
        versions(),
        api.SaslHandshakeResponse(0, ["PLAIN"]),
        api.SaslAuthenticateResponse(0, None, b"", 0),
        brokers("h"),
    ):
        ((kind, version, number, _),) = bench.requests()
        for byte in frame(kind, version, number, answer):
            bench.send(bytes((byte,)))
    assert reply.result().brokers[0].host == "h"


def test_an_old_broker_is_asked_in_its_own_version() -> None:
    bench = Broker()
    reply = bench.ask()
    bench.accept()
    ((_, version, number, _),) = bench.requests()
    assert version == 3
    bench.send(struct.pack(">iihi", 10, number, 35, 0))
    ((kind, version, number, _),) = bench.requests()
    assert version == 0
    bench.send(frame(kind, version, number, versions({3: (0, 7), 18: (0, 2)})))
    ((kind, version, number, _),) = bench.requests()
    assert (kind, version) == (api.Metadata, 7)
    bench.send(frame(kind, version, number, brokers("h")))
    assert reply.result().brokers[0].host == "h"


def test_what_a_broker_does_not_speak_fails_alone() -> None:
    bench = Broker()
    produce = Call(api.Produce(None, -1, 1000, []))
    old, fine = bench.submit(produce), bench.ask()
    bench.greet({3: (0, 12), 0: (0, 5)})
    assert isinstance(old.error, BrokerTooOld)
    assert "192.0.2.1:9092 speaks only versions 0 to 5 of Produce" in str(old.error)
    ((kind, version, number, _),) = bench.requests()
    bench.send(frame(kind, version, number, brokers()))
    assert fine.error is None


def test_a_request_without_an_answer_settles_when_its_turn_comes() -> None:
    bench = Broker()
    silent = Call(api.Produce(None, 0, 1000, []), answered=False)
    first, none, last = bench.ask(), bench.submit(silent), bench.ask()
    bench.greet()
    asked = bench.requests()
    assert not none.settled
    bench.send(frame(asked[0][0], asked[0][1], asked[0][2], brokers("1")))
    assert first.settled
    assert none.result() is None
    assert not last.settled
    bench.send(frame(asked[2][0], asked[2][1], asked[2][2], brokers("2")))
    assert last.result().brokers[0].host == "2"
    alone = bench.submit(silent)
    bench.run()
    assert alone.settled


def test_the_answer_of_a_request_that_was_cancelled_is_dropped_unread() -> None:
    bench = Broker()
    one, two = bench.ask(), bench.ask()
    bench.greet()
    asked = bench.requests()
    one.cancel()
    garbage = struct.pack(">ii", 7, asked[0][2]) + b"\xff\xff\xff"
    bench.send(garbage + frame(asked[1][0], asked[1][1], asked[1][2], brokers("2")))
    assert two.result().brokers[0].host == "2"


@pytest.mark.parametrize(
    ("garble", "says"),
    [
        (lambda data: data[:4] + struct.pack(">i", 77) + data[8:], "answered request 77"),
        (lambda data: struct.pack(">i", len(data) - 5) + data[4:-1], "cannot be read"),
        (lambda data: struct.pack(">i", 3) + data[4:], "is it a Kafka broker"),
        (lambda data: struct.pack(">i", (1 << 20) + 1) + data[4:], "is it a Kafka broker"),
        (lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n", "is it a Kafka broker"),
        (lambda data: b"\x15\x03\x03\x00\x02\x02\x50", "tls="),
    ],
)
def test_what_is_no_answer_ends_that_connection_and_no_other(
    garble: Callable[[bytes], bytes], says: str
) -> None:
    bench = Broker()
    reply = bench.ask()
    bench.greet()
    ((kind, version, number, _),) = bench.requests()
    bench.send(garble(frame(kind, version, number, brokers("h"))))
    assert bench.sockets[0].closed
    assert isinstance(reply.error, BadMessage)
    assert says in str(reply.error)
    again = bench.ask()
    bench.advance(1)
    bench.greet()
    ((kind, version, number, _),) = bench.requests()
    bench.send(frame(kind, version, number, brokers("h")))
    assert again.error is None
    assert bench.add_up()


def test_an_answer_to_nothing_ends_the_connection() -> None:
    bench = Broker()
    reply = bench.ask()
    bench.greet()
    ((kind, version, number, _),) = bench.requests()
    bench.send(2 * frame(kind, version, number, brokers("h")))
    assert reply.error is None
    assert bench.sockets[0].closed


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2),
    st.binary(max_size=60),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
)
def test_whatever_a_broker_says_units_settle(stage: int, noise: bytes, flips: list[tuple[int, int]]) -> None:
    bench = Broker(timeout=2.0)
    replies = [bench.ask() for _ in range(2)]
    bench.accept()
    if stage:
        ((kind, version, number, _),) = bench.requests()
        bench.send(frame(kind, version, number, versions()))
    if stage == 2:
        data = bytearray(
            b"".join(
                frame(kind, version, number, brokers("first", "second"))
                for kind, version, number, _ in bench.requests()
            )
        )
        for place, value in flips:
            data[place % len(data)] = value
        bench.send(bytes(data))
    if not bench.sockets[-1].closed:
        bench.send(noise)
    for _ in range(3):
        bench.refuse()
        bench.advance(1)
    assert all(reply.settled for reply in replies)
    assert bench.loop.statistics().crashed == 0
    assert bench.add_up()


# -- who we are ------------------------------------------------------------------------------------


def authenticate(bench: Broker, *answers: Message) -> list[Any]:
    """Answer one request after the other; what was asked."""
    asked = []
    for answer in answers:
        ((kind, version, number, request),) = bench.requests()
        asked.append(request)
        bench.send(frame(kind, version, number, answer))
    return asked


def test_plain() -> None:
    bench = Broker(PLAIN)
    bench.ask()
    bench.accept()
    asked = authenticate(
        bench,
        versions(),
        api.SaslHandshakeResponse(0, ["PLAIN"]),
        api.SaslAuthenticateResponse(0, None, b"", 0),
    )
    assert asked[1].mechanism == "PLAIN"
    assert asked[2].token == b"\0walter\0secret"
    assert [kind for kind, *_ in bench.requests()] == [api.Metadata]


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([api.SaslHandshakeResponse(33, ["SCRAM-SHA-512"])], "accepts: SCRAM-SHA-512"),
        (
            [
                api.SaslHandshakeResponse(0, ["PLAIN"]),
                api.SaslAuthenticateResponse(58, "Authentication failed", b"", 0),
            ],
            "does not accept user 'walter' by PLAIN: Authentication failed; check user and password",
        ),
    ],
)
def test_who_is_not_accepted_is_told_why(answers: list[Message], says: str) -> None:
    bench = Broker(PLAIN)
    reply = bench.ask()
    bench.accept()
    authenticate(bench, versions(), *answers)
    bench.run()
    assert isinstance(reply.error, pools.BackendDown)
    assert isinstance(reply.error.__cause__, AuthenticationFailed)
    assert says in str(reply.error)
    assert "secret" not in str(reply.error)


def test_a_broker_that_cannot_prove_itself_is_not_believed() -> None:
    bench = Broker(Login("SCRAM-SHA-512", "wal,ter", "secret", {}))
    reply = bench.ask()
    bench.accept()
    asked = authenticate(bench, versions(), api.SaslHandshakeResponse(0, ["SCRAM-SHA-512"]))
    assert asked[1].mechanism == "SCRAM-SHA-512"
    ((kind, version, number, request),) = bench.requests()
    assert request.token.startswith(b"n,,n=wal=2Cter,r=")
    nonce = request.token.partition(b"r=")[2]
    first = b"r=" + nonce + b"more,s=AAAA,i=4096"
    bench.send(frame(kind, version, number, api.SaslAuthenticateResponse(0, None, first, 0)))
    ((kind, version, number, request),) = bench.requests()
    assert b",p=" in request.token
    bench.send(frame(kind, version, number, api.SaslAuthenticateResponse(0, None, b"v=AAAA", 0)))
    assert isinstance(reply.error, pools.BackendDown)
    assert "could not prove" in str(reply.error)


def test_a_connection_is_renewed_before_the_broker_forgets_who_we_are() -> None:
    bench = Broker(PLAIN)
    reply = bench.ask()
    bench.accept()
    authenticate(
        bench,
        versions(),
        api.SaslHandshakeResponse(0, ["PLAIN"]),
        api.SaslAuthenticateResponse(0, None, b"", 10_000),
        brokers("h"),
    )
    assert reply.error is None
    assert not bench.sockets[0].closed
    bench.advance(8.6)
    assert bench.sockets[0].closed
    assert bench.pool.statistics().lost == 0


def test_it_says_what_it_is() -> None:
    bench = Broker(PLAIN)
    bench.ask()
    bench.accept()
    wire = next(iter(bench.pool.backends[0].all)).wire
    assert repr(wire) == "<KafkaWire greeting, 1 answers expected>"
    assert repr(PLAIN) == "<Login of walter by PLAIN>"
    assert repr(Call(api.Metadata([]))) == "<Call Metadata>"
