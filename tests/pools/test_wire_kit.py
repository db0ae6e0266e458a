"""The kit for wires finds what it says it finds: for each rule a wire that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from actors import ANYTHING, SLEEP, UNCHANGED, Continue, Expectation, Outcome, StreamProtocol, Transport
from actors.testing.conformance import NotConformant
from pools import Wire, Work
from pools.testing import Ask, LineWire, Refused
from pools.testing.conformance import Exchange, check_wire

EXCHANGES: list[Exchange] = [
    (Ask("one"), b"one\n", b"ONE\n", b"ONE"),
    (Ask("two", idempotent=True), b"two\n", b"TWO\n", b"TWO"),
    (Ask("bad"), b"bad\n", b"error of theirs\n", Refused),
    (Ask("three", pipelinable=False), b"three\n", b"THREE\n", b"THREE"),
]


def test_the_toy_protocol_passes() -> None:
    tally = check_wire(LineWire, EXCHANGES)
    size = len(b"ONE\nTWO\nerror of theirs\nTHREE\n")
    assert tally["cut"] == size + 1
    assert tally["reset"] == tally["end"] == size + 1
    assert tally["cancel"] == 4 * (size + 1)
    assert tally["fault"] >= 5


def test_with_a_greeting_and_without_a_pipeline() -> None:
    check_wire(lambda: LineWire(b"hello"), EXCHANGES[:2], greeting=b"hello\n")
    check_wire(LineWire, EXCHANGES[:2], pipeline=1)


class Forgetful(LineWire):
    """Keeps the reply with the asker: one that has gone leaves its answer to the next."""

    __slots__ = ("gone",)

    def __init__(self) -> None:
        super().__init__()
        self.gone = 0

    def abandoned(self, work: Work[Any]) -> None:
        self.gone += 1
        self.connection.wake()

    def wakeup(self) -> Expectation | None:
        while self.gone and self.connection.current is not None and self.connection.current.settled:
            self.gone -= 1
            self.connection.settle(None)  # before its answer has come: all behind it are one off
        return None


class Whole(LineWire):
    """Takes each arrival for whole lines."""

    __slots__ = ()

    def received(self) -> Expectation | None:
        for line in self.transport.take(len(self.transport.input)).split(b"\n")[:-1]:
            self._line(line)
        return None


class Deaf(LineWire):
    """Stops reading when it is woken."""

    __slots__ = ()

    def wakeup(self) -> Expectation | None:
        return SLEEP


class Clinging(LineWire):
    """Keeps a connection whose server has gone."""

    __slots__ = ()

    def ended(self) -> Expectation | None:
        self.connection.settle(b"made up")
        return None


class Brittle(LineWire):
    """Believes what it is sent."""

    __slots__ = ()

    def received(self) -> Expectation | None:
        bytes(self.transport.input).decode("ascii")
        return super().received()


class Babbling(LineWire):
    """Sends more than was asked for."""

    __slots__ = ()

    def send(self, work: Work[Any]) -> None:
        super().send(work)
        self.transport.write(b"?\n")


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (Forgetful, r"(?s)instead of its value.*only=\('cancel', "),
        (Whole, r"(?s)unit 0 \(Ask\('one'\)\) has got b'NE' instead.*only=\('cut', 1\)"),
        (Deaf, r"(?s)has not settled instead of its value.*only=\('wakeup', 0\)"),
        (Clinging, r"(?s)has got b'made up', which is neither.*only=\('end', 0\)"),
        (Brittle, r"(?s)machines have crashed.*only=\('garbage', "),
        (Babbling, r"sends b'\?"),
    ],
)
def test_each_rule_is_held(wire: type[Wire], message: str) -> None:
    with pytest.raises(NotConformant, match=message):
        check_wire(wire, EXCHANGES)


def test_the_case_that_is_shown_can_be_tried_alone() -> None:
    with pytest.raises(NotConformant):
        check_wire(Deaf, EXCHANGES, only=("wakeup", 3))
    assert check_wire(Deaf, EXCHANGES, only=("cut", 3)).total() == 1
    assert check_wire(LineWire, EXCHANGES, only=("fault", "received", 0)) == {"fault": 1}


class Shouter(StreamProtocol):
    """The server of the toy protocol, as a machine."""

    def connected(self, transport: Transport) -> Outcome:
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        *lines, rest = bytes(transport.input).split(b"\n")
        transport.input = rest
        for line in lines:
            transport.write(line.upper() + b"\n")
        return UNCHANGED


def test_a_server_may_be_a_machine() -> None:
    tally = check_wire(LineWire, [(Ask("one"), b"ONE"), (Ask("two"), b"TWO")], server=lambda: Shouter)
    assert tally["reset"] == 9


def test_a_wrong_value_is_shown() -> None:
    with pytest.raises(NotConformant, match=r"unit 0 \(Ask\('one'\)\) has got b'ONE' instead of its value"):
        check_wire(LineWire, [(Ask("one"), b"one")], server=lambda: Shouter)
