"""Upgrades through the proxy: who gets the connection, bytes both ways, ends, and who has gone meanwhile."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.protocols.http.benches import Client, ProxyBench

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def open_tunnel(**options: object) -> tuple[ProxyBench, Client]:
    bench = ProxyBench(**options)  # type: ignore[arg-type]
    client = bench.ask(UPGRADE)
    bench.got()
    bench.say(SWITCHING + b"\r\n")
    assert bench.heard(client).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return bench, client


def assert_all_gone(bench: ProxyBench) -> None:
    assert bench.pool.statistics().connections == 0
    assert bench.loop.machines == 2  # the pool and the listener
    assert bench.kernel.descriptors == 2  # the notifier's and the listener's


def test_the_upgrade_is_asked_of_the_backend_and_its_answer_passed_on() -> None:
    bench = ProxyBench()
    client = bench.ask(UPGRADE)
    sent = bench.got()
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in sent
    assert sent.endswith(b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert sent.count(b"Upgrade: ") == 1
    bench.say(SWITCHING + b"Sec-WebSocket-Accept: x\r\n\r\n")
    assert bench.heard(client) == (
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\n"
        b"Upgrade: websocket\r\n\r\n"
    )


def test_bytes_go_both_ways_and_what_came_early_is_not_lost() -> None:
    bench = ProxyBench()
    client = bench.ask(UPGRADE + b"early from the client")
    bench.got()
    bench.say(SWITCHING + b"\r\nearly from the backend")
    assert bench.heard(client).endswith(b"\r\n\r\nearly from the backend")
    assert bench.got() == b"early from the client"
    bench.tell(client, b"ping")
    assert bench.got() == b"ping"
    bench.say(b"pong")
    assert bench.heard(client) == b"pong"


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket, h2c", b"H2"])
def test_an_upgrade_that_would_hide_requests_is_not_asked_for(upgrade: bytes) -> None:
    bench = ProxyBench()
    client = bench.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade
        + b"\r\nHTTP2-Settings: x\r\n\r\n"
    )  # fmt: skip
    sent = bench.got().lower()
    assert b"upgrade" not in sent
    assert b"http2-settings" not in sent
    bench.say(OK)
    assert bench.heard(client).endswith(b"ok")


def test_an_old_client_cannot_upgrade() -> None:
    bench = ProxyBench()
    bench.ask(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"upgrade" not in bench.got().lower()


def test_a_backend_that_refuses_the_upgrade_keeps_its_connection() -> None:
    bench = ProxyBench(connections=1)
    client = bench.ask(UPGRADE + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Upgrade: websocket" in bench.got()
    bench.say(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nContent-Length: 2\r\n\r\nno")
    answer = bench.heard(client)
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert bench.got().startswith(b"GET /next ")
    bench.say(OK)
    assert bench.heard(client).endswith(b"ok")
    assert bench.idle == 1


def test_tunnels_take_no_connection_away_and_have_a_bound_of_their_own() -> None:
    bench, client = open_tunnel(connections=1, tunnels=2)
    bench.ask(UPGRADE)
    bench.say(SWITCHING + b"\r\n")
    assert bench.pool.statistics().tunnels == 2
    other = bench.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    bench.say(OK)
    assert bench.heard(other).endswith(b"ok")
    refused = bench.client(UPGRADE)
    answer = bench.heard(refused)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer
    assert not refused.closed
    assert bench.idle == 1
    assert len(bench.sockets) == 3
    client.end()
    bench.run()
    bench.end(0)
    bench.tell(refused, UPGRADE)
    bench.say(SWITCHING + b"\r\n")
    assert bench.heard(refused).startswith(b"HTTP/1.1 101 ")


def test_no_more_tunnels_than_the_bound_though_they_were_asked_for_before() -> None:
    bench = ProxyBench(tunnels=1)
    clients = [bench.ask(UPGRADE) for _ in range(2)]
    for index in range(2):
        bench.say(SWITCHING + b"\r\n", index)
    heard = [bench.heard(client) for client in clients]
    assert heard[0].startswith(b"HTTP/1.1 101 ")
    assert heard[1].startswith(b"HTTP/1.1 503 ")
    assert [sock.closed for sock in bench.sockets] == [False, True]
    assert bench.add_up()


def test_a_backend_that_grants_one_tunnel_too_many_is_not_to_blame() -> None:
    bench = ProxyBench(tunnels=1, connections=20)
    for _ in range(10):
        bench.ask(UPGRADE)
    with capture_logs() as logs:
        for index in range(10):
            bench.say(SWITCHING + b"\r\n", index)
    assert bench.pool.statistics().tunnels == 1
    assert {log["event"] for log in logs} == {"tunnels full", "connection lost"}
    assert all("tunnels" in log.get("error", "tunnels") for log in logs)


def test_without_tunnels_an_upgrade_is_refused() -> None:
    bench = ProxyBench(tunnels=0)
    assert bench.heard(bench.client(UPGRADE)).startswith(b"HTTP/1.1 503 ")
    assert not bench.sockets


@pytest.mark.parametrize("first", ["client", "backend"])
def test_one_side_may_end_and_still_be_told_things(first: str) -> None:
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    one, other = (client, backend) if first == "client" else (backend, client)
    one.arrive(b"last words")
    one.end()
    bench.run()
    assert other.delivered() == b"last words"
    assert other.ended_here
    assert not other.closed
    other.arrive(b"x" * 200_000)
    bench.run()
    assert one.delivered() == b"x" * 200_000
    assert not one.ended_here
    other.end()
    bench.run()
    assert one.closed
    assert other.closed
    assert_all_gone(bench)


@pytest.mark.parametrize("first", ["client", "backend"])
def test_one_side_lost_is_both_lost(first: str) -> None:
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    one, other = (client, backend) if first == "client" else (backend, client)
    one.reset()
    bench.run()
    assert other.closed
    assert_all_gone(bench)


@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_side_that_takes_nothing_holds_the_other_back(first: str) -> None:
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    fast, slow = (client, backend) if first == "client" else (backend, client)
    slow.room = 0
    size = 4 << 20
    fast.arrive(b"x" * size)
    bench.run()
    assert fast._arrived, "all was read, into memory"
    slow.arrive(b"against the stream")
    bench.run()
    assert fast.delivered() == b"against the stream"
    taken = 0
    for _ in range(200):
        slow.room = 65536
        bench.run()
        taken += len(slow.delivered())
    assert taken == size
    fast.end()
    bench.run()
    assert slow.ended_here


def test_both_sides_may_stand_still_at_once() -> None:
    """Neither takes anything: nothing spins (every step comes to rest), and both go on later."""
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    size = 3 << 20
    for sock in (client, backend):
        sock.room = 0
        sock.arrive(b"x" * size)
    bench.run()
    for sock in (client, backend, client, backend):
        sock.room = None
        bench.run()
    assert len(client.delivered()) == len(backend.delivered()) == size


@pytest.mark.parametrize("first", ["client", "backend"])
def test_an_output_that_drains_in_part_before_something_else_happens(first: str) -> None:
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    fast, slow = (client, backend) if first == "client" else (backend, client)
    slow.room = 0
    size = 2 << 20
    fast.arrive(b"x" * size)
    bench.run()
    slow.room = 600_000
    bench.run()
    slow.arrive(b"x")
    bench.run()
    slow.room = None
    bench.run()
    assert len(slow.delivered()) == size


def test_an_end_behind_a_full_output_is_passed_on_when_that_drains() -> None:
    bench, client = open_tunnel()
    backend = bench.sockets[0]
    backend.room = 0
    client.arrive(b"x" * (2 << 20))
    client.end()
    bench.run()
    backend.room = None
    bench.run()
    assert len(backend.delivered()) == 2 << 20
    assert backend.ended_here


def test_silence_ends_a_tunnel_and_bytes_of_either_side_keep_it() -> None:
    bench, client = open_tunnel(proxy={"tunnel_idle": 10.0})
    for _ in range(3):
        bench.advance(8.0)
        bench.tell(client, b"x")
        bench.advance(8.0)
        bench.say(b"y")
    assert not client.closed
    bench.advance(10.1)
    assert client.closed
    assert bench.sockets[0].closed
    assert_all_gone(bench)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_goes_before_the_answer_leaves_no_tunnel(how: str) -> None:
    for ticks in range(4):
        bench = ProxyBench()
        client = bench.ask(UPGRADE)
        bench.got()
        bench.sockets[0].arrive(SWITCHING + b"\r\n")
        for _ in range(ticks):
            bench.loop.tick(0)
        getattr(client, how)()
        bench.run()
        bench.sockets[0].end()
        bench.run()
        assert_all_gone(bench)
    bench = ProxyBench()
    client = bench.ask(UPGRADE)
    getattr(client, how)()
    bench.run()
    bench.say(SWITCHING + b"\r\n")
    assert bench.sockets[0].ended_here or bench.sockets[0].closed
    bench.sockets[0].end()
    bench.run()
    assert_all_gone(bench)


def test_a_backend_that_ends_with_its_answer() -> None:
    bench = ProxyBench()
    client = bench.ask(UPGRADE)
    bench.sockets[0].arrive(SWITCHING + b"\r\nbye")
    bench.sockets[0].end()
    bench.run()
    assert bench.heard(client).endswith(b"\r\n\r\nbye")
    assert client.ended_here
    client.end()
    bench.run()
    assert_all_gone(bench)


def test_a_tunnel_may_go_on_until_the_drains_deadline() -> None:
    bench, client = open_tunnel()
    bench.loop.drain(30.0)
    bench.run()
    bench.tell(client, b"still here")
    assert bench.got() == b"still here"
    bench.advance(31.0)
    assert client.closed
    assert bench.loop.machines == 0


def test_a_pool_that_stops_closes_its_tunnels() -> None:
    bench, client = open_tunnel()
    bench.loop.kill(bench.pool.token)
    bench.run()
    assert client.closed
    assert bench.sockets[0].closed


def test_ends_tell_how_far_they_are() -> None:
    bench, client = open_tunnel()
    shown = [repr(scope.machine) for scope in bench.loop.living()]
    assert sum("<TunnelEnd open>" in text for text in shown) == 2
    client.end()
    bench.run()
    shown = [repr(scope.machine) for scope in bench.loop.living()]
    assert sum("<TunnelEnd finished>" in text for text in shown) == 1
