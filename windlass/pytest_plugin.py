"""The pytest plugin: fixtures without sockets and without waiting, and one seed for what is random.

Pytest imports every installed plugin when it starts, in every project. So this must cost nothing, must not
import `actors` before coverage measures it, and must do no harm where a project has a package of its own that
is called `actors`. Its fixtures import what they need when a test asks for them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from actors.testing import FakeTransport, ManualClock, ManualKernel
    from actors.testing.simulated import Simulation

__all__ = ["fake_transport", "manual_clock", "manual_kernel", "simulation", "windlass_seed"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--windlass-seed`."""
    parser.getgroup("windlass").addoption(
        "--windlass-seed",
        type=int,
        default=None,
        metavar="N",
        help="the seed of simulations; a fresh one each time if not given, shown when a test fails",
    )


@pytest.fixture(scope="session")
def windlass_seed(pytestconfig: pytest.Config) -> int:
    """The seed of this session: what `--windlass-seed` says, or a fresh one."""
    given: int | None = pytestconfig.getoption("windlass_seed")
    return int.from_bytes(os.urandom(4)) if given is None else given


@pytest.fixture
def simulation(windlass_seed: int) -> Iterator[Simulation]:
    """Runs scenarios on a simulated network: `simulation.run(scenario)`."""
    from actors.testing.simulated import Simulation

    made = Simulation(windlass_seed)
    yield made
    made.close()


@pytest.fixture
def manual_kernel() -> ManualKernel:
    """A kernel without sockets whose time stands still, for `Loop(kernel=manual_kernel)`."""
    from actors.testing import ManualKernel

    return ManualKernel()


@pytest.fixture
def manual_clock(manual_kernel: ManualKernel) -> ManualClock:
    """The clock of `manual_kernel`: time passes by `manual_clock.advance(seconds)` only."""
    return manual_kernel.clock


@pytest.fixture
def fake_transport(manual_kernel: ManualKernel) -> Iterator[FakeTransport]:
    """A transport that is only buffers, on a loop of `manual_kernel`, to call a protocol's handlers with."""
    from actors import Loop
    from actors.testing import FakeTransport

    with Loop(kernel=manual_kernel) as loop:
        yield FakeTransport(loop)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed of a simulation that has failed, and the line that runs it again."""
    report = yield
    used: Any = getattr(item, "funcargs", {}).get("simulation")
    if report.failed and used is not None and call.when != "setup":
        seed = getattr(used, "seed", None)
        report.sections.append(("windlass", f"pytest '{item.nodeid}' --windlass-seed={seed}"))
    return report
