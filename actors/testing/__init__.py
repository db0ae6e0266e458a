"""For tests of machines and protocols: no sockets, no sleeping, the same result every time.

`ManualKernel` is a kernel whose clock stands still until it is advanced, whose poller never blocks, whose
names are scripted and whose sockets are buffers. `Driver` runs one machine or one stream protocol on it, by
the real loop and the real `Stream`, so that expectations, deadlines and clean-up are exactly those of
production; it keeps each outcome, and `clone()` lets a test go on from one state along several paths.
`FakeTransport` is for calling a protocol's handlers directly. `settle` ticks a loop until it is at rest;
`run_until` is for tests with real sockets. `Promises` judges replies for whoever waits for them.

`conformance` tries every rule there is on your machine or protocol, along `events`; `strategies` makes such
events with hypothesis.
"""

from __future__ import annotations

from .clock import ManualClock
from .driver import Driver, FakeTransport, Fault, Step
from .kernel import ManualKernel
from .promises import Promise, Promises, by_network, same
from .sockets import FakeSocket
from .splitting import at_every_split, splits
from .waiting import run_until, settle

__all__ = [
    "Driver",
    "FakeSocket",
    "FakeTransport",
    "Fault",
    "ManualClock",
    "ManualKernel",
    "Promise",
    "Promises",
    "Step",
    "at_every_split",
    "by_network",
    "run_until",
    "same",
    "settle",
    "splits",
]
