"""The simulated network: hosts by their addresses, links between them, connections over the links.

Rules:
1. There is a link per direction between two hosts. It has a latency of its own per segment, and keeps nothing
   in order; that what one end sends arrives in order is each connection's own affair.
2. A blocked link loses nothing: what would arrive is held, and arrives when it is open again, as TCP would
   send it again. Only what begins a connection is lost, and tried again after 1, 2, 4 … seconds.
3. A lost connection carries nothing in either direction and tells nobody; whoever has sent something is told
   by ETIMEDOUT, much later.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from actors.net.addresses import Address, TcpAddress, UnixAddress
from actors.outcomes import NEVER

from .sockets import FIN, RST, DatagramSocket, ListeningSocket, StreamSocket

if TYPE_CHECKING:
    import random

    from .hosts import Host
    from .kernel import SimulatedKernel
    from .world import World

__all__ = ["Connection", "Link", "Network"]

LATENCY: Final = (0.0001, 0.0006)  # seconds: within a data centre
LATENCY_LOCAL: Final = (0.000005, 0.00003)
RETRANSMIT_SECONDS: Final = 60.0  # Linux's tcp_retries2 comes to 15 minutes
UNREACHABLE_SECONDS: Final = 3.0  # until ARP has given up
SYN_TRIES: Final = 6
SYN_SECONDS: Final = 1.0  # until the first is tried again; then twice as long each time
AFTER_RESTART_SECONDS: Final = 0.5  # until what was not acknowledged is sent again to a host that is back


class Link:
    """One direction between two hosts."""

    __slots__ = (
        "_held",
        "_random",
        "_world",
        "blocked",
        "clogged",
        "destination",
        "lag",
        "latency",
        "source",
    )

    def __init__(self, world: World, source: Host, destination: Host) -> None:
        self.source = source
        self.destination = destination
        self.latency = LATENCY_LOCAL if source is destination else LATENCY
        self.lag = 0.0  # seconds more, by faults
        self.blocked = 0  # faults that let nothing pass
        self.clogged = 0  # faults that let only connecting pass
        self._held: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._random: random.Random = world.decisions.stream(f"link {source.name}>{destination.name}")
        self._world = world

    def __repr__(self) -> str:
        return f"<Link {self.source.name}>{self.destination.name}, {len(self._held)} held>"

    def arrival(self) -> float:
        """When something that leaves now arrives."""
        least, most = self.latency
        return self._world.now + least + (most - least) * self._random.random() + self.lag

    def hold(self, function: Callable[[Any], None], argument: Any) -> bool:
        """Keep what would arrive now, if the link is not open."""
        if not (self.blocked or self.clogged):
            return False
        self._held.append((function, argument))
        return True

    def release(self) -> None:
        """A fault is over: what was held arrives, in its order, if no other fault holds it."""
        if self.blocked or self.clogged:
            return
        when = self.arrival()
        while self._held:
            when += 1e-6
            self._world.schedule(when, *self._held.popleft())


class Connection:
    """Two sockets. The ordinal number counts those between the same two hosts, from 1."""

    __slots__ = (
        "client",
        "deaf",
        "lost",
        "mute",
        "name",
        "network",
        "number",
        "server",
        "server_name",
        "tried",
    )

    def __init__(
        self, network: Network, kernel: SimulatedKernel, server: Host, name: Any, number: int
    ) -> None:
        self.network = network
        self.number = number
        self.lost = False
        self.deaf: StreamSocket | None = None  # an end that answers data by RST, though it is open
        self.mute: StreamSocket | None = None  # an end of which nothing arrives, though all is taken from it
        self.tried = 0
        self.name = (kernel.host.address, network.ephemeral_port()) if isinstance(name, tuple) else ""
        self.server_name = name
        self.client = StreamSocket(kernel, self, network.link(kernel.host, server))
        self.server = StreamSocket(server.kernel, self, network.link(server, kernel.host))
        self.client.peer, self.server.peer = self.server, self.client

    def __repr__(self) -> str:
        return f"{self.client.kernel.host.name}>{self.server.kernel.host.name}#{self.number}"

    @property
    def open(self) -> bool:
        """Whether both ends have it, and something can still happen to it."""
        return self.client.connected and not (
            self.lost or self.client.dead or self.server.dead or (self.client.closed and self.server.closed)
        )

    def name_of(self, sock: StreamSocket) -> Any:
        """An end's address and port; of a Unix socket its path."""
        return self.name if sock is self.client else self.server_name

    def carry(self, sender: StreamSocket, segment: bytes) -> None:
        """Something is on its way."""
        when = sender.link.arrival()
        if when < sender.arriving:
            when = sender.arriving
        sender.arriving = when
        sender.flight.append(segment)
        self.network.world.schedule(when, self._arrive, sender)

    def _arrive(self, sender: StreamSocket) -> None:
        link = sender.link
        if (link.blocked or link.clogged) and link.hold(self._arrive, sender):
            return
        segment = sender.flight.popleft()
        receiver = sender.peer
        if self.lost or receiver.kernel.off:
            self._unacknowledged(sender, segment)
            return
        world = self.network.world
        mark = segment.decode() if segment is FIN or segment is RST else f"{len(segment)} {crc32(segment):x}"
        world.trace.add(f"{world.now:.6f} {self} {'>' if sender is self.client else '<'} {mark}")
        if segment is RST:
            receiver.arrived(segment)
            return
        if receiver is self.deaf and segment is not FIN:
            self._answer_reset(sender)
            return
        sender.acknowledged(segment)
        if sender is not self.mute:
            receiver.arrived(segment)
        if sender.output:
            sender.transmit()

    def _unacknowledged(self, sender: StreamSocket, segment: bytes) -> None:
        if segment is RST or sender.dead:
            return
        host = sender.peer.kernel.host
        if not self.lost and sender.peer.kernel is not host.kernel and host.up:
            self._answer_reset(sender)
            return
        self.network.waiting[sender] = None
        world = self.network.world
        seconds = min(RETRANSMIT_SECONDS, sender.user_timeout)
        world.schedule(world.now + seconds, self._give_up, sender)

    def _answer_reset(self, sender: StreamSocket) -> None:
        """Its peer's machine has started anew and knows nothing of this connection."""
        self.network.world.schedule(sender.peer.link.arrival(), self._reset_by_stranger, sender)

    def _reset_by_stranger(self, sender: StreamSocket) -> None:
        if not sender.peer.link.hold(self._reset_by_stranger, sender):
            sender.arrived(RST)

    def _give_up(self, sender: StreamSocket) -> None:
        self.network.waiting.pop(sender, None)
        if not sender.dead and not sender.kernel.off:
            sender.fail(errno.ETIMEDOUT)

    def lose(self) -> None:
        """It carries nothing any more. Nobody is told, unless an end asks again and again (keepalive)."""
        self.lost = True
        for sock in (self.client, self.server):
            if sock.patience != NEVER:
                self.network.world.schedule(self.network.world.now + sock.patience, self._unanswered, sock)

    def _unanswered(self, sock: StreamSocket) -> None:
        if not (sock.dead or sock.closed or sock.kernel.off):
            sock.fail(errno.ETIMEDOUT)

    # -- faults ----------------------------------------------------------------------------------------------

    def break_off(self) -> None:
        """Both ends are told by RST, as by a firewall; what was under way is lost."""
        self.lost = True
        for sock in (self.client, self.server):
            self.network.world.schedule(sock.peer.link.arrival(), self._broken_off, sock)

    def _broken_off(self, sock: StreamSocket) -> None:
        sock.arrived(RST)

    def close_halfway(self, end: StreamSocket) -> None:
        """One end gets FIN, though its peer has not closed; what the peer sends later is answered by RST."""
        if not end.peer.fin_carried:
            end.peer.fin_carried = True
            self.carry(end.peer, FIN)
        self.deaf = end

    def lose_end(self, end: StreamSocket) -> None:
        """One end is told that it is over, and its peer is not: what that sends is answered by RST."""
        self.deaf = end
        end.fail(errno.ECONNRESET)

    # -- beginning -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send the SYN, again if need be."""
        if self.client.closed:
            return
        world = self.network.world
        if self.tried == SYN_TRIES:
            self.client.fail(errno.ETIMEDOUT)
            return
        self.tried += 1
        world.schedule(self.client.link.arrival(), Connection._asked, self)

    def _asked(self) -> None:
        host = self.client.link.destination
        if self.client.link.blocked or host.kernel.off:
            world = self.network.world
            world.schedule(world.now + SYN_SECONDS * 2.0 ** (self.tried - 1), Connection.begin, self)
            return
        kernel = host.kernel
        self.server.kernel = kernel
        listening = kernel.listening(self.server_name)
        if listening is None or kernel.refusing:
            self.server.dead = True
            self.carry(self.server, RST)
            return
        self.server.connected = True
        if not listening.offer(self.server):
            self.server.connected = False
            world = self.network.world
            world.schedule(world.now + SYN_SECONDS * 2.0 ** (self.tried - 1), Connection.begin, self)
            return
        self.server.arriving = when = self.server.link.arrival()
        self.network.world.schedule(when, Connection._established, self)

    def _established(self) -> None:
        if self.server.link.hold(Connection._established, self):
            return
        client = self.client
        world = self.network.world
        world.trace.add(f"{world.now:.6f} {self} connected")
        if client.closed:
            self.carry(client, RST)
        elif not client.dead:
            client.connected = True
            client.changed()

    def begin_locally(self, listening: ListeningSocket) -> bool:
        """As Unix sockets connect: at once, or not at all."""
        self.client.connected = self.server.connected = True
        return listening.offer(self.server)


class Network:
    """Every host, link and connection of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: dict[str, list[str]] = {}  # of hosts, and what a scenario adds: to addresses
        self.hosts: dict[str, Host] = {}  # by address
        self.connections: list[Connection] = []
        self.waiting: dict[StreamSocket, None] = {}  # have sent something that nobody acknowledges
        self._links: dict[tuple[str, str], Link] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._port = 32768
        self._forget_at = 256

    def __repr__(self) -> str:
        return f"<Network of {len(self.hosts)} hosts, {len(self.connections)} connections>"

    def add(self, host: Host) -> str:
        """Give a host its address."""
        number = len(self.hosts) + 1
        address = f"10.0.{number >> 8}.{number & 255}"
        self.hosts[address] = host
        self.names[host.name] = [address]
        return address

    def link(self, source: Host, destination: Host) -> Link:
        """The direction from one host to another, or to itself."""
        key = source.name, destination.name
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self.world, source, destination)
        return link

    def pairs(self) -> list[tuple[Host, Host]]:
        """The directions in which something was ever sent."""
        return [(link.source, link.destination) for link in self._links.values()]

    def ephemeral_port(self) -> int:
        """For an end that connects."""
        self._port = 32768 if self._port == 60999 else self._port + 1
        return self._port

    def connect(self, kernel: SimulatedKernel, address: Address) -> tuple[StreamSocket, bool]:
        """Begin a connection; whether it is there already. Raises `OSError` if a Unix socket is not."""
        source = kernel.host
        if isinstance(address, UnixAddress):
            listening = kernel.listening(address.path)
            if listening is None:
                raise OSError(errno.ENOENT, f"cannot connect to {address}: No such file or directory")
            connection = self._connection(kernel, source, address.path)
            if kernel.refusing or not connection.begin_locally(listening):
                raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: Connection refused")
            kernel.add(connection.client)
            return connection.client, True
        local = address.host.startswith("127.") or address.host in ("::1", "0.0.0.0")
        host = source if local else self.hosts.get(address.host)
        connection = self._connection(kernel, host or source, (address.host, address.port))
        sock = connection.client
        kernel.add(sock)
        if host is None:
            self.world.schedule(self.world.now + UNREACHABLE_SECONDS, sock.fail, errno.EHOSTUNREACH)
        else:
            connection.begin()
        return sock, False

    def _connection(self, kernel: SimulatedKernel, server: Host, name: Any) -> Connection:
        key = kernel.host.name, server.name
        number = self._numbers[key] = self._numbers.get(key, 0) + 1
        connection = Connection(self, kernel, server, name, number)
        if len(self.connections) >= self._forget_at:
            self.connections = [
                other for other in self.connections if other.open or not other.client.connected
            ]
            self._forget_at = 256 + 2 * len(self.connections)
        self.connections.append(connection)
        return connection

    def restarted(self, host: Host) -> None:
        """A machine is back, and knows nothing of the connections that it had."""
        for sock in list(self.waiting):
            if sock.peer.kernel.host is host and not sock.connection.lost:
                del self.waiting[sock]
                when = self.world.now + AFTER_RESTART_SECONDS
                self.world.schedule(when, sock.connection._answer_reset, sock)

    def resolve(self, name: str, port: int, turn: int) -> list[TcpAddress]:
        """What a name server says: all addresses, or, if it changes its mind, `turn` of them, in turn."""
        found = self.names.get(name, [])
        if turn and len(found) > 1:
            first = turn % len(found)
            found = [*found[first:], *found[:first]][:turn]
        return [TcpAddress(address, port) for address in found]

    def throw(self, sender: DatagramSocket, data: bytes, address: tuple[str, int]) -> None:
        """A datagram is on its way; a link that is not open loses it."""
        host = self.hosts.get(address[0])
        if host is not None:
            link = self.link(sender.kernel.host, host)
            if not (link.blocked or link.clogged):
                self.world.schedule(link.arrival(), self._caught, (host, address[1], data, sender.address))

    def _caught(self, thrown: tuple[Host, int, bytes, tuple[str, int]]) -> None:
        host, port, data, source = thrown
        sock = host.kernel.datagrams.get(port) if host.up else None
        if sock is not None:
            sock.received.append((data, source))
            sock.changed()
