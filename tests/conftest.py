"""Real servers for tests: found or skipped with the line that installs them, on free ports, always stopped.

With `WINDLASS_REQUIRE_SERVERS=1` a program that is missing fails the test instead of skipping it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import scheduling
from tests.kafka_server import KafkaCluster, MockKafka, require_kafka
from tests.redis_server import RedisCluster, RedisServer

ASKED_FOR = "PYTEST_XDIST_AUTO_NUM_WORKERS"
MEASURED = "COVERAGE_PROCESS_CONFIG"  # in the environment of a process that is to measure itself

# How long an example takes, and how long it takes to think of one, depends on what else the machine does.
settings.register_profile("windlass", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("windlass")

START_SECONDS_MAX = 60.0
NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        default_type text/plain;
        location = / {{ return 200 "nginx says hello\\n"; }}
        location /files/ {{ alias {files}/; }}
    }}
}}
"""


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """How many processes `-n auto` is, unless the environment says it."""
    return None if os.environ.get(ASKED_FOR) else scheduling.process_count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.Shares:
    """With `-n`: who runs what."""
    return scheduling.Shares(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `-n`: what begins first. By itself a run keeps the order of the files."""
    if hasattr(config, "workerinput"):
        items[:] = scheduling.in_order(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that is not measured starts processes that are not either."""
    measured = item.get_closest_marker("no_cover") is None
    kept = None if measured else os.environ.pop(MEASURED, None)
    try:
        return (yield)
    finally:
        if kept is not None:
            os.environ[MEASURED] = kept


def pytest_configure() -> None:
    """Programs under test get signals as from a terminal, also where `nohup` or `&` made all ignore them."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def require_program_or_skip(program: str, install: str) -> str:
    """The path of a program, or else a skip with the line that installs it (a failure where required)."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        missing = f"{program} is not installed; to run this test: {install}"
        if os.environ.get("WINDLASS_REQUIRE_SERVERS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def unused_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class NginxBackend:
    """A running nginx: `/` answers a short text, `/files/NAME` what was written into the folder `files`."""

    port: int
    files: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def require_program() -> Callable[[str, str], str]:
    """`require_program("nginx", "apt-get install nginx")`: its path, or a skip that says how to get it."""
    return require_program_or_skip


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that finds a TCP port of 127.0.0.1 nobody listens on."""
    return unused_port


@pytest.fixture(scope="session")
def nginx_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxBackend]:
    """One nginx for the whole session, run from a temporary folder without privileges."""
    program = require_program_or_skip("nginx", "apt-get install nginx")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    files = folder / "files"
    files.mkdir()
    port = unused_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(port=port, files=files))
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [program, "-e", "stderr", "-p", str(folder), "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        if not listens(port, process):
            pytest.fail(f"nginx did not start: {(folder / 'stderr').read_text()}")
        yield NginxBackend(port, files, process)
    finally:
        process.terminate()
        process.wait(START_SECONDS_MAX)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One redis-server for the whole session, kept in memory."""
    program = require_program_or_skip("redis-server", "apt-get install redis-server")
    with RedisServer(program, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three masters and no replica for the whole session, kept in memory."""
    program = require_program_or_skip("redis-server", "apt-get install redis-server")
    with RedisCluster(program, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A real Kafka of one broker for the whole session, which also listens with SASL and with TLS."""
    with KafkaCluster(require_kafka(), tmp_path_factory.mktemp("kafka"), secured=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A real Kafka of three brokers for the whole session. A test that stops one starts it again."""
    with KafkaCluster(require_kafka(), tmp_path_factory.mktemp("kafka3"), 3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def mock_kafka() -> MockKafka:
    """A mock cluster of three brokers, inside this process: it needs no Java."""
    return MockKafka()


@pytest.fixture(params=["broker", "mock"])
def any_kafka(request: pytest.FixtureRequest) -> KafkaCluster | MockKafka:
    """A test that asks for this runs against a real broker, and against the mock cluster."""
    name = "kafka_broker" if request.param == "broker" else "mock_kafka"
    kafka: KafkaCluster | MockKafka = request.getfixturevalue(name)
    return kafka


def listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the process accepts connections on the port; false if it ends or takes too long."""
    pause = threading.Event()
    for _ in range(int(START_SECONDS_MAX / 0.01)):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return True
        except OSError:
            if process.poll() is not None:
                return False
            pause.wait(0.01)
    return False
