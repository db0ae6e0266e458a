"""The system's resolver on threads: a name whose server is silent keeps nobody else."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter

import pytest

from actors import ResolveError, TcpAddress
from actors.net import resolver
from actors.net.resolver import ThreadedResolver, look_up
from actors.testing import ManualClock

SECONDS_MAX = 60.0


class System:
    """`getaddrinfo`: answers at once, but not for names with `slow` in them before they are released."""

    def __init__(self):
        self.asked = Counter()
        self.gates = {}
        self.lock = threading.Lock()

    def __call__(self, host, port, **options):
        with self.lock:
            self.asked[host] += 1
            gate = self.gates.setdefault((host, self.asked[host]), threading.Event())
        if "slow" in host:
            assert gate.wait(SECONDS_MAX)
        if "bad" in host and self.asked[host] == 1:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]

    def release(self, host, number=1):
        with self.lock:
            gate = self.gates.setdefault((host, number), threading.Event())
        gate.set()

    def wait_until_asked(self, host, count=1):
        while self.asked[host] < count:
            os.sched_yield()


class Answer:
    """Who waits."""

    def __init__(self):
        self.found = None
        self._there = threading.Event()

    def __call__(self, found):
        self.found = found
        self._there.set()

    def wait(self):
        assert self._there.wait(SECONDS_MAX)
        return self.found


@pytest.fixture
def system(monkeypatch):
    system = System()
    monkeypatch.setattr(socket, "getaddrinfo", system)
    yield system
    for gate in system.gates.values():
        gate.set()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def names(system, clock):
    return ThreadedResolver(clock)


def ask(names, host, port=80):
    answer = Answer()
    names.resolve(TcpAddress(host, port), answer)
    return answer


def test_who_asks_meanwhile_gets_the_same_answer_at_their_own_port(names, system):
    answers = [ask(names, "slow.test", port) for port in (1, 2, 2)]
    system.wait_until_asked("slow.test")
    assert repr(names) == "<ThreadedResolver 1 threads, 1 names being resolved>"
    system.release("slow.test")
    assert [answer.wait() for answer in answers] == [[TcpAddress("192.0.2.7", port)] for port in (1, 2, 2)]
    assert system.asked == {"slow.test": 1}


def test_many_slow_names_keep_no_other(names, system):
    for number in range(20):
        ask(names, f"slow{number}.test")
        ask(names, f"slow{number}.test")
    assert ask(names, "fast.test").wait() == [TcpAddress("192.0.2.7", 80)]


def test_one_that_takes_too_long_gets_a_second_look_up_and_no_third(names, system, clock):
    first = ask(names, "slow.test")
    system.wait_until_asked("slow.test")
    clock.advance(resolver.AGAIN_SECONDS)
    second = ask(names, "slow.test")
    system.wait_until_asked("slow.test", 2)
    clock.advance(resolver.AGAIN_SECONDS)
    third = ask(names, "slow.test")
    system.release("slow.test", 2)
    for answer in (first, second, third):
        assert answer.wait() == [TcpAddress("192.0.2.7", 80)]
    assert system.asked["slow.test"] == 2


def test_an_error_is_not_remembered(names, system, clock):
    first = ask(names, "slow.bad.test")
    system.wait_until_asked("slow.bad.test")
    system.release("slow.bad.test", 1)
    assert "Temporary failure" in str(first.wait())
    assert isinstance(first.found, ResolveError)
    first = ask(names, "slow.bad.test")
    system.wait_until_asked("slow.bad.test", 2)
    system.release("slow.bad.test", 2)
    assert first.wait() == [TcpAddress("192.0.2.7", 80)]


def test_an_error_beside_a_look_up_that_runs_tells_nobody_yet(names, system, clock, monkeypatch):
    def fails_second(host, port, **options):
        found = system(host, port, **options)
        if threading.current_thread() is not runs_first[0]:
            raise socket.gaierror(-2, "Name or service not known")
        return found

    runs_first = []

    def notes(host, port, **options):
        runs_first.append(threading.current_thread())
        return fails_second(host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", notes)
    first = ask(names, "slow.test")
    system.wait_until_asked("slow.test")
    clock.advance(resolver.AGAIN_SECONDS)
    second = ask(names, "slow.test")
    system.wait_until_asked("slow.test", 2)
    system.release("slow.test", 2)  # fails
    assert ask(names, "other.test").wait() != [TcpAddress("192.0.2.7", 80)]
    system.release("slow.test", 1)
    assert first.wait() == second.wait() == [TcpAddress("192.0.2.7", 80)]


def test_names_that_were_slow_share_half_of_the_threads(names, system, clock, monkeypatch):
    monkeypatch.setattr(resolver, "THREADS_MAX", 4)
    slow = [f"slow{number}.test" for number in range(4)]
    for host in slow:  # one after the other: each is known to be slow then
        answer = ask(names, host)
        system.wait_until_asked(host)
        clock.advance(2 * resolver.SLOW_SECONDS)
        system.release(host)
        answer.wait()
    waiting = [ask(names, host) for host in slow]
    while sum(system.asked.values()) < 6:
        os.sched_yield()
    assert ask(names, "fast.test").wait() == [TcpAddress("192.0.2.7", 80)]
    assert sum(system.asked[host] for host in slow) == 6
    for host in slow:
        system.release(host, 2)
    for answer in waiting:
        answer.wait()


def test_what_waits_is_bounded(names, system, monkeypatch):
    monkeypatch.setattr(resolver, "WAITING_MAX", 2)
    monkeypatch.setattr(resolver, "NAMES_MAX", 1)
    answers = [ask(names, "slow.test") for _ in range(3)]
    assert "looked up repeatedly" in str(answers[0].wait())
    assert "other.test must wait" in str(ask(names, "other.test").wait())
    system.release("slow.test")
    assert answers[1].wait() == answers[2].wait() == [TcpAddress("192.0.2.7", 80)]


def test_threads_without_work_end(names, system, monkeypatch):
    monkeypatch.setattr(resolver, "IDLE_SECONDS", 0.0)
    before = set(threading.enumerate())
    ask(names, "fast.test").wait()
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS_MAX)
        assert not thread.is_alive()
    assert ask(names, "fast.test").wait() == [TcpAddress("192.0.2.7", 80)]


def test_the_systems_own_answer_and_error():
    assert look_up(TcpAddress("127.0.0.1", 5)) == [TcpAddress("127.0.0.1", 5)]
    assert isinstance(look_up(TcpAddress("a\0b", 1)), ResolveError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of a fork beside threads
def test_names_are_resolved_in_a_forked_process_too(names, system):
    ask(names, "slow.test")  # whose thread the child does not have
    system.wait_until_asked("slow.test")
    child = os.fork()
    if child == 0:
        system.release("slow.test", 2)
        answer = ask(names, "slow.test")
        os._exit(0 if answer.wait() else 1)
    assert os.waitpid(child, 0)[1] == 0
