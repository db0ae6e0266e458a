"""The knobs of HTTP, and of what it stands on: see `actors.knobs`."""

from __future__ import annotations

from typing import Final

from actors import ANYTHING, SLEEP, Flush
from actors.knobs import Knob, same
from pools.knobs import KNOBS as POOLS

__all__ = ["KNOBS"]


def drained(high: int) -> Flush:
    """Down to the low watermark."""
    return Flush(high // 4)


KNOBS: Final[tuple[Knob, ...]] = (
    *POOLS,
    Knob(
        "actors.transports.HIGH_WATERMARK",
        (4, 4096),
        (1 << 24,),
        also={
            "protocols.http.exchanges.HIGH_WATERMARK": same,
            "protocols.http.exchanges.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.exchanges.DRAINED": drained,
            "protocols.http.tunnels.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.tunnels.READ_AND_DRAIN": lambda high: (ANYTHING, drained(high)),
            "protocols.http.tunnels.ONLY_DRAIN": lambda high: (SLEEP, drained(high)),
            "protocols.http.wire.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.wire.DRAINED": drained,
        },
    ),
    Knob("protocols.http.connections.SENDING_MIN", (0, 100), (1 << 24,)),
    Knob(
        "protocols.http.head.HEADS_KEPT",
        (0, 1, 2),
        (100_000,),
        also={"protocols.http.server.HEADS_KEPT": same, "protocols.http.wire.HEADS_KEPT": same},
    ),
    Knob(
        "protocols.http.head.HEAD_KEPT_BYTES",
        (0, 60),
        (1 << 16,),
        also={
            "protocols.http.connections.HEAD_KEPT_BYTES": same,
            "protocols.http.wire.HEAD_KEPT_BYTES": same,
        },
    ),
    Knob("protocols.http.gathering.MEMORY_MAX", (0, 100), (1 << 24,)),
    Knob(
        "protocols.http.messages.SHARED_MIN",
        (0, 100),
        (1 << 24,),
        also={"protocols.http.exchanges.SHARED_MIN": same},
    ),
    Knob("protocols.http.messages.STREAM_CAPACITY", (1, 1000), (1 << 22,)),
    Knob("protocols.http.proxy.CACHED_BLOCK_MAX", (0, 60), (1 << 16,)),
    Knob("protocols.http.spool.READ_SIZE", (64, 1000), (1 << 22,)),
    Knob("protocols.http.wire.STREAM_CAPACITY", (1, 1000), (1 << 22,)),
    Knob("protocols.http.wire.SKIP_MAX", (0, 100), (1 << 24,)),
    Knob("protocols.http.wire.KEPT_LESS", (0.0,), (3.0,)),
    Knob("protocols.http.wire.READER_SECONDS", (5.0,)),
)
