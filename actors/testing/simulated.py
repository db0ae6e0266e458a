"""What a test does with a simulation: run a scenario from the session's seed, and say how to run it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from actors.simulation import CALM, Act, Faults, Report, Scenario, World, guard, scenario, shrink, simulate
from actors.simulation.knobs import Turned
from actors.simulation.shrink import as_code

__all__ = ["Simulation", "SimulationFailed"]

SHRINK_RUNS_MAX: Final = 100  # of a run that has failed, before it is told


class SimulationFailed(AssertionError):
    """A run of a scenario has found something wrong, or has not been the same twice."""


class Simulation:
    """Runs scenarios for one test. The pytest fixture `simulation` is one; `seed` is the session's."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._open = ExitStack()

    def __repr__(self) -> str:
        return f"<Simulation of seed {self.seed}>"

    def run(
        self,
        story: Scenario | Callable[[World], object],
        *,
        faults: Faults | None = None,
        script: Sequence[Act] | None = None,
        seconds: float | None = None,
        knobs: Turned | None = None,
        runs: int = 1,
    ) -> Report:
        """Run a scenario with this seed, twice: the traces must be the same. Returns the last report.

        `runs`: how many seeds, one after the other. `faults`, `script`, `seconds`, `knobs` are those
        of `simulate`. Raises `SimulationFailed`, with the few faults and knobs that it takes; `seed` is then
        the one that has failed.
        """
        if not isinstance(story, Scenario):
            story = scenario(faults=CALM)(story)
        report: Report | None = None
        for seed in range(self.seed, self.seed + runs):
            self.seed = seed
            report, again = (
                simulate(story, seed, faults=faults, script=script, seconds=seconds, knobs=knobs)
                for _ in range(2)
            )
            if report.failure is not None:
                raise SimulationFailed(f"seed {seed}: {report.failure}\n{shortest(story, report)}")
            if report.hash != again.hash:
                raise SimulationFailed(
                    f"seed {seed}: two runs are not the same; something is not the kernel's "
                    "(a set's order, the real clock, random numbers of its own)"
                )
        if report is None:
            raise ValueError(f"runs={runs}; write 1 or more")
        return report

    def world(self, faults: Faults = CALM) -> World:
        """A world to drive by hand: `world.host(…)`, `world.run(seconds)`. Until the test has ended no real
        clock, socket or thread can be reached."""
        self._open.enter_context(guard())
        world = World(self.seed, faults)
        self._open.callback(world.close)
        world.injector.start()
        return world

    def close(self) -> None:
        """The end of the test: worlds are closed, reality is back."""
        self._open.close()


def shortest(story: Scenario, report: Report) -> str:
    """The faults that it takes, as an argument for `run`."""
    shrunk = shrink(story, report, runs_max=SHRINK_RUNS_MAX)
    if shrunk is None:
        return "its faults alone do not make it fail"
    acts = "".join(f"\n    {as_code(act)}," for act in shrunk.acts)
    knobs = f"knobs={dict(shrunk.knobs)!r}"
    if not acts:
        return f"it takes no faults{f', but {knobs}' if shrunk.knobs else ''}"
    return f"it takes: script=[{acts}\n], {knobs}"
