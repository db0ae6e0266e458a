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
        "actors.net.transports.HIGH_WATERMARK",
        (4, 4096),
        (1 << 24,),
        also={
            "protocols.http.server.connection.HIGH_WATERMARK": same,
            "protocols.http.server.connection.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.server.connection.DRAINED": drained,
            "protocols.http.proxy.tunnels.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.proxy.tunnels.READ_AND_DRAIN": lambda high: (ANYTHING, drained(high)),
            "protocols.http.proxy.tunnels.ONLY_DRAIN": lambda high: (SLEEP, drained(high)),
            "protocols.http.client.wire.LOW_WATERMARK": lambda high: high // 4,
            "protocols.http.client.wire.DRAINED": drained,
        },
    ),
    Knob("protocols.http.server.connection.SENDING_MIN", (0, 100), (1 << 24,)),
    Knob(
        "protocols.http.codec.memo.HEADS_KEPT",
        (0, 1, 2),
        (100_000,),
    ),
    Knob(
        "protocols.http.codec.memo.HEAD_KEPT_BYTES",
        (0, 60),
        (1 << 16,),
        also={"protocols.http.server.connection.HEAD_KEPT_BYTES": same},
    ),
    Knob("protocols.http.proxy.gathering.MEMORY_MAX", (0, 100), (1 << 24,)),
    Knob(
        "protocols.http.codec.messages.SHARED_MIN",
        (0, 100),
        (1 << 24,),
        also={"protocols.http.server.exchange.SHARED_MIN": same},
    ),
    Knob("protocols.http.server.request.STREAM_CAPACITY", (1, 1000), (1 << 22,)),
    Knob("protocols.http.proxy.proxy.CACHED_BLOCK_MAX", (0, 60), (1 << 16,)),
    Knob("protocols.http.proxy.spool.READ_SIZE", (64, 1000), (1 << 22,)),
    Knob("protocols.http.client.wire.STREAM_CAPACITY", (1, 1000), (1 << 22,)),
    Knob("protocols.http.client.wire.SKIP_MAX", (0, 100), (1 << 24,)),
    Knob("protocols.http.client.wire.KEPT_LESS", (0.0,), (3.0,)),
    Knob("protocols.http.client.wire.READER_SECONDS", (5.0,)),
)
