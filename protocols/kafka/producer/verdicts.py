"""What becomes of a batch by the answer it had, or had not: a table and two small functions. No I/O.

| verdict | when | then |
|---|---|---|
| written | no error; or the broker had the batch before | its messages settle |
| again | the batch was certainly not written, and may be later | sent again after a pause |
| unknown | it may have been written | the same is sent again, with the same sequence number |
| anew | the broker's memory of our sequence is not ours | sent again, in a new epoch (KIP-360) |
| split | too large as one, with several messages | sent as two |
| refused | the broker will never take it | its messages fail |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pools import BackendDown, ConnectionLost, DeadlineExceeded, PoolClosed, PoolError
from protocols.kafka.codes import Code
from protocols.kafka.errors import CODES, AuthenticationFailed, BadMessage, BrokerTooOld

__all__ = ["Verdict", "fatal_cause", "verdict_of_answer", "verdict_of_failure"]


class Verdict(Enum):
    """See the table above."""

    WRITTEN = "written"
    AGAIN = "again"
    UNKNOWN = "unknown"
    ANEW = "anew"
    SPLIT = "split"
    REFUSED = "refused"


LOST_COUNT: Final = (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, Code.INVALID_PRODUCER_EPOCH, Code.UNKNOWN_PRODUCER_ID)


def verdict_of_answer(code: int, messages: int, transactional: bool) -> Verdict:
    """By a broker's error code for a batch of so many messages. A transaction that has lost count is over: it
    has no epochs of its own to begin.
    """
    if code in (Code.NONE, Code.DUPLICATE_SEQUENCE_NUMBER):
        return Verdict.WRITTEN
    if code in LOST_COUNT:
        return Verdict.REFUSED if transactional else Verdict.ANEW
    if code in (Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE) and messages > 1:
        return Verdict.SPLIT
    known = CODES.get(code)
    if known is None or not known.retriable:
        return Verdict.REFUSED
    return Verdict.UNKNOWN if known.unknown_fate else Verdict.AGAIN


def verdict_of_failure(error: BaseException) -> Verdict:
    """By what the broker's pool says of a request that had no answer."""
    if fatal_cause(error) is not None:
        return Verdict.REFUSED
    if isinstance(error, BackendDown | PoolClosed):
        return Verdict.AGAIN
    if isinstance(error, DeadlineExceeded):
        return Verdict.UNKNOWN if error.stage == "sent" else Verdict.AGAIN
    return Verdict.UNKNOWN if isinstance(error, ConnectionLost | BadMessage) else Verdict.REFUSED


def fatal_cause(error: BaseException | None) -> PoolError | None:
    """What in an error only a person can mend: it does not go away by asking again."""
    while error is not None:
        if isinstance(error, AuthenticationFailed | BrokerTooOld):
            return error
        error = error.__cause__
    return None
