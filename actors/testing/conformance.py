"""A kit to run on your own machine or stream protocol: everything that must hold whatever it is for.

    check_protocol(Echo, conversations=[[(b"one", b"one"), (b"two", b"two")]])
    check_machine(Refresher, events=[WAKE, EXPIRE, do(send_it_a_message)])

The events that are given are a story in which all goes well. The kit tells it again and again, each time
with one thing different, and from every state on the way: after each event and, for bytes, in their middle.

1. The story twice: the same each time, with the answers that are expected.
2. Bytes cut at every point, one by one, all at once, and with a wakeup in each gap: the same.
3. A wakeup in every state: legal, and nothing visible changes, the deadline included.
4. `clone()` in every state: the copy and the original each end as they would have alone.
5. Deadlines in every state: it stops or goes on; it does not spin.
6. The peer's end and reset in every state: a reset ends it at once, an end by its last deadline at the
   latest.
7. A stop from outside and a drain in every state: cleaned up once, nothing left behind.
8. An exception in every handler, before and after its work: that machine alone stops, and is cleaned up.
9. A peer that takes nothing for a while, then a little at a time: it is sent the same.

"Visible" is what the peer is sent, whether it lives, its state's class, its deadline, the error it has
stopped with, and what `look(driver)` adds. The first thing that fails raises `NotConformant`, with the state
and the line that gets there again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Final, NamedTuple

from actors.errors import DelimiterNotFound
from actors.events import EventLog
from actors.machine import Machine
from actors.net.streams import StreamProtocol
from actors.outcomes import NEVER, UNCHANGED, Outcome
from actors.scope import Scope

from .driver import Driver, Fault
from .events import DRAIN, END, EXPIRE, RESET, STOP, WAKE, Event, advance, chain, receive, room, trickle
from .kernel import ManualKernel

__all__ = ["Conversation", "NotConformant", "Tally", "check_machine", "check_protocol"]

CUTS_MAX: Final = 256  # places at which the bytes of one event are cut; of more, that many, evenly spread
STATES_MAX: Final = 24  # of them, those in which other things are made to happen
DEADLINES_MAX: Final = 64  # deadlines that may pass after the peer's end until it must have stopped
TRICKLE_STEPS: Final = 200  # in which a slow peer takes the whole output
PATIENT: Final = frozenset({"receive", "end", "wake", "do"})  # while these happen a peer may be slow
DRAIN_SECONDS: Final = 31.0  # more than `Driver.drain` grants

Conversation = Sequence[Event | tuple[bytes, bytes | None]]
"""What the peer says with what it must be answered (None: anything), or an event."""


class NotConformant(AssertionError):
    """A rule of the kit does not hold: which, in what state, and how to get there again."""


class Tally(Counter[str]):
    """How often each rule was tried: what a check has shown."""

    def __repr__(self) -> str:
        return f"<Tally of {self.total()}: {', '.join(f'{name} {count}' for name, count in self.items())}>"


def check_machine(
    factory: Callable[[], Machine[Any] | StreamProtocol],
    events: Iterable[Event],
    *,
    look: Callable[[Driver], object] = lambda driver: None,
    reads: Callable[[bytes], object] = bytes,
    clones: bool = True,
    spurious: bool = True,
    lingers: bool = False,
    together: bool = True,
    raises: tuple[type[BaseException], ...] = (),
) -> Tally:
    """Check a machine, or a stream protocol, along `events` (see `actors.testing.events`).

    `factory` makes one in its first state, a new one each time. `look(driver)`: what else is visible, as
    something that compares. `reads(sent)`: what the peer makes of all it was sent, where that may be written
    in more than one way (chunks, say). `clones`: whether it can be copied (what holds coroutines cannot).
    `spurious`: whether a wakeup without a reason must change nothing; False where the wakeup itself means
    something. `lingers`: whether it may outlive the peer's end. `together`: whether the peer may say
    everything at once, without waiting for answers. `raises`: what its handlers may raise. Raises
    `NotConformant`.
    """
    told = list(events)
    kit = _Kit(factory, told, [None] * len(told), look, reads, (*raises, DelimiterNotFound))
    return kit.check(clones, spurious, lingers, together)


def check_protocol(
    factory: Callable[[], StreamProtocol],
    conversations: Iterable[Conversation],
    *,
    look: Callable[[Driver], object] = lambda driver: None,
    reads: Callable[[bytes], object] = bytes,
    clones: bool = True,
    spurious: bool = True,
    lingers: bool = False,
    together: bool = True,
    raises: tuple[type[BaseException], ...] = (),
) -> Tally:
    """Check a stream protocol along each conversation: what the peer says, and what it must be answered.

    The other options are those of `check_machine`. Raises `NotConformant`.
    """
    tally = Tally()
    for conversation in conversations:
        events = [part if isinstance(part, Event) else receive(part[0]) for part in conversation]
        answers = [None if isinstance(part, Event) else part[1] for part in conversation]
        kit = _Kit(factory, events, answers, look, reads, (*raises, DelimiterNotFound))
        tally += kit.check(clones, spurious, lingers, together)
    return Tally(tally)


class _View(NamedTuple):
    """What is visible of a machine."""

    alive: bool
    state: str
    deadline: float
    error: str
    sent: object
    look: object

    def against(self, other: _View) -> str:
        """How it differs from what was expected."""
        return "; ".join(
            f"{name} is {here!r} instead of {there!r}"
            for name, here, there in zip(self._fields, self, other, strict=True)
            if here != there
        )


class _Silence(EventLog):
    """Provoked crashes are no news."""

    def __init__(self) -> None:
        super().__init__(float)

    def _emit(self, level: str, event: str, cause: str | None, fields: dict[str, Any]) -> None:
        """Says nothing."""


class _Bystander(Machine[int]):
    """Another machine on the same loop, that must not be touched."""

    wakeups = 0

    def wakeup(self, scope: Scope) -> Outcome:
        self.wakeups += 1
        return UNCHANGED


class _Run:
    """One telling of the story: the driver, what has happened to it and what it has sent."""

    def __init__(self, kit: _Kit, events: Iterable[Event] = (), fault: Fault | None = None) -> None:
        self.kit = kit
        self.fault = fault
        self.events: list[Event] = []
        self.sent = b""
        self.kernel = ManualKernel()
        self.driver = Driver(kit.factory(), kernel=self.kernel, fault=fault, log=_Silence())
        self._take()
        self.go(*events)

    def _take(self) -> None:
        if self.driver.socket is not None:
            self.sent += self.driver.sent()

    def go(self, *events: Event) -> _Run:
        """Let things happen."""
        for event in events:
            self.events.append(event)
            try:
                event.happen(self.driver)
            except AssertionError as error:
                raise self.failure("it must come to rest", str(error)) from error
            self._take()
        return self

    def view(self) -> _View:
        """What is visible now."""
        driver = self.driver
        return _View(
            driver.alive,
            type(driver.machine).__qualname__,
            driver.deadline if driver.alive else NEVER,
            type(driver.error).__name__,
            self.kit.reads(self.sent),
            self.kit.look(driver),
        )

    def copied(self) -> _Run:
        """A copy that goes its own way."""
        twin = object.__new__(_Run)
        twin.kit, twin.fault, twin.events, twin.sent = self.kit, self.fault, [*self.events], self.sent
        twin.driver = self.driver.clone()
        twin.kernel = twin.driver.kernel
        return twin

    def failure(self, rule: str, what: str) -> NotConformant:
        """What is wrong, in which state, and the line that gets there."""
        fault = "" if self.fault is None else f", fault={self.fault!r}"
        return NotConformant(
            f"{rule}: {what}\n"
            f"  state: {self.driver.machine!r} after {len(self.events)} events\n"
            f"  again: Driver({self.kit.name}(){fault}){chain(self.events)}"
        )

    def expect(self, wanted: _View, rule: str) -> None:
        """It must look like this."""
        self.sound(rule)
        found = self.view()
        if found != wanted:
            raise self.failure(rule, found.against(wanted))

    def sound(self, rule: str) -> None:
        """What must hold whenever anything has happened."""
        driver = self.driver
        if driver.clean_up_error is not None:
            raise self.failure(rule, f"stopped() has raised {driver.clean_up_error!r}")
        crashed = driver.loop.statistics().crashed and driver.error is not None
        if crashed and self.fault is None and not isinstance(driver.error, self.kit.raises):
            raise self.failure(rule, f"a handler has raised {driver.error!r}")
        if driver.stops != (not driver.alive):
            raise self.failure(rule, f"stopped() was called {driver.stops} times")

    def gone(self, rule: str) -> None:
        """It must have stopped, and have left nothing behind."""
        self.sound(rule)
        driver = self.driver
        if driver.alive:
            raise self.failure(rule, "it must have stopped, and goes on")
        if driver.loop.alive(driver.token):
            raise self.failure(rule, "its stream goes on")
        if driver.socket is not None and not driver.socket.closed:
            raise self.failure(rule, "its socket is open")


class _Kit:
    """One story, and what is made of it."""

    def __init__(
        self,
        factory: Callable[[], Machine[Any] | StreamProtocol],
        events: list[Event],
        answers: list[bytes | None],
        look: Callable[[Driver], object],
        reads: Callable[[bytes], object],
        raises: tuple[type[BaseException], ...],
    ) -> None:
        name = getattr(factory, "__name__", "make")
        self.name = name if name.isidentifier() else "make"
        self.factory = factory
        self.events = events
        self.answers = answers
        self.look = look
        self.reads = reads
        self.raises = raises
        self.tally = Tally()
        self.over_a_connection = False  # these the story tells
        self.steps = 0
        self.sent_bytes = 0
        self.end_view: _View

    def check(self, clones: bool, spurious: bool, lingers: bool, together: bool) -> Tally:
        """All of it."""
        self.the_story()
        self.cuts(spurious, together)
        for before, rest in self.states():
            if spurious:
                self.wakeup(before, rest)
            if clones:
                self.clone(before, rest)
            self.deadlines(before, rest)
            self.stop(before, rest)
            if self.over_a_connection:
                self.end(before, lingers)
                self.back_pressure(before, rest)
        self.faults()
        return self.tally

    # -- the ways to tell it ---------------------------------------------------------------------------------

    def states(self) -> Iterator[tuple[list[Event], list[Event]]]:
        """Every state on the way, as the events that lead there and those that are left."""
        events = self.events
        for index in range(len(events) + 1):
            yield events[:index], events[index:]
            if index < len(events) and events[index].method == "receive":
                (data,) = events[index].arguments
                for cut in evenly(range(1, len(data)), STATES_MAX):
                    head, tail = receive(data[:cut]), receive(data[cut:])
                    yield [*events[:index], head], [tail, *events[index + 1 :]]

    # -- the rules -------------------------------------------------------------------------------------------

    def the_story(self) -> None:
        """Rule 1."""
        first, second = _Run(self), _Run(self)
        if first.driver.machine is second.driver.machine:
            raise first.failure("the factory must make a new one each time", "it gave the same twice")
        self.over_a_connection = first.driver.socket is not None
        for event, answer in zip(self.events, self.answers, strict=True):
            had = len(first.sent)
            first.go(event)
            first.sound("the story as it was given")
            if answer is not None and first.sent[had:] != answer:
                what = f"the answer is {first.sent[had:]!r} instead of {answer!r}"
                raise first.failure("the story as it was given", what)
            second.go(event).expect(first.view(), "the same story gives the same")
        self.end_view = first.view()
        self.sent_bytes = len(first.sent)
        self.steps = len(first.driver.steps)
        self.tally["story"] += 1

    def cuts(self, spurious: bool, together: bool) -> None:
        """Rule 2."""
        events = self.events
        for index, event in enumerate(events):
            if event.method != "receive":
                continue
            (data,) = event.arguments
            ways = [[data[at : at + 1] for at in range(len(data))]]
            ways += [[data[:cut], data[cut:]] for cut in evenly(range(1, len(data)), CUTS_MAX)]
            for pieces in ways:
                parts = [receive(piece) for piece in pieces]
                self.ends_the_same(
                    "wherever the bytes are cut", [*events[:index], *parts, *events[index + 1 :]]
                )
                if spurious and len(parts) == 2:
                    parts.insert(1, WAKE)
                    rule = "wherever the bytes are cut, and woken there"
                    self.ends_the_same(rule, [*events[:index], *parts, *events[index + 1 :]])
        if together and self.over_a_connection:
            self.ends_the_same("the peer says everything at once", joined(events))

    def ends_the_same(self, rule: str, events: list[Event]) -> None:
        """As the story does."""
        _Run(self, events).expect(self.end_view, rule)
        self.tally["cuts"] += 1

    def wakeup(self, before: list[Event], rest: list[Event]) -> None:
        """Rule 3."""
        rule = "a wakeup without a reason changes nothing"
        run = _Run(self, before)
        view = run.view()
        run.go(WAKE).expect(view, rule)
        run.go(WAKE, *rest).expect(self.end_view, rule)
        self.tally["wakeups"] += 1

    def clone(self, before: list[Event], rest: list[Event]) -> None:
        """Rule 4."""
        run = _Run(self, before)
        view = run.view()
        try:
            twin = run.copied()
        except Exception as error:
            what = f"it cannot be copied ({error!r}); give clones=False if it holds coroutines or open files"
            raise run.failure("a clone goes its own way", what) from error
        twin.expect(view, "a clone is the same")
        twin.go(*rest).expect(self.end_view, "a clone goes on as the original would have")
        run.expect(view, "what a clone does is nothing to the original")
        run.go(*rest).expect(self.end_view, "what a clone did is nothing to the original")
        self.tally["clones"] += 1

    def deadlines(self, before: list[Event], rest: list[Event]) -> None:
        """Rule 5."""
        rule = "a deadline may pass in every state"
        run = _Run(self, before)
        if run.driver.deadline == NEVER:
            return
        for _ in range(3):
            run.go(EXPIRE).sound(rule)
        run.go(*rest).sound(rule)
        self.tally["deadlines"] += 1

    def end(self, before: list[Event], lingers: bool) -> None:
        """Rule 6."""
        _Run(self, [*before, RESET]).gone("a reset ends it at once")
        rule = "the peer may end in every state"
        run = _Run(self, [*before, END])
        run.sound(rule)
        for _ in range(DEADLINES_MAX):
            if run.driver.deadline == NEVER:
                break
            run.go(EXPIRE).sound(rule)
        if run.driver.alive and not lingers:
            raise run.failure(
                rule, "it outlives the peer's end and its own deadlines (lingers=True allows it)"
            )
        self.tally["ends"] += 2

    def stop(self, before: list[Event], rest: list[Event]) -> None:
        """Rule 7."""
        rule = "it may be stopped in every state"
        run = _Run(self, before)
        steps = len(run.driver.steps)
        run.go(STOP).gone(rule)
        run.go(*(event for event in rest if event.method != "do")).gone(rule)
        if len(run.driver.steps) != steps:
            raise run.failure(rule, f"{run.driver.last.handler} was called after stopped()")
        run = _Run(self, [*before, DRAIN])
        run.sound("the loop may drain in every state")
        run.go(advance(DRAIN_SECONDS)).gone("a drain has an end")
        self.tally["stops"] += 2

    def faults(self) -> None:
        """Rule 8."""
        rule = "an exception stops that machine alone"
        for step in evenly(range(self.steps), CUTS_MAX):
            for after in (False, True):
                fault = Fault(step, after=after)
                self.tally["faults"] += 1
                try:
                    run = _Run(self, fault=fault)
                except RuntimeError as error:
                    if error is not fault.error:
                        raise
                    if fault.stops != 1 or fault.clean_up_error is not None:
                        raise NotConformant(
                            f"{rule}: stopped() was called {fault.stops} times, raising "
                            f"{fault.clean_up_error!r}\n"
                            f"  again: Driver({self.name}(), fault={fault!r})"
                        ) from error
                    continue
                bystander = _Bystander()
                token = run.driver.loop.spawn(bystander)
                for event in self.events:
                    if not fault.struck:
                        run.go(event)
                if fault.struck:
                    run.gone(rule)
                run.driver.loop.wake(token)
                run.driver.settle()
                if bystander.wakeups != 1 and not run.driver.loop.draining:
                    raise run.failure(rule, "another machine on the loop was no longer woken")

    def back_pressure(self, before: list[Event], rest: list[Event]) -> None:
        """Rule 9."""
        step = max(1, self.sent_bytes // TRICKLE_STEPS)
        slow = list(takewhile(lambda event: event.method in PATIENT, rest))
        run = _Run(self, [*before, room(0), *slow, trickle(step), *rest[len(slow) :]])
        run.expect(self.end_view, "a slow peer is sent the same")
        self.tally["slow peers"] += 1


def evenly(numbers: range, count: int) -> Sequence[int]:
    """At most so many of them, the first and the last among them."""
    if len(numbers) <= count:
        return numbers
    return sorted({numbers[round(place * (len(numbers) - 1) / (count - 1))] for place in range(count)})


def joined(events: list[Event]) -> list[Event]:
    """What the peer says in a row becomes one piece."""
    pieces: list[Event] = []
    for event in events:
        if pieces and event.method == pieces[-1].method == "receive":
            pieces[-1] = receive(pieces[-1].arguments[0] + event.arguments[0])
        else:
            pieces.append(event)
    return pieces
