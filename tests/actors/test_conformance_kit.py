"""The kit finds what it says it finds: one protocol for each rule that breaks just that one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from actors import (
    ANYTHING,
    NEVER,
    SLEEP,
    UNCHANGED,
    Continue,
    Delimiter,
    Flush,
    Machine,
    Mailbox,
    Outcome,
    Scope,
    Stop,
    StreamProtocol,
    Timeout,
    Transport,
)
from actors.testing import Driver
from actors.testing.conformance import NotConformant, Tally, check_machine, check_protocol
from actors.testing.events import END, EXPIRE, WAKE, advance, do, receive

LINES = [(b"one\n", b"ONE\n"), (b"two\nthree\n", b"TWO\nTHREE\n")]


class Shout(StreamProtocol):
    """Answers each line in capitals. Keeps every rule."""

    def connected(self, transport: Transport) -> Outcome:
        return Timeout(self, transport.scope.now + 10, Delimiter(b"\n", limit=100))

    def received(self, transport: Transport) -> Outcome:
        line, _, _ = bytes(transport.input).partition(b"\n")
        transport.consume(len(line) + 1)
        transport.write(line.upper() + b"\n")
        return self.connected(transport)

    def timeout(self, transport: Transport) -> Outcome:
        return Stop()


def test_a_sound_protocol_passes_and_the_tally_says_what_was_tried() -> None:
    tally = check_protocol(Shout, [LINES])
    assert tally["story"] == 1
    assert tally["cuts"] == 2 + 3 * 2 + 9 * 2 + 1
    states = 3 + 3 + 9
    assert (tally["wakeups"], tally["clones"], tally["stops"]) == (states, states, 2 * states)
    assert tally["faults"] == 2 * 4
    assert "faults 8" in repr(tally)
    assert isinstance(tally, Tally)


class Chunky(Shout):
    """Takes each arrival for a whole message."""

    def connected(self, transport: Transport) -> Outcome:
        return Timeout(self, transport.scope.now + 10, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        transport.write(transport.take(len(transport.input)).upper().rstrip() + b"\n")
        return self.connected(transport)


class LeakyWakeup(Shout):
    """Loses its deadline to a wakeup."""

    def wakeup(self, transport: Transport) -> Outcome:
        return Continue(self)


class Chatty(Shout):
    """Says something at each wakeup."""

    def wakeup(self, transport: Transport) -> Outcome:
        transport.write(b"?")
        return UNCHANGED


class Raising(Shout):
    """Does not expect a deadline."""

    def timeout(self, transport: Transport) -> Outcome:
        raise LookupError("what now?")


class Spinning(Shout):
    """A deadline that has passed already."""

    def timeout(self, transport: Transport) -> Outcome:
        return Timeout(self, transport.scope.now)


class Immortal(Shout):
    """Does not go when the peer has gone."""

    def ended(self, transport: Transport) -> Outcome:
        return Continue(self, SLEEP)


class Careless(Shout):
    """Its clean-up assumes that it had begun."""

    line = b""

    def received(self, transport: Transport) -> Outcome:
        self.line = bytes(transport.input)
        return super().received(transport)

    def stopped(self, transport: Transport, error: BaseException | None) -> None:
        assert self.line[0]


class Undrainable(Shout):
    """Does not expect to be asked."""

    def draining(self, transport: Transport) -> Outcome:
        raise ZeroDivisionError


class Patient(Shout):
    """Reads on while its answers are taken, at whatever speed."""

    def received(self, transport: Transport) -> Outcome:
        super().received(transport)
        return Timeout(self, transport.scope.now + 10, (Delimiter(b"\n", limit=100), Flush(0)))


class Impatient(Shout):
    """Drops what comes while its output has not left."""

    def received(self, transport: Transport) -> Outcome:
        if transport.unsent > 6:
            transport.consume(len(transport.input))
            return Timeout(self, transport.scope.now + 10, Delimiter(b"\n", limit=100))
        return Shout.received(self, transport)


class Stateful(Shout):
    """Shares what should be its own."""

    seen: list[bytes] = []  # noqa: RUF012  # that is the bug

    def received(self, transport: Transport) -> Outcome:
        self.seen.append(bytes(transport.input))
        if len(self.seen) > 4:
            transport.write(b"again ")
        return super().received(transport)


class Handles(Shout):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        self.numbers = (number for number in itertools.count())


ONE = Shout()


def always_the_same() -> StreamProtocol:
    return ONE


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Chunky, "wherever the bytes are cut: .*\n.*\n  again: Driver\\(Chunky\\(\\)\\)\\.receive\\(b'o'\\)"),
        (LeakyWakeup, "changes nothing: deadline is inf instead of 1010"),
        (Chatty, "and woken there: sent is"),
        (Raising, "a deadline may pass in every state: a handler has raised LookupError"),
        (Spinning, "come to rest: .*it spins"),
        (Immortal, "outlives the peer's end"),
        (Careless, r"stopped\(\) has raised IndexError"),
        (Undrainable, "drain in every state: a handler has raised ZeroDivisionError"),
        (Stateful, "the same story gives the same: sent is"),
        (Handles, "cannot be copied .*clones=False"),
        (always_the_same, "must make a new one each time"),
    ],
)
def test_each_rule_is_held(factory: Callable[[], StreamProtocol], message: str) -> None:
    Stateful.seen.clear()
    with pytest.raises(NotConformant, match=message):
        check_protocol(factory, [LINES])


def test_a_wrong_answer_is_shown_with_the_right_one() -> None:
    with pytest.raises(NotConformant, match="the answer is b'ONE\\\\n' instead of b'one\\\\n'"):
        check_protocol(Shout, [[(b"one\n", b"one\n")]])


def test_what_is_allowed_is_not_found() -> None:
    check_protocol(Immortal, [LINES], lingers=True)
    check_protocol(Raising, [LINES], raises=(LookupError,))
    check_protocol(Handles, [LINES], clones=False)
    check_protocol(Patient, [LINES])
    with pytest.raises(NotConformant, match="a wakeup without a reason"):
        check_protocol(LeakyWakeup, [[advance(1), (b"", None)]])


def test_a_slow_peer_is_told_from_a_hasty_one() -> None:
    with pytest.raises(NotConformant, match="the peer says everything at once: sent is"):
        check_protocol(Impatient, [LINES])
    with pytest.raises(NotConformant, match="a slow peer is sent the same"):
        check_protocol(Impatient, [LINES], together=False)


def test_too_long_a_line_is_the_peers_fault() -> None:
    check_protocol(Shout, [[(b"x" * 120, b"")]])


def test_events_may_stand_in_a_conversation() -> None:
    tally = check_protocol(Shout, [[(b"a\n", b"A\n"), EXPIRE], [advance(5), (b"b\n", None), END]])
    assert tally["story"] == 2


class Ready(Machine[Mailbox[str]]):
    """Takes a message, then works on it for a second."""

    def start(self, scope: Scope) -> Outcome:
        self.inbox: Mailbox[str] = Mailbox(scope, 8)
        return Continue(self)

    def handle(self, scope: Scope) -> Mailbox[str]:
        return self.inbox

    def wakeup(self, scope: Scope) -> Outcome:
        return Timeout(Busy(self.inbox), scope.now + 1) if len(self.inbox) else UNCHANGED


class Busy(Ready):
    def __init__(self, inbox: Mailbox[str]) -> None:
        self.inbox = inbox

    def wakeup(self, scope: Scope) -> Outcome:
        return UNCHANGED

    def timeout(self, scope: Scope) -> Outcome:
        self.inbox.receive()
        return Continue(Ready0(self.inbox)) if not len(self.inbox) else Timeout(self, scope.now + 1)


class Ready0(Ready):
    """Ready again."""

    def __init__(self, inbox: Mailbox[str]) -> None:
        self.inbox = inbox


def send(driver: Driver) -> None:
    driver.handle.send("work")


def test_a_machine_with_messages() -> None:
    tally = check_machine(
        Ready, [do(send), WAKE, EXPIRE, do(send), do(send)], look=lambda driver: len(driver.handle)
    )
    assert tally["wakeups"] == 6
    assert tally["ends"] == tally["slow peers"] == 0


class Deaf(Ready):
    """A wakeup means something to it even when there is nothing."""

    def wakeup(self, scope: Scope) -> Outcome:
        return Timeout(self, scope.now + 1)


def test_a_machine_to_which_a_wakeup_means_something() -> None:
    with pytest.raises(NotConformant, match=r"deadline is 1001\.0 instead of inf"):
        check_machine(Deaf, [EXPIRE])
    assert check_machine(Deaf, [WAKE], spurious=False)["wakeups"] == 0


class Fragile(Machine[int]):
    """Cannot be stopped before it has begun."""

    begun = 0

    def start(self, scope: Scope) -> Outcome:
        self.begun = 1
        return Continue(self)

    def stopped(self, scope: Scope, error: BaseException | None) -> None:
        assert 1 // self.begun


def test_a_fault_in_the_very_first_handler_is_cleaned_up_too() -> None:
    with pytest.raises(
        NotConformant,
        match=r"stopped\(\) was called 1 times, raising ZeroDivisionError.*\n.*fault=Fault\(0\)",
    ):
        check_machine(Fragile, [WAKE])


def test_the_line_that_is_shown_can_be_run() -> None:
    with pytest.raises(NotConformant) as caught:
        check_protocol(Chunky, [LINES])
    line = str(caught.value).rpartition("again: ")[2]
    names: dict[str, Any] = {"Driver": Driver, "Chunky": Chunky}
    assert eval(line, names).sent() == b"O\nN\nE\n\nTWO\nTHREE\n"
    assert NEVER > 0
    assert repr(receive(b"a")) == ".receive(b'a')"
