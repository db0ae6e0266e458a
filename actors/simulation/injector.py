"""The injector: draws faults at their rates, or follows a script, and carries them out.

Rules:
1. Every kind has a stream of its own for when and what; so leaving one fault out changes no other's time.
2. What was carried out is kept as acts, exactly as a script can have it carried out again.
3. What lasts has an undoing; `stop` undoes everything at once, and draws no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .faults import KINDS, Act, Faults, Kind
from .network import Connection, Link
from .sockets import SimulatedSocket

if TYPE_CHECKING:
    from .hosts import Host
    from .world import World

__all__ = ["Injector"]

Undo = Callable[[], object]


class Injector:
    """The faults of one world."""

    def __init__(self, world: World, faults: Faults, script: list[Act] | None) -> None:
        self.faults = faults
        self.acts: list[Act] = []
        self.hits: Counter[str] = Counter()
        self._world = world
        self._script = script
        self._undoing: dict[int, Undo] = {}
        self._number = 0
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Injector, {len(self.acts)} acts, {len(self._undoing)} in force>"

    def start(self) -> None:
        """Begin: when the scenario has made its hosts."""
        if self._script is not None:
            for act in self._script:
                self._world.schedule(act.at, self._follow, act)
        else:
            for kind, rate in self.faults.rates().items():
                self._next(kind, rate)

    def stop(self) -> None:
        """The network is healed."""
        self._stopped = True
        for number in list(self._undoing):
            self._undo(number)

    def carry_out(self, act: Act) -> bool:
        """Now. False if there is nothing that it could hit. Raises `ValueError` for what is no act."""
        if act.kind not in KINDS:
            raise ValueError(f"there is no fault {act.kind!r}; there are: {', '.join(KINDS)}")
        done = APPLY[act.kind](self._world, act)
        if done is None:
            return False
        self._world.note(f"fault {act.kind} {act.where} {act.seconds:g} {act.amount:g}")
        self.hits[act.kind] += 1
        if act.seconds:
            self._number += 1
            self._undoing[self._number] = done
            self._world.schedule(self._world.now + act.seconds, self._undo, self._number)
        return True

    def _undo(self, number: int) -> None:
        undo = self._undoing.pop(number, None)
        if undo is not None:
            undo()

    def _follow(self, act: Act) -> None:
        if not self._stopped and self.carry_out(act):
            self.acts.append(act)

    def _next(self, kind: str, rate: float) -> None:
        stream = self._world.decisions.stream(f"fault {kind}")
        when = round(self._world.now + stream.expovariate(rate), 6)
        self._world.schedule(when, self._drawn, (kind, rate, when))

    def _drawn(self, drawn: tuple[str, float, float]) -> None:
        if self._stopped:
            return
        kind, rate, when = drawn
        act = self._draw(kind, KINDS[kind], when)
        if act is not None and self.carry_out(act):
            self.acts.append(act)
        self._next(kind, rate)

    def _draw(self, kind: str, form: Kind, when: float) -> Act | None:
        stream = self._world.decisions.stream(f"fault {kind}")
        seconds = round(stream.uniform(*form.seconds), 3)
        least, most = form.amount
        amount = round(stream.uniform(least, most), 3)
        if isinstance(least, int) and isinstance(most, int):
            amount = float(round(amount))
        chance = stream.random()
        targets = TARGETS[form.target](self._world)
        if not targets:
            return None
        return Act(when, kind, targets[int(chance * len(targets))], seconds, amount)


# -- what can be hit -----------------------------------------------------------------------------------------


def _hosts(world: World) -> list[str]:
    return [host.name for host in world.hosts.values() if host.up]


def _crashing(world: World) -> list[str]:
    return [host.name for host in world.hosts.values() if host.up and host.crashes]


def _directions(world: World) -> list[str]:
    return [
        f"{source.name}>{destination.name}"
        for source, destination in world.network.pairs()
        if source is not destination
    ]


def _connections(world: World) -> list[str]:
    return [str(connection) for connection in world.network.connections if connection.open]


TARGETS: Final[dict[str, Callable[[World], list[str]]]] = {
    "host": _hosts,
    "crashing": _crashing,
    "direction": _directions,
    "connection": _connections,
}


def host_of(world: World, act: Act) -> Host | None:
    """The host that an act names, if it is up."""
    host = world.hosts.get(act.where)
    return host if host is not None and host.up else None


def link_of(world: World, act: Act) -> Link | None:
    """The direction that an act names."""
    source, _, destination = act.where.partition(">")
    if source not in world.hosts or destination not in world.hosts:
        return None
    return world.network.link(world.hosts[source], world.hosts[destination])


def connection_of(world: World, act: Act) -> Connection | None:
    """The connection that an act names, or the open one between the same hosts whose number is nearest."""
    names, _, number = act.where.partition("#")
    source, _, destination = names.partition(">")
    wanted = int(number or "1")
    found = [
        connection
        for connection in world.network.connections
        if connection.open
        and connection.client.kernel.host.name == source
        and connection.server.kernel.host.name == destination
    ]
    return min(found, key=lambda connection: abs(connection.number - wanted), default=None)


# -- what each kind does: it returns how it is undone, None if there is nothing to hit -----------------------


def _nothing() -> None:
    """Nothing to undo."""


def lag(world: World, act: Act) -> Undo | None:
    """Everything that is sent arrives later."""
    link = link_of(world, act)
    if link is None:
        return None
    link.lag += act.amount

    def undo() -> None:
        link.lag -= act.amount

    return undo


def one_way(world: World, act: Act) -> Undo | None:
    """Nothing passes in one direction."""
    link = link_of(world, act)
    return None if link is None else _block(link)


def partition(world: World, act: Act) -> Undo | None:
    """Nothing passes either way."""
    link = link_of(world, act)
    if link is None:
        return None
    undo, undo_back = _block(link), _block(world.network.link(link.destination, link.source))

    def both() -> None:
        undo()
        undo_back()

    return both


def _block(link: Link) -> Undo:
    link.blocked += 1

    def undo() -> None:
        link.blocked -= 1
        link.release()

    return undo


def clog(world: World, act: Act) -> Undo | None:
    """What is sent stands still."""
    link = link_of(world, act)
    if link is None:
        return None
    link.clogged += 1

    def undo() -> None:
        link.clogged -= 1
        link.release()

    return undo


def reset(world: World, act: Act) -> Undo | None:
    """Both ends get RST, as from a firewall between them."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    connection.break_off()
    return _nothing


def half_close(world: World, act: Act) -> Undo | None:
    """One end gets FIN; what it sends afterwards is answered by RST, and the other end learns of it then."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    connection.close_halfway(connection.client if act.amount else connection.server)
    return _nothing


def vanish(world: World, act: Act) -> Undo | None:
    """It carries nothing any more."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    connection.lose()
    return _nothing


def forget(world: World, act: Act) -> Undo | None:
    """What is between them has forgotten every connection."""
    link = link_of(world, act)
    if link is None:
        return None
    ends = {link.source, link.destination}
    found = [connection for connection in world.network.connections if connection.open]
    found = [one for one in found if {one.client.kernel.host, one.server.kernel.host} == ends]
    for connection in found:
        connection.lose()
    return _nothing if found else None


def half_open(world: World, act: Act) -> Undo | None:
    """One end is gone; the other hears of it when it sends."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    connection.lose_end(connection.client if act.amount else connection.server)
    return _nothing


def mute(world: World, act: Act) -> Undo | None:
    """One end is read from no more."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    connection.mute = connection.client if act.amount else connection.server
    return _nothing


def slow_consumer(world: World, act: Act) -> Undo | None:
    """One end reads nothing."""
    connection = connection_of(world, act)
    if connection is None:
        return None
    return _hide([connection.client if act.amount else connection.server])


def slow_accept(world: World, act: Act) -> Undo | None:
    """Nothing is accepted."""
    host = host_of(world, act)
    listeners = host.kernel.listeners() if host is not None else []
    return _hide(listeners) if listeners else None


def _hide(things: Sequence[SimulatedSocket]) -> Undo:
    for thing in things:
        thing.hidden += 1

    def undo() -> None:
        for thing in things:
            thing.hidden -= 1
            if thing.fileno() >= 0:
                thing.changed()

    return undo


def short_reads(world: World, act: Act) -> Undo | None:
    """Each recv gives a few bytes."""
    return _limit(world, act, "read_max")


def short_writes(world: World, act: Act) -> Undo | None:
    """Each send takes a few bytes."""
    return _limit(world, act, "write_max")


def _limit(world: World, act: Act, name: str) -> Undo | None:
    host = host_of(world, act)
    if host is None:
        return None
    kernel, limit = host.kernel, max(1, int(act.amount))
    limits: list[int] = kernel.limits[name]
    limits.append(limit)
    setattr(kernel, name, min(limits))

    def undo() -> None:
        limits.remove(limit)
        setattr(kernel, name, min(limits))

    return undo


def full_buffers(world: World, act: Act) -> Undo | None:
    """No send takes anything."""
    return _raise(world, act, "buffers_full")


def refuse(world: World, act: Act) -> Undo | None:
    """Who connects is refused."""
    return _raise(world, act, "refusing")


def resolve_failure(world: World, act: Act) -> Undo | None:
    """No name is found."""
    return _raise(world, act, "resolve_failing")


def _raise(world: World, act: Act, name: str) -> Undo | None:
    host = host_of(world, act)
    if host is None:
        return None
    kernel = host.kernel
    setattr(kernel, name, getattr(kernel, name) + 1)

    def undo() -> None:
        setattr(kernel, name, getattr(kernel, name) - 1)
        kernel.touch_all()

    return undo


def resolve_change(world: World, act: Act) -> Undo | None:
    """Names have some of their addresses only, in another order."""
    host = host_of(world, act)
    if host is None or not any(len(found) > 1 for found in world.network.names.values()):
        return None
    kernel = host.kernel
    kernel.resolve_turn = max(1, int(act.amount))
    return lambda: setattr(kernel, "resolve_turn", 0)


def kill(world: World, act: Act) -> Undo | None:
    """The process is killed."""
    return _fall(world, act, power=False)


def crash(world: World, act: Act) -> Undo | None:
    """The machine loses its power."""
    return _fall(world, act, power=True)


def _fall(world: World, act: Act, *, power: bool) -> Undo | None:
    host = host_of(world, act)
    if host is None:
        return None
    host.fall(power=power)
    return host.rise


def restart(world: World, act: Act) -> Undo | None:
    """The process drains, as it is told to before a new version is started."""
    host = host_of(world, act)
    if host is None or host.loop.draining:
        return None
    boot = host.boots
    host.loop.drain(act.seconds)
    host.runnable()

    def undo() -> None:
        if host.boots == boot and host.up:
            host.fall(power=False)
            host.rise()

    return undo


def jump(world: World, act: Act) -> Undo | None:
    """The wall clock jumps; the monotonic one too, if forward: a machine that was suspended."""
    host = host_of(world, act)
    if host is None:
        return None
    host.wall += act.amount
    if act.amount > 0:
        host.clock += act.amount
        host.clock_changed()
    return _nothing


def stall(world: World, act: Act) -> Undo | None:
    """The process gets no time."""
    host = host_of(world, act)
    if host is None:
        return None
    host.stalled_until = max(host.stalled_until, world.now + act.seconds)

    def undo() -> None:
        host.stalled_until = min(host.stalled_until, world.now)
        host.runnable()

    return undo


APPLY: Final[dict[str, Callable[[World, Act], Undo | None]]] = {
    function.__name__: function
    for function in (
        lag,
        reset,
        half_close,
        vanish,
        forget,
        half_open,
        mute,
        partition,
        one_way,
        clog,
        short_reads,
        short_writes,
        full_buffers,
        refuse,
        slow_accept,
        resolve_failure,
        resolve_change,
        kill,
        crash,
        restart,
        jump,
        stall,
        slow_consumer,
    )
}
