"""The knobs of PostgreSQL, and of what it stands on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors.knobs import Knob, same
from pools.knobs import KNOBS as POOLS

__all__ = ["KNOBS"]

KNOBS: Final[tuple[Knob, ...]] = (
    *POOLS,
    Knob("protocols.postgres.cancel.CANCEL_SECONDS", (0.05,), (20.0,)),
    Knob("protocols.postgres.orphans.CANCEL_AFTER", (0.001,), (2.0,)),
    Knob("protocols.postgres.orphans.LINGER_SECONDS", (0.01,), (10.0,)),
    Knob("protocols.postgres.preparing.ADDED_MAX", (1,), (1 << 16,)),
    Knob(
        "protocols.postgres.statements.KEPT_MAX",
        (0, 40),
        (1 << 20,),
        also={"protocols.postgres.session.KEPT_MAX": same},
    ),
    Knob("protocols.postgres.statements.PREPARED_BYTES_MAX", (0, 2000), (1 << 28,)),
    Knob("protocols.postgres.statements.GUESSES_MAX", (1, 2), (1 << 16,)),
    Knob("protocols.postgres.statements.FICKLE_MAX", (1, 2), (1 << 16,)),
    Knob("protocols.postgres.statements.VANISHED_MAX", (1,), (100,)),
    Knob("protocols.postgres.copy.transfer.OUTPUT_MAX", (1, 1000), (1 << 24,)),
    Knob("protocols.postgres.copy.transfer.PIECES_MAX", (1, 2), (1000,)),
    Knob("protocols.postgres.copy.transfer.SKIP_MAX", (0, 100), (1 << 24,)),
    Knob("protocols.postgres.copy.transfer.SKIP_SECONDS", (0.01,), (10.0,)),
    Knob("protocols.postgres.copy.units.PIECE", (1, 100), (1 << 20,)),
    Knob("protocols.postgres.copy.units.STREAM_CAPACITY", (1, 1000), (1 << 22,)),
    Knob("protocols.postgres.rows.RUN_MIN", (2,), (1000,)),
    Knob("protocols.postgres.rows.RUN_MAX", (8,), (1 << 16,)),
    Knob("protocols.postgres.rows.IRREGULAR", (1, 2), (10_000,)),
    Knob("protocols.postgres.types.scalars.LARGE", (1, 2), (10_000,)),
    Knob("protocols.postgres.wire.DOUBT_SECONDS", (0.0, 0.05), (60.0,)),
    Knob("protocols.postgres.answers.LARGE", (0, 100), (1 << 24,)),
    Knob("protocols.postgres.wire.SENDS_MAX", (2,), (10,)),
)
