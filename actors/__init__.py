"""Windlass's actor runtime: machines on a loop of their own, mailboxes, replies, flows, channels, transports.

Start with `Loop`, `Machine` and the outcomes; `gather`, `sleep` and `deadline` compose request-reply flows.
"""

from __future__ import annotations

from ._siblings import check_siblings
from .backoff import Backoff, Retry
from .channels import Channel
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
from .loop import Loop
from .machine import Machine
from .mailboxes import Mailbox
from .net.addresses import Address, TcpAddress, UnixAddress, parse_address
from .net.connectors import Connector
from .net.listeners import Listener
from .net.streams import Stream, StreamProtocol
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
from .replies import Reply
from .scope import Scope
from .spec import Spec
from .supervision import Child, Supervisor, SupervisorGaveUp

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
    "Backoff",
    "Bytes",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Child",
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
    "Loop",
    "LoopFull",
    "Machine",
    "MachineStopped",
    "Mailbox",
    "MailboxFull",
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
    "StreamProtocol",
    "Supervisor",
    "SupervisorGaveUp",
    "SystemKernel",
    "TcpAddress",
    "Timeout",
    "TlsStream",
    "Transport",
    "UnixAddress",
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

check_siblings("actors", __file__)
