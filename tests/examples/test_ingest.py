"""Events by HTTP into Kafka: what is answered is what an independent reader finds, whatever Kafka does."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Loop, settle_all
from examples.ingest import EVENTS_MAX, BadEvents, events_of, key_of, routes
from protocols import http as web
from protocols import kafka
from tests.kafka_server import KafkaCluster, MockKafka, read_all

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 60.0
LINES = {"Content-Type": "application/x-ndjson; charset=utf-8"}


class Service:
    """The service on a loop of its own, and a visitor beside it."""

    def __init__(
        self, loop: Loop, brokers: str, topic: str, *, timeout: float = 20.0, **options: Any
    ) -> None:
        key = options.pop("key", None)
        self.loop = loop
        self.pool = loop.spawn(kafka.pool(brokers, **options))
        server = loop.spawn(web.server("127.0.0.1:0", routes(self.pool, topic, key=key, timeout=timeout)))
        self.visitor = loop.spawn(web.pool(f"http://{server.address}", connections=64, timeout=SECONDS_MAX))

    def ask(self, unit: Any) -> web.Response:
        return self.loop.run_until(self.visitor.submit(unit))

    def push(self, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
        return self.ask(web.post("/events", body=body, headers=headers or {}))

    @property
    def statistics(self) -> Any:
        return self.ask(web.get("/statistics")).json()


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def nowhere(free_port: Callable[[], int]) -> str:
    """The address of a broker that is not there."""
    return f"127.0.0.1:{free_port()}"


def test_what_is_acknowledged_is_what_is_read(loop: Loop, any_kafka: KafkaCluster | MockKafka) -> None:
    topic = any_kafka.create_topic("ingested", 4)
    service = Service(loop, any_kafka.bootstrap(), topic, key="user")
    bodies = [
        (b' {"user": "ada",  "n": 1.50}\n', {}, [(b"ada", b'{"user": "ada",  "n": 1.50}')]),
        (
            b'[{"user":7},{"user":"\xc3\xbc"}]',
            {},
            [(b"7", b'{"user":7}'), (b"\xc3\xbc", b'{"user":"\xc3\xbc"}')],
        ),
        (b'{"user":"a"}\r\n\n {"user":"b"}', LINES, [(b"a", b'{"user":"a"}'), (b"b", b'{"user":"b"}')]),
        (b"{}", {"Event-Key": "given"}, [(b"given", b"{}")]),
    ]
    expected = []
    for body, headers, events in bodies:
        answer = service.push(body, headers)
        assert answer.status == 202
        where = answer.json()["events"]
        expected += [
            b"%d %d %b %b" % (at["partition"], at["offset"], *event)
            for at, event in zip(where, events, strict=True)
        ]
    assert sorted(read_all(any_kafka.bootstrap(), topic, "%p %o %k %s\n")) == sorted(expected)
    statistics = service.statistics
    assert statistics["events"] == {"acknowledged": 6, "failed": 0}
    assert statistics["kafka"]["succeeded"] == 6
    assert service.ask(web.get("/health")).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"", {}, "truncated"),
        (b"[]", {}, "no event"),
        (b"\n", LINES, "no event"),
        (b"7", {}, "event 0: Expected `object`"),
        (b'[{"user":1},"x"]', {}, "event 1: Expected `object`"),
        (b'{"user":1}\n{"user":', LINES, "event 1: "),
        (b'{"user":1', {}, "truncated"),
        (b'{"user":"\xff"}', {}, "utf-8"),
        (b'{"user":1.5}', {}, "event 0: Expected `int | str`"),
        (b'{"name":1}', {}, "no field 'user'"),
        (b'{"user":1,"a":' + b"[" * 20000 + b"]" * 20000 + b"}", {}, "nested too deeply"),
        (b"7", {"Event-Key": "k"}, "event 0: Expected `object`"),
    ],
)
def test_what_is_no_event_is_refused(
    loop: Loop, nowhere: str, body: bytes, headers: dict[str, str], said: str
) -> None:
    service = Service(loop, nowhere, "events", key="user")
    answer = service.push(body, headers)
    assert answer.status == 400
    assert said in answer.json()["error"]
    assert service.pool.statistics().submitted == 0


def test_bodies_are_cut_as_they_were_written() -> None:
    assert events_of(b' [ {"a": 1} , {"b":[2, 3]} ] ', lines=False) == [b'{"a": 1}', b'{"b":[2, 3]}']
    assert key_of(b'{"a":"x"}', None) is None
    with pytest.raises(BadEvents):
        key_of(b"[]", None)


def test_too_many_and_too_large(loop: Loop, nowhere: str) -> None:
    service = Service(loop, nowhere, "events", message_bytes=100)
    answer = service.push(b"{}\n" * (EVENTS_MAX + 1), LINES)
    assert (answer.status, answer.headers.get("Retry-After")) == (413, None)
    assert service.pool.statistics().submitted == 0
    answer = service.push(b'[{},{"a":"%b"},{}]' % (b"x" * 200))
    assert answer.status == 413
    assert "message_bytes" in answer.json()["error"]
    assert service.pool.statistics().waiting == 0
    assert service.push(b" " * ((1 << 20) + 1)).status == 413


def test_a_dead_broker_is_503(loop: Loop, nowhere: str) -> None:
    service = Service(loop, nowhere, "events", timeout=0.2)
    answer = service.push(b"[{},{}]")
    assert (answer.status, answer.headers.get("Retry-After")) == (503, "1")
    assert "cannot be reached" in answer.json()["error"]
    assert ["error" in event for event in answer.json()["events"]] == [True, True]
    health = service.ask(web.get("/health"))
    assert health.status == 503
    assert nowhere in health.json()["error"]
    assert service.statistics["events"] == {"acknowledged": 0, "failed": 2}


def test_a_full_queue_is_429_and_a_request_is_taken_whole_or_not(loop: Loop, nowhere: str) -> None:
    service = Service(loop, nowhere, "events", queue_bytes=2000)
    waiting = service.visitor.submit(web.post("/events", body=b"[{},{}]"))
    while service.pool.statistics().waiting < 2:
        loop.tick()
    held = service.pool.statistics().held_bytes
    for _ in range(3):
        answer = service.push(b"[{},{},{},{}]")
        assert (answer.status, answer.headers.get("Retry-After")) == (429, "1")
        assert "was not sent" in answer.json()["error"]
        assert service.pool.statistics().held_bytes == held
    assert not waiting.settled
    assert service.statistics["events"] == {"refused": 12}


def test_a_broker_is_killed_and_comes_back(loop: Loop, kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic("outlived", 1)
    service = Service(loop, kafka_broker.bootstrap(), topic, timeout=1.0)
    acknowledged = [service.push(b'{"n":%d}' % number).json()["events"][0]["offset"] for number in range(3)]
    assert acknowledged == [0, 1, 2]
    broker = kafka_broker.brokers[0]
    broker.kill()
    try:
        answer = service.push(b'{"n":"lost"}')
        assert answer.status == 503
        assert service.ask(web.get("/health")).status == 503
    finally:
        broker.start()
        broker.wait()
    for _ in range(20):
        answer = service.push(b'{"n":3}')
        if answer.status == 202:
            break
    assert answer.status == 202
    assert service.ask(web.get("/health")).status == 200
    read = read_all(kafka_broker.bootstrap(), topic, "%o %s\n")
    offset = answer.json()["events"][0]["offset"]
    assert read[:3] == [b'%d {"n":%d}' % (number, number) for number in range(3)]
    assert b'%d {"n":3}' % offset in read
    assert b"lost" not in b"".join(read)


def test_some_written_and_some_not(loop: Loop, kafka_cluster: KafkaCluster) -> None:
    topic = kafka_cluster.create_topic("halved", 3, replicas=1)
    patient = Service(loop, kafka_cluster.bootstrap(), topic, timeout=SECONDS_MAX, key="n")
    service = Service(loop, kafka_cluster.bootstrap(), topic, timeout=3.0, key="n")
    all_events = [b'{"n":%d}' % number for number in range(40)]
    events = b"[%b]" % b",".join(all_events)
    assert patient.push(events).status == 202
    written, perhaps = Counter(all_events), Counter(all_events)
    broker = kafka_cluster.leader(topic, 0)
    broker.kill()
    try:
        for _ in range(5):  # a slow machine may not write to the others in time
            answer = service.push(events)
            assert answer.status == 503
            outcomes = list(zip(all_events, answer.json()["events"], strict=True))
            told = [event for event, outcome in outcomes if "offset" in outcome]
            written.update(told)
            perhaps.update(
                event
                for event, outcome in outcomes
                if "offset" in outcome or "may have been written" in outcome["error"]
            )
            assert all("written" in outcome["error"] for _, outcome in outcomes if "offset" not in outcome)
            assert len(told) < 40
            if told:
                break
    finally:
        broker.start()
        broker.wait()
    assert told
    read = Counter(read_all(kafka_cluster.bootstrap(), topic, least=written.total()))
    assert written <= read <= perhaps


class Program:
    """The program in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "examples.ingest", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, stdout=subprocess.PIPE, text=True
        )
        self.port = self._listening()

    def _listening(self) -> int:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"listening.*address=127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise AssertionError("the example did not start")

    @property
    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """What it still said; it must end in good order."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=SECONDS_MAX)
        assert self.process.returncode == 0, said
        return said


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """`program("--topic", "x")` starts it; it is killed at the end if the test did not end it."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_losing_what_it_has_acknowledged(
    program: Callable[..., Program], kafka_broker: KafkaCluster, number: signal.Signals
) -> None:
    topic = kafka_broker.create_topic(f"ended-{number.name}", 2)
    running = program("--kafka", kafka_broker.bootstrap(), "--topic", topic)
    acknowledged: dict[tuple[int, int], bytes] = {}
    failed: list[bytes] = []
    pushed = threading.Semaphore(0)

    def push(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SECONDS_MAX)
        try:
            for n in range(100_000):
                events = [b'{"client":%d,"n":%d,"i":%d}' % (client, n, i) for i in range(3)]
                connection.request("POST", "/events", b"[%b]" % b",".join(events))
                response = connection.getresponse()
                body = response.read()
                pushed.release()
                if response.status != 202:
                    failed.append(body)
                    return
                for event, where in zip(events, json.loads(body)["events"], strict=True):
                    acknowledged[where["partition"], where["offset"]] = event
                if response.headers["Connection"] == "close":
                    return
        except (OSError, http.client.HTTPException):  # the end came between two requests
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=push, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert pushed.acquire(timeout=SECONDS_MAX)
        assert not failed, failed
    said = running.end(number)
    for thread in threads:
        thread.join(SECONDS_MAX)
    assert not failed, (failed, said)
    read = {}
    for line in read_all(kafka_broker.bootstrap(), topic, "%p %o %s\n"):
        partition, offset, value = line.split(b" ", 2)
        read[int(partition), int(offset)] = value
    assert len(acknowledged) >= 300
    assert {at: read.get(at) for at in acknowledged} == acknowledged


def test_memory_is_bounded_while_kafka_is_dead(
    program: Callable[..., Program], nowhere: str, loop: Loop
) -> None:
    running = program("--kafka", nowhere, "--queue", "4000000", "--timeout", "1")
    visitor = loop.spawn(
        web.pool(f"http://127.0.0.1:{running.port}", connections=100, queue=10_000, timeout=SECONDS_MAX)
    )
    before = running.peak_bytes
    event = b'{"a":"%b"}' % (b"x" * 50_000)
    statuses: list[int] = []
    for _ in range(4):
        replies = [visitor.submit(web.post("/events", body=event)) for _ in range(500)]  # 25 MB
        statuses += [answer.status for answer in loop.run_until(settle_all(*replies))]  # type: ignore[union-attr]
    assert set(statuses) == {429, 503}
    assert len(statuses) == 2000
    assert running.peak_bytes - before < 40_000_000
    running.end()


def test_what_is_wrong_is_said_in_one_line() -> None:
    for arguments, said in [
        (("--kafka", ""), "name at least one address"),
        (("--compression", "rar"), "write one of none, gzip"),
        (("--timeout", "0"), "more than 0"),
        (("--queue", "-1"), "more than 0"),
        (("--timeout", "nan"), "more than 0"),
    ]:
        command = [sys.executable, "-m", "examples.ingest", "--listen", "127.0.0.1:0", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        assert done.returncode in (1, 2)
        assert said in done.stderr.splitlines()[-1]
