"""`windlass proxy` as one process: SIGHUP renews what it has read, and no signal comes too early."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import Loop, Machine, Timeout

START = ("-m", "windlass", "proxy", "--listen", "127.0.0.1:0", "--log-json")
Start = Callable[..., Any]


def port_of(running: Any) -> int:
    return int(json.loads(running.line('"listening"'))["address"].rpartition(":")[2])


def asks(port: int, backend: Any) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/")
    backend.receive()
    backend.answer(b"yes")
    assert client.getresponse().read() == b"yes"
    client.close()
    backend.hang_up()


def ends(running: Any) -> str:
    running.process.send_signal(signal.SIGTERM)
    status, _, err = running.finish()
    assert status == 0
    return str(err)


def test_a_hangup_opens_the_access_log_anew_and_ends_nothing(
    start: Start, held_backend: Any, tmp_path: Path
) -> None:
    log, before = tmp_path / "access.log", tmp_path / "before.log"
    running = start(*START, "--backend", held_backend.url, "--access-log", str(log))
    port = port_of(running)
    asks(port, held_backend)
    while not log.read_text():  # it is written once a second
        assert running.process.poll() is None
    log.rename(before)
    running.process.send_signal(signal.SIGHUP)
    running.line('"renewed"')
    asks(port, held_backend)
    ends(running)
    assert [path.read_text().count(" 200 3 ") for path in (before, log)] == [1, 1]


def test_what_cannot_be_opened_any_more_is_told_and_the_old_goes_on(
    start: Start, held_backend: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    running = start(*START, "--backend", held_backend.url, "--access-log", str(folder / "access.log"))
    port = port_of(running)
    folder.rename(tmp_path / "elsewhere")
    running.process.send_signal(signal.SIGHUP)
    assert "change --access-log" in json.loads(running.line('"cannot renew'))["reason"]
    asks(port, held_backend)
    ends(running)
    assert " 200 3 " in (tmp_path / "elsewhere" / "access.log").read_text()


@pytest.fixture
def certified(tmp_path: Path, require_program: Callable[[str, str], str]) -> Callable[[], Path]:
    """Write a new certificate and key into one file."""
    openssl = require_program("openssl", "apt-get install openssl")
    pem, certificate = tmp_path / "site.pem", tmp_path / "certificate.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=localhost -keyout {tmp_path}/key.pem -out {certificate}"

    def write() -> Path:
        subprocess.run(command.split(), check=True, capture_output=True)
        pem.write_bytes((tmp_path / "key.pem").read_bytes() + certificate.read_bytes())
        return pem

    return write


def test_a_hangup_reads_the_certificate_anew(
    start: Start, held_backend: Any, certified: Callable[[], Path]
) -> None:
    pem = certified()
    running = start(*START, "--backend", held_backend.url, "--tls-certificate", os.fspath(pem))
    address = ("127.0.0.1", port_of(running))
    first = ssl.get_server_certificate(address)
    certified()
    assert ssl.get_server_certificate(address) == first
    running.process.send_signal(signal.SIGHUP)
    running.line('"renewed"')
    second = ssl.get_server_certificate(address)
    assert second != first
    pem.write_text("nonsense")
    running.process.send_signal(signal.SIGHUP)
    assert "want PEM files" in json.loads(running.line('"cannot renew'))["reason"]
    assert ssl.get_server_certificate(address) == second
    ends(running)


class Authority:
    """One of those whose certificates count, in turn: each time it is `write`n, the one before is revoked."""

    def __init__(self, openssl: str, folder: Path) -> None:
        self._openssl = openssl
        self._folder = folder
        self._count = 0
        self.trusted = folder / "trusted.pem"

    def write(self) -> Path:
        """A new authority takes the place of the one before. Returns a certificate of localhost by it, with
        its key."""
        self._count += 1
        pem, key = self._folder / f"own{self._count}.pem", self._folder / "key.pem"
        command = f"{self._openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += f" -subj /CN=localhost{self._count} -addext subjectAltName=DNS:localhost"
        subprocess.run(
            f"{command} -keyout {key} -out {self.trusted}".split(), check=True, capture_output=True
        )
        pem.write_bytes(key.read_bytes() + self.trusted.read_bytes())
        return pem


@pytest.fixture
def authority(tmp_path: Path, require_program: Callable[[str, str], str]) -> Authority:
    return Authority(require_program("openssl", "apt-get install openssl"), tmp_path)


def status_with(port: int, certificate: Path) -> int | str:
    """What a client gets that shows this certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate)
    client = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        client.request("GET", "/")
        return client.getresponse().status
    except ssl.SSLError as error:
        return error.reason
    finally:
        client.close()


def test_a_hangup_takes_trust_from_the_authorities_of_clients_that_are_no_longer_named(
    start: Start, authority: Authority
) -> None:
    old = authority.write()
    secured = ("--tls-certificate", os.fspath(old), "--client-ca", os.fspath(authority.trusted))
    running = start(*START, "--backend", "http://127.0.0.1:1", *secured)
    port = port_of(running)
    assert status_with(port, old) == 502
    new = authority.write()
    assert status_with(port, new) == "TLSV1_ALERT_UNKNOWN_CA"
    running.process.send_signal(signal.SIGHUP)
    running.line('"renewed"')
    assert status_with(port, new) == 502
    assert status_with(port, old) == "TLSV1_ALERT_UNKNOWN_CA"


def test_a_hangup_takes_trust_from_the_authorities_of_backends_that_are_no_longer_named(
    start: Start, authority: Authority
) -> None:
    """The backend is a proxy, too: what it says goes `Via` it, and one that is not trusted is not asked."""
    old = authority.write()
    backend = start(*START, "--backend", "http://127.0.0.1:1", "--tls-certificate", os.fspath(old))
    url = f"https://localhost:{port_of(backend)}"
    running = start(*START, "--backend", url, "--backend-ca", os.fspath(authority.trusted))
    port = port_of(running)
    authority.write()
    running.process.send_signal(signal.SIGHUP)
    running.line('"renewed"')
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/")
    response = client.getresponse()
    assert response.read().startswith(b"the backend could not be reached")
    assert "Via" not in response.headers
    client.close()
    assert "trust its authority with --backend-ca" in running.line('"cannot connect"')


EARLY = """
import os, signal, sys
from actors import Loop
from windlass.main import main
run = Loop.run
def early(loop, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    run(loop, **options)
Loop.run = early
sys.exit(main(["proxy", "--listen", "127.0.0.1:0", "--log-json", "--backend", "http://127.0.0.1:1"]))
"""


def test_a_sigterm_between_listening_and_running_drains(start: Start) -> None:
    status, _, err = start("-c", EARLY).finish()
    assert status == 0, err
    assert [json.loads(line)["event"] for line in err.splitlines()] == [
        "listening",
        "forwarding",
        "draining",
        "no longer listening",
        "stopped",
    ]


class Keeps(Machine[int]):
    def start(self, scope):
        return Timeout(self, scope.now + 1e6)


def test_a_program_takes_signals_before_it_runs_the_loop():
    before = signal.getsignal(signal.SIGTERM)
    with Loop() as loop, loop.taking_signals(5.0):
        loop.spawn(Keeps())
        signal.raise_signal(signal.SIGTERM)
        assert loop.draining
        loop.run()
        assert loop.machines == 0
    assert signal.getsignal(signal.SIGTERM) is before
