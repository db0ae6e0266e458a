"""A contest: who takes part, what each round measured, which bounds were met.

Contestants take turns within every round, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.machine import SERVER_CORES
from benchmarks.servers import Absent, Server

__all__ = ["Bound", "Command", "Job", "Options", "Result", "Sample", "Verdict", "race", "take_turns"]

Sample = dict[str, float]
"""One measurement: `value` in the job's unit, and what else is worth telling."""

Command = Callable[[int], Sequence[str]]
"""The arguments that start a server on a port."""


@dataclass(frozen=True)
class Options:
    """How long to measure."""

    rounds: int = 5
    seconds: float = 3.0
    connections: int = 8000


@dataclass(frozen=True)
class Verdict:
    """A bound held against the figures; `measured` is None where one of the two is absent."""

    claim: str
    bound: float
    aim: float
    measured: float | None

    @property
    def ok(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.bound


@dataclass(frozen=True)
class Bound:
    """`subject` at most `bound` times `peer`, or at most `bound` units where no peer is named."""

    subject: str
    bound: float
    aim: float
    peer: str | None = None

    def verdict(self, result: Result, unit: str) -> Verdict:
        figures, measured = result.figures, None
        if self.subject in figures and (self.peer is None or self.peer in figures):
            measured = figures[self.subject]["value"] / (figures[self.peer]["value"] if self.peer else 1.0)
        against = f"× {self.peer}" if self.peer else unit
        return Verdict(f"{self.subject}: {against}", self.bound, self.aim, measured)


@dataclass
class Result:
    """Medians by contestant, every round's value behind them, and why some are missing."""

    figures: dict[str, Sample] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Something to measure: `measure` does it, the bounds are what we promise."""

    name: str
    title: str
    unit: str
    measure: Callable[[Options], Result]
    bounds: tuple[Bound, ...] = ()


def take_turns(
    samplers: Mapping[str, Callable[[], Sample]], rounds: int, absent: Mapping[str, str] = {}
) -> Result:
    """Call every sampler once per round; who raises `Absent` is out, with the reason."""
    result = Result(absent=dict(absent))
    samples: dict[str, list[Sample]] = {name: [] for name in samplers}
    for _ in range(rounds):
        for name, sampler in samplers.items():
            if name in result.absent:
                continue
            try:
                samples[name].append(sampler())
            except Absent as reason:
                result.absent[name] = str(reason)
    for name in samplers:
        if name not in result.absent:
            result.rounds[name] = [sample["value"] for sample in samples[name]]
            result.figures[name] = {
                key: statistics.median(sample[key] for sample in samples[name]) for key in samples[name][0]
            }
    return result


def race(
    contestants: Mapping[str, Command],
    warm_up: Callable[[Server], object],
    sample: Callable[[Server], Sample],
    rounds: int,
    cores: set[int] = SERVER_CORES,
) -> Result:
    """Start a server per contestant, warm each up, sample them in turns (an idle one costs nothing)."""
    absent: dict[str, str] = {}
    with ExitStack() as running:
        servers: dict[str, Server] = {}
        for name, command in contestants.items():
            try:
                server = running.enter_context(Server(name, command, cores))
                warm_up(server)
                servers[name] = server
            except Absent as reason:
                absent[name] = str(reason)
        samplers = {name: lambda server=server: sample(server) for name, server in servers.items()}
        return take_turns(samplers, rounds, absent)
