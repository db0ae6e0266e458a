"""The states of a connection, as data: what can happen in each of them, and where it leads."""

from __future__ import annotations

from enum import Enum
from typing import Final

from actors import Misuse

__all__ = ["TABLE", "Event", "State", "next_state"]


class State(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"  # name resolution, TCP, TLS
    HANDSHAKING = "handshaking"  # the wire's own greeting
    READY = "ready"  # takes units
    DRAINING = "draining"  # finishes what is in flight, takes nothing new
    HANDED_OVER = "handed over"  # belongs to another protocol (a tunnel) until it closes
    DEAD = "dead"


class Event(Enum):
    """What can happen to a connection."""

    CONNECTED = "connected"
    GREETED = "greeted"
    RETIRED = "retired"
    UPGRADED = "upgraded"
    ENDED = "ended"


TABLE: Final[dict[State, dict[Event, State]]] = {
    State.CONNECTING: {Event.CONNECTED: State.HANDSHAKING, Event.ENDED: State.DEAD},
    State.HANDSHAKING: {Event.GREETED: State.READY, Event.ENDED: State.DEAD},
    State.READY: {Event.RETIRED: State.DRAINING, Event.UPGRADED: State.HANDED_OVER, Event.ENDED: State.DEAD},
    State.DRAINING: {Event.UPGRADED: State.HANDED_OVER, Event.ENDED: State.DEAD},
    State.HANDED_OVER: {Event.ENDED: State.DEAD},
    State.DEAD: {},
}


def next_state(state: State, event: Event) -> State:
    """What the table says. Raises `Misuse` for an event that is illegal in this state."""
    try:
        return TABLE[state][event]
    except KeyError:
        legal = ", ".join(event.value for event in TABLE[state]) or "nothing"
        raise Misuse(f"a connection that is {state.value} cannot be {event.value}; legal: {legal}") from None
