"""For tests of wires and pools: a pool on a kernel without sockets, its peers played by the test, and a toy
protocol.

`Bench` spawns a pool of any wire on `actors.testing.ManualKernel`; the test accepts and refuses connections,
reads what was sent on each, answers, ends, resets, and lets time pass. `LineWire` and `Ask` are the smallest
protocol that has everything: one line asks, one line answers. `Account` submits to any pool and keeps the
asker's own count of what becomes of it.
"""

from __future__ import annotations

from .account import Account, differences
from .bench import Bench
from .lines import Ask, LineWire, Refused

__all__ = ["Account", "Ask", "Bench", "LineWire", "Refused", "differences"]
