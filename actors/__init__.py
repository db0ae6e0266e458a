"""Windlass's actor runtime: machines on a loop of their own, mailboxes, replies, flows, channels, transports.

Start with `Loop`, `Machine` and the outcomes; `gather`, `sleep` and `deadline` compose request-reply flows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ._siblings import check_siblings
from .backoff import Backoff, Retry
from .channels import Channel, ChannelStatistics
from .composing import first, gather, settle_all
from .current import current_loop
from .deadlines import deadline, with_deadline
from .embedding.offload import Offloader, offload
from .errors import (
    ActorError,
    AllFailed,
    Cancelled,
    ChannelClosed,
    DeadlineExceeded,
    DelimiterNotFound,
    LoopFull,
    MachineStopped,
    MailboxFull,
    Misuse,
    NoAnswer,
    NotSettled,
    ResolveError,
)
from .flows import Flow, sleep
from .kernel import ERROR, HANGUP, READABLE, WRITABLE, Kernel, SystemKernel
from .loop import Loop, LoopStatistics
from .machine import Machine
from .mailboxes import Mailbox, MailboxStatistics
from .net.addresses import Address, TcpAddress, UnixAddress, parse_address
from .net.connectors import Connector
from .net.listeners import Listener, ListenerStatistics
from .net.streams import Stream, StreamOwner, StreamProtocol
from .net.tls import TlsStream
from .net.transports import (
    ANYTHING,
    HIGH_WATERMARK,
    LOW_WATERMARK,
    SLEEP,
    Bytes,
    Delimiter,
    Expectation,
    Flush,
    Sleep,
    Transport,
)
from .outcomes import NEVER, UNCHANGED, Continue, Outcome, Stop, Timeout
from .replies import Reply, Waitable
from .scope import Scope
from .spec import Spec
from .supervision import Child, ChildStatistics, Supervisor, SupervisorGaveUp

if TYPE_CHECKING:
    from .embedding.asyncio_host import AsyncioLoop
    from .embedding.thread_host import ThreadLoop, ThreadPool, ThreadReply
    from .embedding.trio_host import (
        TrioLoop as TrioLoop,
    )  # not in `__all__`: a star import must not need trio

__all__ = [
    "ANYTHING",
    "ERROR",
    "HANGUP",
    "HIGH_WATERMARK",
    "LOW_WATERMARK",
    "NEVER",
    "READABLE",
    "SLEEP",
    "UNCHANGED",
    "WRITABLE",
    "ActorError",
    "Address",
    "AllFailed",
    "AsyncioLoop",
    "Backoff",
    "Bytes",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "Child",
    "ChildStatistics",
    "Connector",
    "Continue",
    "DeadlineExceeded",
    "Delimiter",
    "DelimiterNotFound",
    "Expectation",
    "Flow",
    "Flush",
    "Kernel",
    "Listener",
    "ListenerStatistics",
    "Loop",
    "LoopFull",
    "LoopStatistics",
    "Machine",
    "MachineStopped",
    "Mailbox",
    "MailboxFull",
    "MailboxStatistics",
    "Misuse",
    "NoAnswer",
    "NotSettled",
    "Offloader",
    "Outcome",
    "Reply",
    "ResolveError",
    "Retry",
    "Scope",
    "Sleep",
    "Spec",
    "Stop",
    "Stream",
    "StreamOwner",
    "StreamProtocol",
    "Supervisor",
    "SupervisorGaveUp",
    "SystemKernel",
    "TcpAddress",
    "ThreadLoop",
    "ThreadPool",
    "ThreadReply",
    "Timeout",
    "TlsStream",
    "Transport",
    "UnixAddress",
    "Waitable",
    "current_loop",
    "deadline",
    "first",
    "gather",
    "offload",
    "parse_address",
    "settle_all",
    "sleep",
    "with_deadline",
]

HOSTS: Final = {
    "AsyncioLoop": "asyncio_host",
    "ThreadLoop": "thread_host",
    "ThreadPool": "thread_host",
    "ThreadReply": "thread_host",
    "TrioLoop": "trio_host",
}
"""What `Loop.in_asyncio()` and the like give, and where it stands: imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    """One of `HOSTS`. Raises `AttributeError` for any other name, `ImportError` for trio's without trio."""
    if name not in HOSTS:
        raise AttributeError(f"module 'actors' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"actors.embedding.{HOSTS[name]}"), name)
    return value


check_siblings("actors", __file__)
