"""What workers are made of: sums, slots, the pipe, the inheriting kernel; without a fork."""

from __future__ import annotations

import errno
import random
import signal
import socket
import threading

import pytest

from actors import NEVER, Backoff, Loop, Misuse, SystemKernel, TcpAddress, UnixAddress, workers
from actors.workers.inheritance import WorkerKernel, bind, close
from actors.workers.pipe import Drain, Failed, Order, Pipe, Ready, Report, Snapshot, Tell
from actors.workers.slots import Limits, Process, Slot, explain
from actors.workers.totals import add_up, done, flat
from actors.workers.worker import TELL_SECONDS, run_worker

SECONDS_MAX = 60.0

# -- sums ----------------------------------------------------------------------------------------------------


def test_numbers_are_added_and_texts_kept():
    one = {"requests": 2, "seconds": 0.5, "address": "a:1", "up": True, "failed": {"Timeout": 1}}
    two = {"requests": 3, "seconds": 1.0, "address": "a:1", "up": True, "failed": {"Timeout": 2, "Other": 1}}
    assert workers.add_up([one, two]) == {
        "requests": 5, "seconds": 1.5, "address": "a:1", "up": True, "failed": {"Timeout": 3, "Other": 1},
    }  # fmt: skip
    assert add_up([]) == {}


def test_records_of_the_same_backend_are_added():
    one = {"backends": [{"address": "a:1", "sent": 1}, {"address": "b:1", "sent": 2}]}
    two = {"backends": [{"address": "b:1", "sent": 3}, {"address": "c:1", "sent": 4}]}
    assert add_up([one, two])["backends"] == [
        {"address": "a:1", "sent": 1}, {"address": "b:1", "sent": 5}, {"address": "c:1", "sent": 4},
    ]  # fmt: skip
    assert add_up([{"list": [1]}, {"list": [2]}]) == {"list": [1, 2]}


def test_what_a_worker_has_ends_with_it_and_what_it_has_done_does_not():
    snapshot = {"pool": {"connections": 3, "succeeded": 7, "backends": [{"address": "a:1", "members": 2}]}}
    assert done(snapshot) == {"pool": {"succeeded": 7, "backends": [{"address": "a:1"}]}}


def test_the_fields_of_a_line_are_numbers():
    assert flat({"server": {"requests": 1, "address": "a:1", "timeouts": {"idle": 2}}, "up": True}) == {
        "server.requests": 1,
        "server.timeouts.idle": 2,
    }


@pytest.fixture
def no_threads(monkeypatch):
    """Others that other tests have left are nobody's concern here."""
    monkeypatch.setattr("threading.enumerate", lambda: [threading.main_thread()])


# -- slots ---------------------------------------------------------------------------------------------------


def test_a_slot_starts_again_at_once_then_later_then_not_at_all():
    slot, limits = Slot(1, {}), Limits(3, 10.0, Backoff(1.0, 8.0))
    delays = [slot.delay(now, limits, random.Random(0)) for now in (100.0, 101.0, 102.0, 103.0)]
    assert delays[0] == 0.0
    assert 0.5 <= delays[1] <= 1.0
    assert 1.0 <= delays[2] <= 2.0
    assert delays[3] is None
    assert slot.delay(113.0, limits, random.Random(0)) == 0.0  # the window has passed


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        (signal.SIGSEGV, "", "killed by SIGSEGV"),
        (120, "", "killed by signal 120"),
        (1 << 8, "", "the drain's deadline has passed with work left"),
        (70 << 8, "", "it failed"),
        (3 << 8, "", "it ended with status 3"),
        (0, "", "it ended with status 0"),
        (70 << 8, "ValueError('x')", "ValueError('x')"),
    ],
)
def test_why_a_process_has_ended(status, reason, text):
    process = Process(Slot(2, {}), 1234, 0.0, 1.0)
    process.status, process.reason = status, reason
    assert explain(process) == text


def test_slots_and_processes_say_what_they_are():
    slot = Slot(2, {})
    assert repr(slot) == "<Slot 2: empty>"
    slot.current = Process(slot, 1234, 0.0, 1.0)
    assert repr(slot) == "<Slot 2: <Process 1234 of worker 2, starting>>"


def test_a_slot_knows_who_serves_who_comes_and_who_goes():
    slot = Slot(1, {})
    first, second, third = (Process(slot, pid, 0.0, 1.0) for pid in (11, 22, 33))
    assert list(slot.processes()) == []
    slot.current, slot.successor, slot.due = first, second, 5.0
    assert list(slot.processes()) == [first, second]
    slot.promote()
    assert (slot.current, slot.successor, slot.leaving) == (second, None, first)
    assert slot.due == NEVER
    slot.successor = third
    assert list(slot.processes()) == [second, third, first]
    slot.forget(first)
    assert list(slot.processes()) == [second, third]
    slot.forget(third)
    assert list(slot.processes()) == [second]
    slot.forget(second)
    assert list(slot.processes()) == []


def test_what_a_workers_silence_means():
    process = Process(Slot(1, {}), 11, 100.0, 1.0)
    assert process.verdict(1000.0, 10.0) == "fine"  # it has until it is due to become ready
    process.state = "ready"
    assert process.verdict(109.5, 10.0) == "fine"
    assert process.verdict(110.0, 10.0) == "replace"
    process.hears(110.0)
    assert process.verdict(119.5, 10.0) == "fine"
    process.suspected, process.reason = True, "silent"
    assert process.verdict(125.0, 10.0) == "fine"  # its successor is on the way
    assert process.verdict(130.0, 10.0) == "kill"
    process.slot.successor = Process(process.slot, 22, 120.0, 1.0)
    assert process.verdict(130.0, 10.0) == "fine"
    process.hears(131.0)
    assert (process.suspected, process.reason) == (False, "")
    process.state = "draining"
    assert process.verdict(1000.0, 10.0) == "fine"


def test_limits_that_make_no_sense():
    for wrong in (
        {"restarts_max": -1},
        {"window": 0.0},
        {"silence": TELL_SECONDS},
        {"silence": float("nan")},
    ):
        with pytest.raises(ValueError, match="write"):
            Limits(**{"restarts_max": 0, "window": 1.0, "backoff": Backoff(), **wrong})
    Limits(0, 1.0, Backoff(), TELL_SECONDS + 0.1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers=0; write 1 or more"),
        ({"workers": 1, "restarts_max": -1}, "restarts_max=-1; write 0 or more"),
        ({"workers": 1, "window": 0.0}, "window=0.0; write more than 0"),
        ({"workers": 1, "listen": ["127.0.0.1"]}, "has no port"),
        ({"workers": 2, "listen": ["127.0.0.1:0", "127.0.0.1:0"]}, "twice"),
    ],
)
@pytest.mark.usefixtures("no_threads")
def test_mistakes_are_told_at_once(options, text):
    with pytest.raises(ValueError, match=text):
        workers.serve(lambda loop: None, **options)


# -- sockets -------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel():
    [sockets] = bind(["127.0.0.1:0"], 1)
    yield WorkerKernel(sockets)
    close(sockets)


def test_every_slot_has_a_socket_of_its_own_on_the_same_port():
    bound = bind(["127.0.0.1:0"], 3)
    socks = [sock for sockets in bound for sock in sockets.values()]
    assert len({sock.fileno() for sock in socks}) == 3
    assert len({sock.getsockname() for sock in socks}) == 1
    for sockets in bound:
        close(sockets)


def test_nothing_stays_bound_when_one_address_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use") as refused:
        bind(["127.0.0.1:0", f"127.0.0.1:{other.getsockname()[1]}"], 2)
    assert refused.value.errno == errno.EADDRINUSE


def test_a_listener_gets_the_inherited_socket_and_may_start_again(kernel):
    address = TcpAddress("127.0.0.1", 0)
    first = kernel.listen(address)
    port = first.getsockname()[1]
    with pytest.raises(OSError, match="has a listener already"):
        kernel.listen(address)
    first.close()
    with kernel.listen(address) as second:
        assert second.getsockname()[1] == port
        assert not second.getblocking()


def test_what_is_not_inherited_is_refused_unless_it_can_be_bound_by_all(kernel):
    with pytest.raises(OSError, match="not shared by the workers") as refused:
        kernel.listen(TcpAddress("127.0.0.1", 4321))
    assert refused.value.errno == errno.EADDRNOTAVAIL
    with kernel.listen(TcpAddress("127.0.0.2", 0)) as own:
        port = own.getsockname()[1]
    with kernel.listen(TcpAddress("127.0.0.2", port), reuse_port=True):
        pass


def test_released_sockets_are_closed_and_connections_refused():
    [sockets] = bind(["127.0.0.1:0"], 1)
    [sock] = sockets.values()
    name = sock.getsockname()
    WorkerKernel(sockets).release()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(name, timeout=SECONDS_MAX)


def test_the_file_of_a_unix_socket_is_left_to_the_parent(tmp_path):
    address = UnixAddress(str(tmp_path / "sock"))
    bound = bind([address], 2)
    kernel = WorkerKernel(bound[1])
    with kernel.listen(address):
        kernel.unlisten(address)
    assert (tmp_path / "sock").exists()
    SystemKernel().unlisten(address)
    SystemKernel().unlisten(address)
    assert not (tmp_path / "sock").exists()
    for sockets in bound:
        close(sockets)


def test_a_worker_has_random_numbers_of_its_own(kernel):
    assert kernel.random().random() != WorkerKernel({}).random().random()


# -- the pipe ------------------------------------------------------------------------------------------------


@pytest.fixture
def ends():
    """Two loops, each with one end, and what each has received."""
    left, right = socket.socketpair()
    got: dict[str, list[object]] = {"parent": [], "worker": [], "ended": []}
    with Loop() as loop:
        parent = Pipe(left, Report, got["parent"].append, lambda: got["ended"].append("worker"))
        worker = Pipe(right, Order, got["worker"].append, lambda: got["ended"].append("parent"))
        assert loop.spawn(parent) is parent
        loop.spawn(worker)
        yield loop, parent, worker, got
    parent.close()
    worker.close()


def test_messages_arrive_whole_and_in_order(ends):
    loop, parent, worker, got = ends
    parent.send(Drain(3.0, 1.0))
    parent.send(Tell())
    worker.send(Ready())
    large = Snapshot({"text": "x" * 400_000}, True)  # more than the socket takes at a time
    worker.send(large)
    worker.send(Failed("why"))
    while len(got["parent"]) < 3:
        loop.tick(SECONDS_MAX)
    assert got["worker"] == [Drain(3.0, 1.0), Tell()]
    assert got["parent"] == [Ready(), large, Failed("why")]
    assert "0 bytes to send" in repr(worker)


def test_the_end_of_one_side_is_told_after_its_last_words(ends):
    _loop, parent, worker, got = ends
    worker.send(Ready())
    worker.finish(Failed("why"), SECONDS_MAX)
    worker.close()
    parent.read_rest()
    assert got["parent"] == [Ready(), Failed("why")]
    parent.send(Tell())  # to nobody


def test_the_end_of_the_other_side_is_told(ends):
    loop, parent, _worker, got = ends
    parent.close()
    while not got["ended"]:
        loop.tick(SECONDS_MAX)
    assert got["ended"] == ["parent"]


def test_a_message_without_end_is_the_end(ends):
    loop, _parent, worker, got = ends
    worker.send(Snapshot({"text": "x" * (2 << 20)}))
    while not got["ended"]:
        loop.tick(SECONDS_MAX)
    assert got == {"parent": [], "worker": [], "ended": ["worker"]}


# -- the worker, in this process -----------------------------------------------------------------------------


def lines_of(sock: socket.socket) -> bytes:
    sock.settimeout(SECONDS_MAX)
    return sock.recv(1 << 20)


def test_a_worker_reports_and_drains_as_it_is_told():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'{"type":"Tell"}\n{"type":"Drain","seconds":5}\n')
        sources = {"counted": lambda: {"requests": 3}, "broken": lambda: 1 / 0}
        assert run_worker(lambda loop: sources, WorkerKernel({}), theirs, 1, 5.0) == 0
        told = lines_of(ours)
    assert told.startswith(b'{"type":"Ready"}\n')
    assert told.count(b'"counted":{"requests":3}') == 2
    assert b'"broken"' not in told


def test_a_worker_whose_main_fails_says_why():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert run_worker(lambda loop: 1 / 0, WorkerKernel({}), theirs, 1, 5.0) == 70
        assert b"ZeroDivisionError('division by zero')" in lines_of(ours)


def test_a_worker_with_nothing_to_run_ends(monkeypatch):
    monkeypatch.setattr("actors.workers.worker.TELL_SECONDS", 0.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert run_worker(lambda loop: None, WorkerKernel({}), theirs, 1, 5.0) == 0


def test_a_worker_without_a_parent_drains():
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert run_worker(lambda loop: None, WorkerKernel({}), theirs, 1, 5.0) == 0


def test_a_worker_that_is_told_to_halt_stops():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'{"type":"Halt"}\n')
        assert run_worker(lambda loop: None, WorkerKernel({}), theirs, 1, 5.0) == 0


@pytest.mark.usefixtures("no_threads")
def test_a_system_that_has_no_processes_left(monkeypatch):
    def fork():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", fork)
    backoff = Backoff(0.0, 0.0)
    with pytest.raises(
        workers.WorkersGaveUp, match="cannot start a process: Resource temporarily"
    ) as gave_up:
        workers.serve(lambda loop: None, workers=1, restarts_max=2, backoff=backoff)
    assert "after 2 restarts within 30 s" in str(gave_up.value)
    assert "worker 1 has ended again" in str(gave_up.value)


def test_threads_are_not_forked():
    with Loop.in_thread(), pytest.raises(Misuse, match="windlass-loop"):
        workers.serve(lambda loop: None, workers=1)
