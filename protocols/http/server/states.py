"""The states of a server's connection, as data: what can happen in each of them, and where it leads.

Three facts, each with one owner and a table of its own:

- `CONNECTION`: where a client's connection is (`ServerConnection`);
- `BODY`: how far the body of the request at hand has come (`RequestBody`);
- `ANSWER`: how far its answer has come (`Exchange`).

An answer may begin while the body still comes, so the last two move apart from each other. A request that is
answered on the spot, from IDLE and back to IDLE, moves nothing: that is the fast path.

States and events are plain strings, because a table is asked for every request: an enum's member costs a
call of Python to be hashed.
"""

from __future__ import annotations

from typing import Final

from actors import Misuse

__all__ = ["ANSWER", "BODY", "CONNECTION", "Table", "next_state"]

Table = dict[str, dict[str, str]]

# -- of a connection: states --

IDLE: Final = "idle"  # no request is at hand, nor a part of one
HEAD: Final = "receiving a head"
BUSY: Final = "busy"  # with one request: see `BODY` and `ANSWER`
TAKING: Final = "being taken from"  # the client must take what was answered before anything else
SWITCHED: Final = "switched"  # belongs to another protocol
CLOSING: Final = "closing"  # what is in the output still leaves

# -- and events --

BEGUN: Final = "part of a head"
ASKED: Final = "request"
WHOLE: Final = "rest of it"
ANSWERED: Final = "answered"
BEHIND: Final = "client is behind"
TAKEN: Final = "taken"
UPGRADED: Final = "upgraded"
ENDED: Final = "ended"

CONNECTION: Final[Table] = {
    IDLE: {BEGUN: HEAD, ASKED: BUSY, BEHIND: TAKING, ENDED: CLOSING},
    HEAD: {WHOLE: IDLE, BEHIND: TAKING, ENDED: CLOSING},
    BUSY: {ANSWERED: IDLE, BEHIND: TAKING, UPGRADED: SWITCHED, ENDED: CLOSING},
    TAKING: {TAKEN: IDLE, ENDED: CLOSING},
    SWITCHED: {},
    CLOSING: {},
}

# -- of a request's body: states --

COMING: Final = "coming"
HELD: Final = "held"  # the responder takes no more for now
COMPLETE: Final = "complete"

# -- and events --

HOLD: Final = "hold"
TAKE: Final = "take"
LAST: Final = "last byte"

BODY: Final[Table] = {
    COMING: {HOLD: HELD, LAST: COMPLETE},
    HELD: {TAKE: COMING, LAST: COMPLETE},
    COMPLETE: {},
}

# -- of an answer: states --

DUE: Final = "due"  # nothing final was sent
OPEN: Final = "open"  # the head was sent
DONE: Final = "done"  # so was the last byte
BROKEN: Final = "broken"  # it comes to no good end: the connection is reset
GIVEN_UP: Final = "given up"  # nothing was sent, and nothing will be
UPGRADE: Final = "upgrade"  # the head of a 101 was sent, and the connection is another protocol's

# -- and events --

HEAD_SENT: Final = "head"
SENT_WHOLE: Final = "whole answer"
FINISHED: Final = "last byte"
FAILED: Final = "failed"
SWITCH: Final = "switch"

ANSWER: Final[Table] = {
    DUE: {HEAD_SENT: OPEN, SENT_WHOLE: DONE, FAILED: GIVEN_UP},
    OPEN: {FINISHED: DONE, FAILED: BROKEN, SWITCH: UPGRADE},
    UPGRADE: {FAILED: BROKEN},
    DONE: {},
    BROKEN: {},
    GIVEN_UP: {},
}


def next_state(table: Table, state: str, event: str, what: object) -> str:
    """What the table says. Raises `Misuse`, which names `what` it is that was to move, for an event that is
    illegal in this state."""
    after = table[state].get(event)
    if after is None:
        legal = ", ".join(table[state]) or "nothing"
        raise Misuse(f"{what!r} is {state}: {event!r} cannot happen to it now; legal: {legal}")
    return after
