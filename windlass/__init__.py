"""Windlass in one import: `from windlass import Loop, gather, http, redis, postgres, kafka`.

Everything is in `actors`, `pools` and `protocols`; this package gives it one root. A name is imported when it
is first used, so a program waits only for what it needs. `DeadlineExceeded` and `Cancelled` are those of
`actors`, the base classes of those of `pools`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from actors import (
        ANYTHING,
        ERROR,
        HANGUP,
        HIGH_WATERMARK,
        LOW_WATERMARK,
        NEVER,
        READABLE,
        SLEEP,
        UNCHANGED,
        WRITABLE,
        ActorError,
        Address,
        AllFailed,
        Backoff,
        Bytes,
        Cancelled,
        Channel,
        ChannelClosed,
        Child,
        Connector,
        Continue,
        DeadlineExceeded,
        Delimiter,
        DelimiterNotFound,
        Expectation,
        Flow,
        Flush,
        Kernel,
        Listener,
        Loop,
        LoopFull,
        Machine,
        MachineStopped,
        Mailbox,
        MailboxFull,
        Misuse,
        NoAnswer,
        NotSettled,
        Offloader,
        Outcome,
        Reply,
        ResolveError,
        Retry,
        Scope,
        Sleep,
        Spec,
        Stop,
        Stream,
        StreamProtocol,
        Supervisor,
        SupervisorGaveUp,
        SystemKernel,
        TcpAddress,
        Timeout,
        TlsStream,
        Transport,
        UnixAddress,
        current_loop,
        deadline,
        first,
        gather,
        offload,
        parse_address,
        settle_all,
        sleep,
        with_deadline,
    )
    from pools import (
        Backend,
        BackendDown,
        BackendError,
        BackendStatistics,
        Connection,
        ConnectionLost,
        Endpoint,
        Exchanges,
        Held,
        HeldAcrossBackends,
        Pool,
        PoolClosed,
        PoolError,
        PoolOptions,
        PoolStatistics,
        QueueFull,
        RetryBudget,
        Routed,
        Unit,
        UnitQueue,
        Wire,
        Work,
        assign,
        least_in_flight,
    )
    from protocols import http, kafka, postgres, redis

    __version__: str

__all__ = [
    "ANYTHING",
    "ActorError",
    "Address",
    "AllFailed",
    "Backend",
    "BackendDown",
    "BackendError",
    "BackendStatistics",
    "Backoff",
    "Bytes",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Child",
    "Connection",
    "ConnectionLost",
    "Connector",
    "Continue",
    "DeadlineExceeded",
    "Delimiter",
    "DelimiterNotFound",
    "ERROR",
    "Endpoint",
    "Exchanges",
    "Expectation",
    "Flow",
    "Flush",
    "HANGUP",
    "HIGH_WATERMARK",
    "Held",
    "HeldAcrossBackends",
    "Kernel",
    "LOW_WATERMARK",
    "Listener",
    "Loop",
    "LoopFull",
    "Machine",
    "MachineStopped",
    "Mailbox",
    "MailboxFull",
    "Misuse",
    "NEVER",
    "NoAnswer",
    "NotSettled",
    "Offloader",
    "Outcome",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolOptions",
    "PoolStatistics",
    "QueueFull",
    "READABLE",
    "Reply",
    "ResolveError",
    "Retry",
    "RetryBudget",
    "Routed",
    "SLEEP",
    "Scope",
    "Sleep",
    "Spec",
    "Stop",
    "Stream",
    "StreamProtocol",
    "Supervisor",
    "SupervisorGaveUp",
    "SystemKernel",
    "TcpAddress",
    "Timeout",
    "TlsStream",
    "Transport",
    "UNCHANGED",
    "Unit",
    "UnitQueue",
    "UnixAddress",
    "WRITABLE",
    "Wire",
    "Work",
    "__version__",
    "assign",
    "current_loop",
    "deadline",
    "first",
    "gather",
    "http",
    "kafka",
    "least_in_flight",
    "offload",
    "parse_address",
    "postgres",
    "redis",
    "settle_all",
    "sleep",
    "with_deadline",
]

PROTOCOLS: Final = ("http", "kafka", "postgres", "redis")


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when it is first asked for. Raises `AttributeError` for any other."""
    if name not in __all__:
        raise AttributeError(f"module 'windlass' has no attribute {name!r}")
    from actors._siblings import check_siblings

    check_siblings("windlass", __file__)
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("windlass-runtime")
    elif name in PROTOCOLS:
        value = import_module(f"protocols.{name}")
    else:
        home = import_module("actors")
        value = getattr(home if name in home.__all__ else import_module("pools"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether they have been used or not."""
    return sorted(__all__)
