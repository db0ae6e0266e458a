"""Faults that users have met, brought back one at a time by undoing their mend alone: each is found by its
scenario, as what it is, within few runs. How many it took is told (`-s`), and written in docs/simulation.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.undone import Edit, hunt

SOAK = bool(os.environ.get("WINDLASS_SOAK"))  # from the first run on; else the known one is tried first
RUNS_MAX = 50

FETCHING = "protocols/kafka/consumer/fetcher.py"
HTTP_WIRE = "protocols/http/client/wire.py"
KNOBS = "pools/knobs.py"
LEDGER = "pools/ledger.py"
QUEUE = "pools/queues.py"
READING = "protocols/kafka/consumer/positions.py"
SEMANTICS = "protocols/redis/semantics.py"
SESSION = "protocols/postgres/session.py"
STATEMENTS = "protocols/postgres/statements.py"
SUSPECTS = "pools/suspects.py"
WIRE = "protocols/postgres/wire.py"

MISREAD = ("which is not its answer", "a value that cannot be read", "columns have other types")
"""Rows are read as what they are not: that gives another value, or none."""

HTTP_MISREAD = ("that is not the right one", "more than was asked for", "no answer")

UNHEARD = ("has heard everything",)

SWEEPING_QUEUE = (
    Edit(
        KNOBS,
        """\
    Knob("pools.queues.FRONT_SIZE",""",
        """\
    Knob("pools.queues.SWEEP_MIN", (0, 1, 8), (1 << 20,)),
    Knob("pools.queues.FRONT_SIZE",""",
    ),
    Edit(
        LEDGER,
        """\
        self.pending = False
        self._error = error
""",
        """\
        self.left()
        self.pending = False
        self._error = error
""",
    ),
    Edit(
        LEDGER,
        """\
+= 1
        self.left()
""",
        """\
+= 1
""",
    ),
    Edit(
        QUEUE,
        """\
FRONT_SIZE: Final = 256
""",
        """\
FRONT_SIZE: Final = 256
SWEEP_MIN: Final = 64
""",
    ),
    Edit(
        QUEUE,
        """\
    __slots__ = (""",
        """\
    __slots__ = ("_dead", """,
    ),
    Edit(
        QUEUE,
        """\
        self.live = 0
        self._fronts""",
        """\
        self.live = self._dead = 0
        self._fronts""",
    ),
    Edit(
        QUEUE,
        """\
        first = self._backs[0]
        return iter(first) if len(first) == self.live else chain.from_iterable(self._order)
""",
        """\
        works = chain.from_iterable(self._order)
        return (work for work in works if work.pending) if self._dead else works
""",
    ),
    Edit(
        QUEUE,
        """\
            if len(self._backs[0]) == count:
                self._backs[0].clear()
            else:
                for level in self._order:
                    level.clear()
            self.live = self.bytes = 0
""",
        """\
            for level in self._order:
                level.clear()
            self.live = self.bytes = self._dead = 0
""",
    ),
    Edit(
        QUEUE,
        """\
            self.discard(work)
""",
        """\
            for level in self._order:
                size = level.pop(work, None)
                if size is not None:
                    self.live -= 1
                    self.bytes -= size
""",
    ),
    Edit(
        QUEUE,
        """\
            size = level.pop(work, None)
            if size is not None:
                self.live -= 1
                self.bytes -= size
                return True
""",
        """\
            size = level.get(work)
            if size is not None:
                self.live -= 1
                self.bytes -= size
                self._dead += 1
                if self._dead > self.live + SWEEP_MIN:
                    self._sweep()
                return True
""",
    ),
    Edit(
        QUEUE,
        """\
    def expired(self,""",
        """\
    def _sweep(self) -> None:
        for level in self._order:
            for work in [work for work in level if not work.pending]:
                del level[work]
        self._dead = 0

    def expired(self,""",
    ),
)
"""A work that ends stays where it stands, dead, and is swept out later: by a sweep that comes before it has
ended, and so takes it for living."""

BELIEVED = Edit(
    WIRE,
    """\
        elif isinstance(job, Statement) and self._columns != job.columns:
""",
    """\
        elif isinstance(job, Statement) and not job.columns:
""",
)

SHARED_DESCRIPTIONS = (
    Edit(
        SESSION,
        """\
        return None if self.shared.limit else self.shared.guesses.get(sql)
""",
        """\
        return self.shared.guesses.get(sql)
""",
    ),
    Edit(
        SESSION,
        """\
            self._close(self.known.add(statement))
""",
        """\
            self._close(self.known.add(statement))
            if not isinstance(statement, Utility):
                alike = Statement(b"", statement.sql, statement.types, statement.columns)
                self.shared.guesses.add(alike)
""",
    ),
    BELIEVED,
)


class Undone(NamedTuple):
    """What is undone, by which edits, and what each of its scenarios says of it, in which run."""

    name: str
    edits: tuple[Edit, ...]
    findings: dict[str, tuple[int, tuple[str, ...]]]


UNDONE = [
    Undone(
        "a queue that sweeps before what ends has ended",
        SWEEPING_QUEUE,
        dict.fromkeys(("pool", "redis", "proxy"), (2, ("the queue counts",))),
    ),
    Undone(
        "what one connection was told of a statement is believed on all",
        SHARED_DESCRIPTIONS,
        {"schema": (1, MISREAD)},
    ),
    Undone("a guess is not held against the server's own word", (BELIEVED,), {"schema": (2, MISREAD)}),
    Undone(
        "a FETCH is described once and for all",
        (
            Edit(STATEMENTS, 'BY_PORTAL: Final = frozenset({"FETCH", ', "BY_PORTAL: Final = frozenset({"),
            Edit(STATEMENTS, "PLANNED: Final = frozenset({", 'PLANNED: Final = frozenset({"FETCH", '),
        ),
        {"schema": (2, MISREAD)},
    ),
    Undone(
        "what was refused as untrue is sent again by what another connection knows",
        (
            Edit(WIRE, "is not Statement or work.attempts > 1:", "is not Statement:"),
            Edit(WIRE, "known is None or work.attempts > 1:", "known is None:"),
        ),
        {"schema": (2, ("cached plan must not change result type", "does not exist"))},
    ),
    Undone(
        "a head that came before is believed of HEAD as well",
        (
            Edit(HTTP_WIRE, ' and unit.method != "HEAD":', ":"),
            Edit(HTTP_WIRE, ' or method == "HEAD":', ":"),
        ),
        {"proxy": (3, HTTP_MISREAD)},
    ),
    Undone(
        "a topic made anew is read on where the old one was",
        (
            Edit(
                FETCHING,
                "                    self._made_anew(position)\n",
                "                    position.epochs = []\n",
            ),
        ),
        {"topics": (7, UNHEARD)},
    ),
    Undone(
        "a new leader is believed to have what was read from the old one",
        (Edit(READING, "        return self.checked < leader_epoch and ", "        return False and "),),
        {"topics": (1, UNHEARD)},
    ),
    Undone(
        "LSET is sent again after a loss",
        (Edit(SEMANTICS, "frozenset(READS.split())", 'frozenset({*READS.split(), "LSET"})'),),
        {"redis": (6, ("was executed twice",))},
    ),
    Undone(
        "one silence tells nothing of the others",
        (Edit(SUSPECTS, "    for other in list(connection.backend.idle):", "    for other in []:"),),
        {"primaries": (1, ("though all is well again: DeadlineExceeded",))},
    ),
    Undone(
        "a server that says that it is not the primary is kept",
        (
            Edit(
                SUSPECTS,
                "    if now - connection.times.ready < RENEW_SECONDS:",
                "    if now >= connection.times.ready:",
            ),
        ),
        {"primaries": (1, ("well again: RedisError", "well again: PostgresError"))},
    ),
    Undone(
        "statements have the same names in every process",
        (Edit(SESSION, 'b"windlass_%016x_" % source.getrandbits(64)', 'b"windlass_"'),),
        {"schema": (9, ("already exists", "which is not its answer", "was executed twice"))},
    ),
]


@pytest.mark.no_cover
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("undone", "scenario"),
    [
        pytest.param(undone, scenario, id=f"{scenario}: {undone.name}")
        for undone in UNDONE
        for scenario in undone.findings
    ],
)
def test_a_mend_that_is_undone_is_found(undone: Undone, scenario: str, tmp_path: Path) -> None:
    run, findings = undone.findings[scenario]
    found = hunt(undone.edits, scenario, RUNS_MAX, tmp_path, None if SOAK else run)
    assert found is not None, f"not found in {RUNS_MAX} runs"
    sys.stdout.write(f"{scenario}, run {found.run}: {undone.name}: {found.failure.splitlines()[0]}\n")
    assert any(finding in found.failure for finding in findings), found.failure
