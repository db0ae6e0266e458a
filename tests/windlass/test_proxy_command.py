"""`windlass proxy` as a program: it forwards, drains, stops, and says what went wrong."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

START = ("-m", "windlass", "proxy", "--listen", "127.0.0.1:0", "--log-json")
Start = Callable[..., Any]


def port_of(running: Any) -> int:
    """Where it listens, as it says."""
    running.line('"forwarding"')
    return int(json.loads(running.line('"listening"'))["address"].rpartition(":")[2])


def asked(port: int, target: str = "/") -> http.client.HTTPConnection:
    """A client whose request is on its way."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", target)
    return client


def status_of(port: int) -> int:
    """What a request gets."""
    client = asked(port)
    response = client.getresponse()
    response.read()
    client.close()
    return response.status


def events(text: str) -> dict[str, dict[str, Any]]:
    """By name, the last of each."""
    return {event["event"]: event for event in map(json.loads, text.splitlines())}


def test_a_request_is_forwarded_and_logged(start: Start, held_backend: Any) -> None:
    running = start(*START, "--backend", held_backend.url, "--access-log")
    client = asked(port_of(running), "/x?y=1")
    assert b"GET /x?y=1 HTTP/1.1\r\n" in held_backend.receive()
    held_backend.answer(b"hello")
    response = client.getresponse()
    assert (response.status, response.read(), response.headers["Via"]) == (200, b"hello", "1.1 windlass")
    client.close()
    running.process.send_signal(signal.SIGTERM)
    status, out, err = running.finish()
    assert status == 0
    assert '"GET /x?y=1 HTTP/1.1" 200 5 0.' in out
    assert out.startswith("127.0.0.1 - - [")
    stopped = events(err)["stopped"]
    assert (stopped["requests"], stopped["answered"], stopped["refused"], stopped["backend_errors"]) == (
        1,
        1,
        0,
        0,
    )


def test_sigterm_lets_what_is_under_way_finish(start: Start, held_backend: Any) -> None:
    running = start(*START, "--backend", held_backend.url, "--drain", "20")
    port = port_of(running)
    client = asked(port)
    held_backend.receive()
    running.process.send_signal(signal.SIGTERM)
    running.line('"no longer listening"')
    assert 19 < json.loads(running.line('"draining"'))["seconds"] <= 20
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    held_backend.answer(b"late, but here")
    response = client.getresponse()
    assert (response.read(), response.headers["Connection"]) == (b"late, but here", "close")
    client.close()
    assert running.finish()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(start: Start, held_backend: Any, number: int) -> None:
    running = start(*START, "--backend", held_backend.url)
    client = asked(port_of(running))
    held_backend.receive()
    running.process.send_signal(number)
    running.line('"no longer listening"')
    running.process.send_signal(number)
    status, _, err = running.finish()
    assert status == 1
    assert events(err)["stopped before every request had its answer"]["requests"] == 1
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        client.getresponse()
    client.close()


def test_what_outlasts_the_drain_is_cut_off(start: Start, held_backend: Any) -> None:
    running = start(*START, "--backend", held_backend.url, "--drain", "0")
    client = asked(port_of(running))
    held_backend.receive()
    running.process.send_signal(signal.SIGTERM)
    status, _, err = running.finish()
    assert status == 1
    assert "drain deadline passed" in events(err)
    assert events(err)["stopped before every request had its answer"]["requests"] == 1
    client.close()


def test_several_workers_share_a_port_and_are_summed_up(
    start: Start, held_backend: Any, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    running = start(*START, "--backend", held_backend.url, "--workers", "2", "--access-log", str(log))
    port = port_of(running)
    for _ in range(3):
        client = asked(port)
        held_backend.receive()
        held_backend.answer(b"one of two")
        assert client.getresponse().read() == b"one of two"
        client.close()
        held_backend.hang_up()
    running.process.send_signal(signal.SIGTERM)
    status, _, err = running.finish()
    assert status == 0
    assert (events(err)["stopped"]["requests"], events(err)["stopped"]["answered"]) == (3, 3)
    assert log.read_text().count('"GET / HTTP/1.1" 200 10 ') == 3


def test_too_large_a_body_is_refused(start: Start, held_backend: Any) -> None:
    running = start(*START, "--backend", held_backend.url, "--body-max", "3")
    client = http.client.HTTPConnection("127.0.0.1", port_of(running), timeout=30)
    client.request("POST", "/", b"four")
    response = client.getresponse()
    assert response.status == 413
    response.read()
    client.close()


def test_too_few_descriptors_are_said(start: Start, held_backend: Any) -> None:
    running = start(*START, "--backend", held_backend.url, "--clients", "1000000")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard > 1_000_000:
        pytest.skip("there are enough here for any number of clients")
    assert json.loads(running.line('"too few descriptors'))["has"] == hard


def test_a_dead_backend_is_a_502_and_counted(start: Start, free_port: Callable[[], int]) -> None:
    running = start(*START, "--backend", f"http://127.0.0.1:{free_port()}")
    assert status_of(port_of(running)) == 502
    running.process.send_signal(signal.SIGTERM)
    status, _, err = running.finish()
    assert status == 0
    assert events(err)["cannot connect"]["level"] == "warning"
    assert events(err)["stopped"]["backend_errors"] == 1
    assert events(err)["stopped"]["errors"] == "BackendDown 1"


def test_an_unknown_host_is_said_when_it_is_first_needed(start: Start) -> None:
    running = start(*START, "--backend", "http://no-such-host.invalid:1")
    assert status_of(port_of(running)) == 502
    assert "cannot resolve 'no-such-host.invalid'" in running.line('"cannot connect"')


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_names_the_option_to_change(start: Start, held_backend: Any, workers: str) -> None:
    address = held_backend.url.removeprefix("http://")
    backend = ("--backend", "http://127.0.0.1:1", "--workers", workers)
    running = start("-m", "windlass", "proxy", "--listen", address, *backend)
    status, _, err = running.finish()
    assert status == 1
    said = f"{address} is in use by another program; choose another port with --listen HOST:PORT\n"
    assert err.endswith(f"windlass proxy: {said}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--listen", "192.0.2.1:8080"), "cannot listen on 192.0.2.1:8080: Cannot assign"),
        (("--access-log", "/no/such/folder/log"), "cannot write /no/such/folder/log: No such file"),
        (("--tls-certificate", "/no/such/file"), "cannot use /no/such/file: No such file"),
        (("--tls-certificate", __file__), f"cannot use {__file__}: "),
        (("--backend", "https://a", "--backend-ca", "/no/such/a"), "cannot use /no/such/a: No such file"),
        (("--backend", "https://a", "--backend-certificate", "/no/b"), "cannot use /no/b: No such file"),
        (("--spool-directory", "/no/such"), "cannot write files into /no/such; change --spool-directory"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(start: Start, option: tuple[str, ...], said: str) -> None:
    running = start("-m", "windlass", "proxy", "--backend", "http://127.0.0.1:1", *option)
    status, _, err = running.finish()
    assert status == 1
    assert err.startswith(f"windlass proxy: {said}")
    assert err.count("\n") == 1


def test_events_for_people_and_an_access_log_in_a_file(
    start: Start, held_backend: Any, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    running = start(
        "-m", "windlass", "proxy", "--listen", f"unix:{tmp_path}/listen",
        "--backend", held_backend.url, "--access-log", str(log),
    )  # fmt: skip
    running.line("forwarding")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/listen")
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
    running.process.send_signal(signal.SIGINT)
    status, _, err = running.finish()
    assert status == 0
    assert f"to={held_backend.url}" in err
    assert "refused=1" in err
    assert '"-" 400 ' in log.read_text()


@pytest.fixture
def site(tmp_path: Path, require_program: Callable[[str, str], str]) -> tuple[str, str]:
    """A certificate of localhost with its key, and the same as an authority."""
    openssl = require_program("openssl", "apt-get install openssl")
    pem = tmp_path / "site.pem"
    certificate = tmp_path / "certificate.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {pem} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + certificate.read_bytes())
    return os.fspath(pem), os.fspath(certificate)


def test_https_for_clients(start: Start, held_backend: Any, site: tuple[str, str]) -> None:
    pem, certificate = site
    running = start(*START, "--backend", held_backend.url, "--tls-certificate", pem)
    context = ssl.create_default_context(cafile=certificate)
    port = port_of(running)
    with context.wrap_socket(
        socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
    ) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"X-Forwarded-Proto: https\r\n" in held_backend.receive()
        held_backend.answer(b"sealed")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_certificates_of_clients_and_for_backends(
    start: Start, held_backend: Any, site: tuple[str, str]
) -> None:
    pem, certificate = site
    secured = ("--tls-certificate", pem, "--client-ca", certificate, "--tls-min", "1.3")
    inner = port_of(start(*START, "--backend", held_backend.url, *secured))
    url = f"https://localhost:{inner}"
    trusting = ("--backend-ca", certificate)
    known = start(
        *START, "--backend", url, *trusting, "--backend-certificate", pem, "--backend-tls-min", "1.3"
    )
    client = asked(port_of(known))
    held_backend.receive()
    held_backend.answer(b"sealed")
    assert client.getresponse().read() == b"sealed"
    client.close()
    assert status_of(port_of(start(*START, "--backend", url, *trusting))) == 502
    doubting = start(*START, "--backend", url)
    assert status_of(port_of(doubting)) == 502
    told = json.loads(doubting.line('"cannot connect"'))
    assert told["advice"].startswith("trust its authority with --backend-ca")


def test_a_port_without_tls_is_told_with_what_to_write(start: Start) -> None:
    plain = port_of(start(*START, "--backend", "http://127.0.0.1:1"))
    mistaken = start(*START, "--backend", f"https://127.0.0.1:{plain}")
    assert status_of(port_of(mistaken)) == 502
    assert json.loads(mistaken.line('"cannot connect"'))["advice"] == "write --backend http://… for it"
