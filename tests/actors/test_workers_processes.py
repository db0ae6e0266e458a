"""Workers as processes: started, killed, replaced, drained, counted; over real sockets and signals."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.actors.workers_harness import SECONDS_MAX, Service, Upload, ask


@pytest.fixture
def service() -> Iterator[Callable[..., Service]]:
    """Start a service with these options of `serve`; it is gone after the test."""
    started: list[Service] = []

    def start(**options: Any) -> Service:
        started.append(Service(**options))
        return started[-1]

    yield start
    for each in started:
        each.__exit__()


def test_each_worker_answers_and_all_end_in_good_order(service):
    two = service().ready()
    connections = two.one_connection_per_worker()
    assert two.process.pid not in connections
    for connection in connections.values():
        connection.close()
    two.signal(signal.SIGTERM)
    assert two.wait() == 0
    told = two.report()
    assert (told["started"], told["died"], told["cut_off"], told["workers"]) == (2, 0, 0, [])
    assert told["total"]["server"]["requests"] >= 2
    assert told["total"]["twice"] == {"pids": 2, "requests": 2 * told["total"]["server"]["requests"]}


def test_events_say_who_speaks(service):
    two = service().ready()
    listening = {(line["worker"], line["pid"]) for line in two.seen if line["event"] == "listening"}
    ready = {(line["worker"], line["pid"]) for line in two.seen if line["event"] == "worker ready"}
    assert listening == ready
    assert {number for number, _ in ready} == {1, 2}


def test_a_killed_worker_fails_only_what_it_was_answering(service):
    two = service().ready()
    connections = two.one_connection_per_worker()
    upload = Upload(two)
    bystander = next(pid for pid in connections if pid != upload.pid)
    os.kill(upload.pid, signal.SIGKILL)
    arriving = [two.connect() for _ in range(20)]  # about half of them wait for the dead one's successor
    died = two.event("worker died")
    assert (died["pid"], died["reason"]) == (upload.pid, "killed by SIGKILL")
    assert upload.lost()
    assert ask(connections[bystander]) == bystander
    successor = two.event("worker ready", worker=died["worker"])["pid"]
    assert {ask(connection) for connection in arriving} <= {bystander, successor}
    two.signal(signal.SIGTERM)
    assert two.wait() == 0
    assert two.report()["died"] == 1


def test_connections_wait_for_the_next_worker_of_their_slot(service):
    one = service(workers=1).ready(1)
    victim = ask(one.connect())
    os.kill(victim, signal.SIGSTOP)  # it accepts nothing any more
    waiting = [one.connect() for _ in range(5)]
    for connection in waiting:
        connection.request("GET", "/")
    os.kill(victim, signal.SIGKILL)
    successor = one.event("worker ready")["pid"]
    assert successor != victim
    for connection in waiting:
        response = connection.getresponse()
        assert int(response.read()) == successor


def test_replacing_under_load_fails_nobody(service):
    two = service().ready()
    before = {line["pid"] for line in two.seen if line["event"] == "worker ready"}
    answered: set[int] = set()
    stop = False

    def client(keep: bool) -> int:
        connection, count = two.connect(), 0
        while not stop:
            connection.request("GET", "/", headers={} if keep else {"Connection": "close"})
            response = connection.getresponse()  # a new connection is made after `Connection: close`
            assert response.status == 200
            answered.add(int(response.read()))
            count += 1
        connection.close()
        return count

    with ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(client, keep) for keep in (True, False, True, False)]
        try:
            for _ in range(2):
                two.signal(signal.SIGHUP)
                two.event("worker ready")
                two.event("worker ready")
        finally:
            stop = True
        assert all(client.result(SECONDS_MAX) for client in clients)
    assert answered & before
    assert answered - before
    two.signal(signal.SIGTERM)
    assert two.wait() == 0
    told = two.report()
    assert (told["replaced"], told["started"], told["died"]) == (4, 6, 0)


def test_what_is_under_way_is_answered_by_the_worker_that_leaves(service):
    one = service(workers=1).ready(1)
    upload = Upload(one)
    one.signal(signal.SIGHUP)
    successor = one.event("worker ready")["pid"]
    one.event("draining", pid=upload.pid)
    assert ask(one.connect()) == successor
    response = upload.finish()
    assert int(response.read()) == upload.pid
    assert response.getheader("Connection") == "close"
    one.event("worker ended", pid=upload.pid)


def test_a_replacement_that_fails_leaves_the_old_worker_in_place(service, tmp_path):
    broken = tmp_path / "broken"
    one = service(workers=1, broken=str(broken)).ready(1)
    connection = one.connect()
    pid = ask(connection)
    broken.touch()
    one.signal(signal.SIGHUP)
    failed = one.event("replacement failed; the old worker continues")
    assert "the configuration is broken" in failed["reason"]
    assert ask(connection) == pid
    broken.unlink()
    one.signal(signal.SIGHUP)
    assert one.event("worker ready")["pid"] != pid


def test_a_successor_takes_over_from_one_that_dies_meanwhile(service, tmp_path):
    gate = tmp_path / "gate"
    one = service(workers=1, gate=str(gate)).ready(1)
    victim = ask(one.connect())
    os.mkfifo(gate)
    one.signal(signal.SIGHUP)
    one.event("replacing the workers")
    with gate.open("w"):  # possible when the successor is there, and waits
        os.kill(victim, signal.SIGKILL)
        one.event("worker died")
        waiting = one.connect()
    successor = one.event("worker ready")["pid"]
    assert ask(waiting) == successor
    gate.unlink()
    one.signal(signal.SIGHUP)
    one.event("worker ended", pid=successor)
    one.signal(signal.SIGTERM)
    assert one.wait() == 0
    told = one.report()
    assert (told["started"], told["died"], told["replaced"]) == (3, 1, 1)


def test_replacing_while_it_stops_does_nothing(service):
    one = service(workers=1).ready(1)
    upload = Upload(one)
    one.signal(signal.SIGTERM)
    one.event("draining", pid=upload.pid)
    one.signal(signal.SIGHUP)
    one.statistics()
    assert int(upload.finish().read()) == upload.pid
    assert one.wait() == 0
    assert one.report()["started"] == 1


def test_the_first_sigterm_drains(service):
    two = service().ready()
    upload = Upload(two)
    two.signal(signal.SIGTERM)
    two.event("draining", pid=upload.pid)
    two.event("no longer listening")
    if len([line for line in two.seen if line["event"] == "no longer listening"]) < 2:
        two.event("no longer listening")
    with pytest.raises(ConnectionRefusedError):
        two.connect()
    assert int(upload.finish().read()) == upload.pid
    assert two.wait() == 0
    assert two.report()["cut_off"] == 0


def test_the_second_sigterm_stops_at_once(service):
    two = service().ready()
    upload = Upload(two)
    two.signal(signal.SIGTERM)
    two.event("draining", pid=upload.pid)
    two.signal(signal.SIGINT)
    two.event("stopping at once")
    assert upload.lost()
    assert two.wait() == 0


def test_the_drains_deadline_is_told(service):
    one = service(workers=1, drain=0.0).ready(1)
    upload = Upload(one)
    one.signal(signal.SIGTERM)
    assert "deadline has passed" in one.event("worker ended before its work was done")["reason"]
    assert upload.lost()
    one.wait()
    assert one.report()["cut_off"] == 1


def test_a_worker_that_dies_again_and_again(service):
    one = service(workers=1, restarts_max=2).ready(1)
    for again in range(3):
        if again:
            one.event("worker ready")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            ask(one.connect(), "/die")
    reason = "worker 1 has ended again (killed by SIGKILL) after 2 restarts within 30 s"
    assert one.event("gave up")["reason"] == reason
    assert one.wait() == 1
    assert f"WorkersGaveUp: {reason}" in one.text.decode()


def test_a_main_that_fails(service, tmp_path):
    two = service(restarts_max=1, broken=str(tmp_path))
    assert "RuntimeError('the configuration is broken')" in two.event("gave up")["reason"]
    assert two.wait() == 1


def test_a_worker_that_exits(service):
    one = service(workers=1, restarts_max=0).ready(1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(one.connect(), "/exit")
    assert "SystemExit(7)" in one.event("gave up")["reason"]
    assert one.wait() == 1


def test_a_main_that_does_not_return(service):
    one = service(workers=1, restarts_max=0, hangs=True, start=0.01)
    assert "`main` has not returned within 0.01 s" in one.event("gave up")["reason"]
    assert one.wait() == 1


def test_an_address_that_was_not_shared(service):
    one = service(workers=1, restarts_max=0, spawned=["127.0.0.1:1234"])
    assert "write serve(…, listen=[…, '127.0.0.1:1234'])" in one.event("gave up")["reason"]
    assert one.wait() == 1


def test_statistics_add_up_over_the_dead_too(service):
    two = service().ready()
    connections = two.one_connection_per_worker()
    for connection in connections.values():
        for _ in range(5):
            ask(connection)
    before = two.statistics()
    assert before["workers"] == 2
    assert before["server.requests"] >= 12
    assert before["server.connections"] == 2
    os.kill(next(iter(connections)), signal.SIGKILL)
    two.event("worker died")
    two.event("worker ready")
    after = two.statistics()
    assert (after["workers"], after["started"], after["died"]) == (2, 3, 1)
    assert after["server.requests"] == before["server.requests"]
    assert after["server.connections"] == 1


def test_workers_whose_parent_was_killed_end(service):
    two = service().ready()
    upload = Upload(two)
    two.process.kill()
    two.event("the parent has gone; draining", pid=upload.pid)
    two.event("draining", pid=upload.pid)
    assert int(upload.finish().read()) == upload.pid
    assert two.wait() == -signal.SIGKILL
    with pytest.raises(ConnectionRefusedError):
        two.connect()


@pytest.mark.parametrize("shared", [False, True])
def test_a_busy_port_is_told_before_anything_is_forked(service, shared):
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        two = service(listen=[f"127.0.0.1:{other.getsockname()[1]}"])
        assert two.wait() == 1
    assert "is in use by another program; choose another port" in two.text.decode()
    assert two.seen == []


def test_threads_before_the_fork_are_refused(service):
    two = service(thread=True)
    assert two.wait() == 1
    assert "a-thread" in two.text.decode()
    assert two.seen == []


def test_a_unix_socket_is_shared_and_removed_at_the_end(service, tmp_path):
    path = tmp_path / "sock"
    two = service(listen=[f"unix:{path}"]).ready()

    def pid() -> int:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SECONDS_MAX)
            sock.connect(str(path))
            sock.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(sock)
            response.begin()
            return int(response.read())

    before = pid()
    two.signal(signal.SIGHUP)
    two.event("worker ended")
    two.event("worker ended")
    assert pid() != before
    two.signal(signal.SIGTERM)
    assert two.wait() == 0
    assert not path.exists()


def test_a_worker_that_is_told_to_end_by_itself_is_started_again(service):
    one = service(workers=1).ready(1)
    pid = ask(one.connect())
    os.kill(pid, signal.SIGTERM)
    assert one.event("worker died", pid=pid)["reason"] == "it ended with status 0"
    one.event("worker ready")


def test_ctrl_c_reaches_all_and_drains_once(service):
    two = service().ready()
    upload = Upload(two)
    os.killpg(two.process.pid, signal.SIGINT)
    two.event("draining", pid=upload.pid)
    assert int(upload.finish().read()) == upload.pid
    assert two.wait() == 0
