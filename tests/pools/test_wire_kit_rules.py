"""The kit for wires, case by case: each alone, and cheap."""

from __future__ import annotations

from typing import Any

import pytest

from actors import ANYTHING, UNCHANGED, Continue, Outcome, StreamProtocol, TcpAddress, Transport
from actors.testing.conformance import NotConformant
from pools import Unit, Work
from pools.testing import Ask, LineWire, Refused
from pools.testing.conformance import Case, Exchange, check_wire

ONE: list[Exchange] = [(Ask("one"), b"one\n", b"ONE\n", b"ONE")]
TWO: list[Exchange] = [*ONE, (Ask("two", idempotent=True), b"two\n", b"TWO\n", b"TWO")]
PLACES = len(b"ONE\n") + 1
KINDS = ("wakeup", "deadline", "reset", "end", "garbage", "slow", "drain", "stop")


def test_all_that_happens_is_counted() -> None:
    tally = check_wire(LineWire, ONE)
    faults = tally.pop("fault")
    assert tally == {"cut": PLACES, "suspect": 1, "cancel": PLACES, **dict.fromkeys(KINDS, PLACES)}
    assert faults == 4  # start, send, received, closed


class Spent(LineWire):
    """Gives wrong answers from the third on: only who asks once more sees it."""

    __slots__ = ()

    def _line(self, line: bytes) -> bool:
        return super()._line(b"spent" if self.connection.completed >= 2 else line)


@pytest.mark.parametrize("case", [("cut", 3), ("wakeup", 3), ("cancel", 3, 1), ("suspect", 0), ("slow", 3)])
def test_after_each_case_all_is_asked_once_more(case: Case) -> None:
    with pytest.raises(NotConformant, match=r"has got b'spent' instead of its value"):
        check_wire(Spent, TWO, only=case)


def test_it_is_asked_on_a_new_connection_after_a_loss() -> None:
    class SpentAtOnce(LineWire):
        __slots__ = ()

        def _line(self, line: bytes) -> bool:
            return super()._line(line if len(made) == 1 else b"spent")

    for name in ("reset", "end", "garbage", "deadline"):
        made: list[SpentAtOnce] = []

        def make(made: list[SpentAtOnce] = made) -> SpentAtOnce:
            made.append(SpentAtOnce())
            return made[-1]

        with pytest.raises(NotConformant, match="spent"):
            check_wire(make, ONE, only=(name, 1))  # type: ignore[arg-type]
        assert len(made) == 2


class Curious(LineWire):
    """Probes with what the script does not know."""

    __slots__ = ()

    def probe(self) -> Unit[Any]:
        return Ask("there?")


def test_what_a_wire_asks_must_be_known() -> None:
    with pytest.raises(NotConformant, match="sends b'there"):
        check_wire(Curious, ONE, only=("suspect", 0))


def test_a_drain_is_a_goodbye_and_a_stop_is_none() -> None:
    said: list[str] = []

    class Polite(LineWire):
        __slots__ = ()

        def goodbye(self) -> None:
            said.append("goodbye")

        def closed(self, error: BaseException | None) -> None:
            said.append("closed")

    check_wire(Polite, ONE, only=("drain", 4))
    check_wire(Polite, ONE, only=("stop", 4))
    assert said == ["goodbye", "closed", "closed"]


def test_what_is_wrong_is_shown() -> None:
    refused: list[Exchange] = [(Ask("one"), b"one\n", b"error of theirs\n", b"ONE")]
    with pytest.raises(NotConformant, match=r"unit 0 \(Ask\('one'\)\) has got Refused\('error of theirs'\)"):
        check_wire(LineWire, refused, only=("cut", 0))
    half: list[Exchange] = [(Ask("one"), b"one\n", b"ON", b"ONE")]
    with pytest.raises(NotConformant, match=r"unit 0 \(Ask\('one'\)\) has not settled instead of its value"):
        check_wire(LineWire, half, only=("cut", 0))
    with pytest.raises(NotConformant, match=r"unit 0 \(Ask\('one'\)\) has not settled\n.*\n.*'drain', 1"):
        check_wire(LineWire, half, only=("drain", 1))
    wrong: list[Exchange] = [(Ask("one"), b"one\n", b"ONE\n", Refused)]
    with pytest.raises(NotConformant, match=r"has got b'ONE' instead"):
        check_wire(LineWire, wrong, only=("cut", 0))
    with pytest.raises(NotConformant, match=r"has got b'ONE', which is neither"):
        check_wire(LineWire, wrong, only=("reset", 4))


def test_it_is_one_connection_with_all_units_in_flight() -> None:
    made = []

    class Noting(LineWire):
        __slots__ = ()

        def start(self) -> Any:
            made.append(self)
            return super().start()

        def send(self, work: Work[Any]) -> None:
            super().send(work)
            depths.append(self.connection.in_flight)

    for pipeline, expected in ((None, [1, 2]), (1, [1, 1])):
        made.clear()
        depths: list[int] = []
        check_wire(Noting, TWO, only=("cut", 0), pipeline=pipeline)
        assert len(made) == 1
        assert depths[:2] == expected


def test_a_greeting_comes_first_and_only_if_there_is_one() -> None:
    heard: list[bytes] = []

    class Listening(LineWire):
        __slots__ = ()

        def received(self) -> Any:
            heard.append(bytes(self.transport.input))
            return super().received()

    check_wire(Listening, ONE, only=("cut", 0))
    assert heard[0] == b"ONE\n"
    heard.clear()
    check_wire(lambda: Listening(b"hello"), ONE, greeting=b"hello\n", only=("cut", 0))
    assert heard[0] == b"hello\n"


def test_a_fault_of_the_kit_is_made_and_is_not_the_wires() -> None:
    struck: list[str] = []

    class Hurt(LineWire):
        __slots__ = ()

        def closed(self, error: BaseException | None) -> None:
            struck.append(str(error))

    check_wire(Hurt, ONE, only=("fault", "received", 0))
    assert any("crash" in each or "made by the kit" in each for each in struck), struck


# -- what happens is seen by the wire, or by its server ------------------------------------------------------


class Fresh(LineWire):
    """Answers with what was never answered, in one of its handlers."""

    __slots__ = ()

    def made_up(self) -> None:
        if self.connection.current is not None:
            self.connection.settle(b"made up")


class AtItsEnd(Fresh):
    __slots__ = ()

    def closed(self, error: BaseException | None) -> None:
        self.made_up()


class WhenWoken(Fresh):
    __slots__ = ()

    def wakeup(self) -> Any:
        self.made_up()


class WhenCancelled(Fresh):
    __slots__ = ()

    def abandoned(self, work: Work[Any]) -> None:
        self.connection.wake()

    def wakeup(self) -> Any:
        self.made_up()


@pytest.mark.parametrize(
    ("wire", "case"),
    [
        (AtItsEnd, ("fault", "received", 0)),
        (AtItsEnd, ("reset", 1)),
        (AtItsEnd, ("end", 1)),
        (AtItsEnd, ("stop", 1)),
        (WhenWoken, ("wakeup", 1)),
        (WhenCancelled, ("cancel", 1, 0)),
    ],
)
def test_each_case_finds_an_answer_that_was_made_up(wire: type[Fresh], case: Case) -> None:
    with pytest.raises(NotConformant, match=r"instead of its value|neither its value nor a loss"):
        check_wire(wire, TWO, only=case)


class Piecemeal(StreamProtocol):
    """Notes how much it is sent at a time."""

    def __init__(self, heard: list[int]) -> None:
        self.heard = heard

    def connected(self, transport: Transport) -> Outcome:
        return Continue(self, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        *lines, rest = bytes(transport.input).split(b"\n")
        self.heard.append(len(transport.input))
        transport.input = rest
        for line in lines:
            transport.write(line.upper() + b"\n")
        return UNCHANGED


def test_a_slow_server_takes_byte_by_byte() -> None:
    heard: list[int] = []
    check_wire(LineWire, [(Ask("one"), b"ONE")], server=lambda: lambda: Piecemeal(heard), only=("slow", 4))
    assert heard == [4, 1, 2, 3, 4, 4]  # all at once, then a byte at a time, then once more


def test_a_probe_that_is_not_answered_costs_nobody_an_answer() -> None:
    check_wire(Curious, ONE, script=[(b"there?\n", b"")], only=("suspect", 0))


def test_the_story_itself_can_be_tried_again() -> None:
    half: list[Exchange] = [(Ask("one"), b"one\n", b"ON", b"ONE")]
    with pytest.raises(NotConformant, match=r"again: check_wire\(…, only=\('cut', 0\)\)"):
        check_wire(LineWire, half)


def test_a_connection_that_is_left_open_is_found() -> None:
    class Leaving(LineWire):
        """Opens one of its own, and forgets it."""

        __slots__ = ()

        def start(self) -> Any:
            self.transport.scope.loop.kernel.connect(TcpAddress("192.0.2.9", 9))
            return super().start()

    with pytest.raises(NotConformant, match="1 connections are left open"):
        check_wire(Leaving, ONE, only=("stop", 4))


def test_a_wire_that_is_not_told_of_its_end_is_found() -> None:
    class Twice(LineWire):
        __slots__ = ()

        def received(self) -> Any:
            super().received()
            self.closed(None)

    with pytest.raises(NotConformant, match=r"closed\(\) was called 2 times for 1 connections"):
        check_wire(Twice, ONE, only=("stop", 4))


def test_books_that_a_wire_upsets_are_found() -> None:
    class Cheating(LineWire):
        __slots__ = ()

        def received(self) -> Any:
            self.connection.pool.ledger.submitted += 1
            return super().received()

    with pytest.raises(NotConformant, match=r"the pool's figures do not add up: .*submitted=2"):
        check_wire(Cheating, ONE, only=("cut", 4))
