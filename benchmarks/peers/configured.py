"""Peers that are installed programs: their configurations and command lines.

nginx runs as it does in production, a master with one worker, but out of a folder of its own; HAProxy with
one thread. Neither writes an access log.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.machine import BUILD, PEER_BIN, PEERS
from benchmarks.servers import program

__all__ = [
    "INSTALL_PEERS",
    "c_loop",
    "granian",
    "haproxy_proxy",
    "nginx_hello",
    "nginx_proxy",
    "peer_module",
    "uvicorn",
]

INSTALL_PEERS = "make .venv-bench"
NGINX = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 120;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type text/plain;
        location / {{ {answer} }}
    }}
}}
"""
NGINX_UPSTREAM = (
    "upstream backend {{ server {backend}; keepalive {connections}; keepalive_requests 1000000000; }}"
)
NGINX_FORWARD = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'
HAPROXY = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server one {backend}
"""
Command = Callable[[int], Sequence[str]]


def c_loop(port: int) -> Sequence[str]:
    """Our own C loop, compiled when its source is newer."""
    source, built = PEERS / "limit.c", BUILD / "limit"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        compiler = program(os.environ.get("CC", "cc"), "apt-get install gcc libc6-dev")
        BUILD.mkdir(exist_ok=True)
        subprocess.run([compiler, "-O2", "-Wall", "-o", built, source], check=True)
    return [str(built), str(port)]


def _nginx(port: int, answer: str, upstream: str = "") -> Sequence[str]:
    binary = program("nginx", "apt-get install nginx")
    folder = BUILD / f"nginx-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(port=port, user=user, files=16500, upstream=upstream, answer=answer))
    return [binary, "-e", "stderr", "-p", str(folder), "-c", str(config)]


def nginx_hello(port: int) -> Sequence[str]:
    """nginx answering by itself."""
    return _nginx(port, 'return 200 "Hello World!";')


def nginx_proxy(backend: str, connections: int) -> Command:
    """nginx in front of `backend` (host:port), keeping connections to it alive."""
    upstream = NGINX_UPSTREAM.format(backend=backend, connections=connections)
    return lambda port: _nginx(port, NGINX_FORWARD, upstream)


def haproxy_proxy(backend: str) -> Command:
    """HAProxy in front of `backend` (host:port), keeping connections to it alive."""

    def command(port: int) -> Sequence[str]:
        binary = program("haproxy", "apt-get install haproxy")
        config: Path = BUILD / f"haproxy-{port}.cfg"
        BUILD.mkdir(exist_ok=True)
        config.write_text(HAPROXY.format(port=port, backend=backend))
        return [binary, "-db", "-f", str(config)]

    return command


def granian(port: int) -> Sequence[str]:
    """granian with one worker, ASGI; its limits raised so that 8,000 connections may stay."""
    binary = program(PEER_BIN / "granian", INSTALL_PEERS)
    return [
        *(
            binary,
            "--interface=asgi",
            "--host=127.0.0.1",
            f"--port={port}",
            "--workers=1",
            "--http=1",
            "--no-ws",
        ),
        *(
            "--loop=uvloop",
            "--no-log",
            "--backlog=16384",
            "--backpressure=16384",
            "benchmarks.peers.asgi:app",
        ),
    ]


def uvicorn(port: int) -> Sequence[str]:
    """uvicorn with uvloop and httptools, without its access log."""
    binary = program(PEER_BIN / "uvicorn", INSTALL_PEERS)
    return [
        *(binary, "--host=127.0.0.1", f"--port={port}", "--loop=uvloop", "--http=httptools", "--ws=none"),
        *("--no-access-log", "--log-level=warning", "--lifespan=off", "--timeout-keep-alive=120"),
        "benchmarks.peers.asgi:app",
    ]


def peer_module(module: str, *arguments: str) -> Command:
    """A program of this folder, run in the peers' environment."""

    def command(port: int) -> Sequence[str]:
        python = program(PEER_BIN / "python", INSTALL_PEERS)
        return [python, "-m", f"benchmarks.peers.{module}", str(port), *arguments]

    return command
