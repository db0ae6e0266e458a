"""`windlass proxy`: a reverse proxy as a program: options in, signals and a summary out."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import resource
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec import to_builtins

from actors import Address, Loop, TcpAddress, workers
from actors.events import EventLog
from pools import Pool
from protocols import http
from protocols.http.access_log import AccessLog
from protocols.http.client import parse_url

from .arguments import Parser, address, backend, integer, network, seconds
from .logs import configure_logs, tell
from .renewal import lead_to, on_hangup

__all__ = ["run_proxy"]

EXAMPLES: Final = """\
examples:
  windlass proxy --listen 0.0.0.0:8080 --backend http://10.0.0.5:9001 --backend http://10.0.0.6:9001
  windlass proxy --backend https://api.example.com --tls-certificate site.pem --tls-key site.key --listen :443

SIGTERM or Ctrl-C drains: nothing new is accepted, what is under way gets its answer. A second one stops
at once. SIGHUP reads the certificates and opens the access log anew, without losing a request; with several
workers by replacing them one by one. SIGUSR1 then logs their statistics, added up.
"""
TIMEOUT_SECONDS: Final = 60.0  # nginx 60, Envoy 15, HAProxy's examples 50
GARBAGE_THRESHOLD: Final = 50_000  # objects; see `tune`
DESCRIPTORS_BESIDE: Final = 64  # for what is no connection: logs, the poller, spools of slow clients
FLAG: Final = None

# fmt: off
OPTIONS: Final[dict[str, list[tuple[str, str, Callable[[str], Any] | None, Any, str]]]] = {
    "from where to where": [
        ("--listen", "HOST:PORT", address, TcpAddress("127.0.0.1", 8080),
         "where clients connect, or unix:PATH (default 127.0.0.1:8080)"),
        ("--backend", "URL", backend, [],
         "http://HOST:PORT, https://HOST or unix:PATH; repeat it for several"),
    ],
    "towards the backends": [
        ("--connections", "N", integer(1, 100_000), 10, "connections per backend at most (default 10)"),
        ("--pipeline", "N", integer(1, 10_000), 1,
         "requests in flight per connection; one slow answer delays those behind it (default 1)"),
        ("--queue", "N", integer(1, 1_000_000), 1024,
         "requests that may wait for a connection; further ones get a 503 (default 1024)"),
        ("--timeout", "S", seconds(0.001, 86_400), TIMEOUT_SECONDS,
         "seconds from the end of a request to the head of its answer; then 504 (default 60)"),
        ("--connect-timeout", "S", seconds(0.001, 3600), 5.0, "seconds to connect to a backend (default 5)"),
        ("--backend-ca", "FILE", str, None, "certificates to trust for https backends (default: system's)"),
    ],
    "towards the clients": [
        ("--clients", "N", integer(1, 1_000_000), 10_000, "client connections at a time (default 10000)"),
        ("--idle", "S", seconds(0.1, 86_400), 75.0,
         "seconds that a client's connection is kept without a request (default 75)"),
        ("--body-max", "BYTES", integer(0, 1 << 60), None,
         "larger request bodies get a 413 (default: no limit)"),
        ("--trusted", "NETWORK", network, [],
         "believe X-Forwarded-For of clients in this network; repeat it for several (default: of none)"),
        ("--half-close", "", FLAG, False,
         "answer clients that close their sending side early (default: they are taken as gone)"),
        ("--tls-certificate", "FILE", str, None, "serve HTTPS with this PEM certificate chain"),
        ("--tls-key", "FILE", str, None, "its private key (default: in the same file)"),
    ],
    "running it": [
        ("--workers", "N", integer(1, 1024), 1,
         "processes, each with its own connections, queue and clients of the above numbers (default 1)"),
        ("--drain", "S", seconds(0, 86_400), 30.0,
         "seconds that a first SIGTERM grants to what is under way (default 30)"),
        ("--silence", "S", seconds(1.5, 86_400), workers.SILENCE,
         "seconds without a sign of life after which a worker gets a successor (default 10)"),
        ("--access-log", "FILE", str, None,
         "a line per request, to standard output or appended to FILE (default: none)"),
        ("--log-json", "", FLAG, False, "events on standard error as JSON lines (default: for people)"),
    ],
}
# fmt: on


class StartError(ValueError):
    """What keeps the proxy from starting, and what to change."""


class Files(NamedTuple):
    """What was read and opened for it, before anything runs."""

    clients: ssl.SSLContext | None
    backends: ssl.SSLContext | None
    log: int | None


def run_proxy(argv: Sequence[str]) -> int:
    """Run the proxy until it is told to end; the exit status is 0 if everything under way got its answer."""
    parser = proxy_parser()
    options = parser.parse(argv)
    if options is None:
        return 0
    check(parser, options)
    configure_logs(json=options.log_json)
    try:
        files = open_files(options)
        provide_descriptors(options)
        return run_alone(options, files) if options.workers == 1 else run_workers(options, files)
    except StartError as error:
        tell(f"windlass proxy: {error}")
        return 1


def open_files(options: argparse.Namespace) -> Files:
    """Read and open what the options name. Raises `StartError`."""
    return Files(server_context(options), backend_context(options), open_log(options.access_log))


def run_alone(options: argparse.Namespace, files: Files) -> int:
    """In this process."""
    with Loop() as loop, loop.taking_signals(options.drain), on_hangup(loop, partial(renew, options, files)):
        try:
            pool, server = spawn(loop, options, files)
        except OSError as error:
            raise StartError(explained(error, options.listen)) from None
        say_whither(options)
        tune()
        ends: list[BaseException | None] = []
        loop.watch(
            pool.token, ends.append
        )  # the pool is the last to stop, in good order only if all had theirs
        loop.run(drain=options.drain)
        in_good_order = ends == [None]
        loop.close()
        return summed_up(in_good_order, to_builtins(server.statistics()), to_builtins(pool.statistics()))


def renew(options: argparse.Namespace, files: Files) -> None:
    """Read and open once more what the options name. Raises `OSError`, and `StartError` as at the start; then
    nothing has changed."""
    new = open_files(options)
    if files.clients is not None:
        files.clients.load_cert_chain(options.tls_certificate, options.tls_key)
    if files.backends is not None:
        files.backends.load_verify_locations(options.backend_ca)
    if files.log is not None and new.log is not None and new.log != files.log:
        lead_to(files.log, new.log)


def run_workers(options: argparse.Namespace, files: Files) -> int:
    """In a process per worker, minded by this one. Each worker opens the files anew: so replacing the workers
    brings renewed certificates in, and a rotated log. Here they were only tried."""
    if files.log is not None and files.log != sys.stdout.fileno():
        os.close(files.log)

    def work(loop: Loop) -> dict[str, object]:
        pool, server = spawn(loop, options, open_files(options))
        tune()
        return {"pool": pool, "server": server}

    say_whither(options)
    try:
        told = workers.serve(
            work,
            workers=options.workers,
            listen=[options.listen],
            drain=options.drain,
            silence=options.silence,
        )
    except OSError as error:
        raise StartError(explained(error, options.listen)) from None
    except workers.WorkersGaveUp as error:
        raise StartError(str(error)) from None
    return summed_up(not told.cut_off, told.total.get("server", {}), told.total.get("pool", {}))


def proxy_parser() -> Parser:
    """The options, each with its default and unit."""
    parser = Parser("windlass proxy", "Forward HTTP requests to backends, over few connections.", EXAMPLES)
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, metavar, kind, default, text in options:
            if kind is FLAG:
                group.add_argument(name, action="store_true", help=text)
            elif isinstance(default, list):
                group.add_argument(
                    name, action="append", type=kind, default=default, metavar=metavar, help=text
                )
            elif name == "--access-log":
                group.add_argument(name, nargs="?", const="-", metavar=metavar, help=text)
            else:
                group.add_argument(name, type=kind, default=default, metavar=metavar, help=text)
    return parser


def check(parser: Parser, options: argparse.Namespace) -> None:
    """Refuse what makes no sense together."""
    if not options.backend:
        parser.fail("no backend to forward to; write --backend http://HOST:PORT")
    if options.tls_key and not options.tls_certificate:
        parser.fail("--tls-key without --tls-certificate; give both")
    if options.backend_ca and not any(url.startswith("https:") for url in options.backend):
        parser.fail("--backend-ca is for https backends, and there is none")
    for url in options.backend:
        if options.listen == parse_url(url)[0].address:
            parser.fail(
                f"--backend {url} is what --listen names: the proxy would call itself; change one of them"
            )


def spawn(loop: Loop, options: argparse.Namespace, files: Files) -> tuple[Pool, http.Server]:
    """The machines. Raises `OSError` if the address is taken."""
    pool = http.pool(
        options.backend,
        connections=options.connections,
        pipeline=options.pipeline,
        queue=options.queue,
        timeout=options.timeout,
        connect_timeout=options.connect_timeout,
        tls=files.backends,
    )
    log = None if files.log is None else loop.spawn(AccessLog(files.log))
    server = http.server(
        options.listen,
        http.proxy(
            pool, trusted=options.trusted, body_max=options.body_max, secure=files.clients is not None
        ),
        connections=options.clients,
        timeouts=http.Timeouts(
            idle=options.idle, response_generation=options.timeout + options.connect_timeout
        ),
        half_close=options.half_close,
        tls=files.clients,
        access_log=log,
    )
    return loop.spawn(pool), loop.spawn(server)


def server_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for clients, if there is a certificate."""
    if options.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except OSError as error:
        files = " and ".join(filter(None, [options.tls_certificate, options.tls_key]))
        raise StartError(
            f"cannot use {files}: {reason_of(error)}; --tls-certificate and --tls-key want PEM files",
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def backend_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS for backends, if other certificates than the system's are to be trusted."""
    if options.backend_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=options.backend_ca)
    except OSError as error:
        raise StartError(
            f"cannot use {options.backend_ca}: {reason_of(error)}; --backend-ca wants a PEM file"
        ) from None


def open_log(path: str | None) -> int | None:
    """The access log's descriptor, if there is to be one. It appends: `logrotate`'s copytruncate works."""
    if path is None:
        return None
    if path == "-":
        return sys.stdout.fileno()
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StartError(f"cannot write {path}: {reason_of(error)}; change --access-log") from None


def reason_of(error: OSError) -> str:
    """Why, without the number in front."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in the expected form").lower().replace("_", " ")
    return error.strerror or str(error)


def explained(error: OSError, listen: Address) -> str:
    """An error at the start, with the option to change."""
    if error.errno == errno.EADDRINUSE:
        return f"{listen} is in use by another program; choose another port with --listen HOST:PORT"
    if error.errno == errno.EACCES and isinstance(listen, TcpAddress) and 0 < listen.port < 1024:
        return f"{listen}: ports below 1024 need privileges; write for example --listen {listen.host}:8080"
    text = error.strerror or str(error)
    return f"{text}; change --listen" if text.startswith("cannot listen") else text


def provide_descriptors(options: argparse.Namespace) -> None:
    """As many descriptors as the system lets this process have, since each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):  # some systems name a hard limit that they do not grant
        pass
    wanted = options.clients + options.connections * len(options.backend) + DESCRIPTORS_BESIDE
    if resource.RLIM_INFINITY != soft < wanted:
        events().warning("too few descriptors: raise ulimit -n, or lower --clients", has=soft, wants=wanted)


def tune() -> None:
    """Take what was imported out of the collector's sight, and have it look less often.

    A request leaves no cycles behind, so all that a collection does is to look at what lives. Measured by the
    CPU time of a request: no difference with 64 clients, 4 % with 1,000; and no pause to look at everything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)


def events() -> EventLog:
    """What is said outside of any loop."""
    return EventLog(time.monotonic)


def say_whither(options: argparse.Namespace) -> None:
    """What a person wants to see of the options at the start."""
    shown = ("connections", "pipeline", "queue", "timeout", *(("workers",) if options.workers > 1 else ()))
    fields = {name: getattr(options, name) for name in shown}
    events().info("forwarding", to=" ".join(options.backend), **fields)


def summed_up(in_good_order: bool, server: dict[str, Any], pool: dict[str, Any]) -> int:
    """Say in one line what was done, from the statistics; return the exit status."""
    failed = {name: count for name, count in pool.get("failed", {}).items() if count}
    refused = failed.pop("QueueFull", 0) + failed.pop("PoolClosed", 0) + server.get("refused", 0)
    cancelled = failed.pop("Cancelled", 0)
    fields: dict[str, Any] = {
        "requests": server.get("requests", 0),
        "answered": pool.get("succeeded", 0),
        "refused": refused,
        "backend_errors": sum(failed.values()),
    }
    if failed:
        fields["errors"] = ", ".join(f"{name} {count}" for name, count in sorted(failed.items()))
    if cancelled:
        fields["clients_gone"] = cancelled
    if in_good_order:
        events().info("stopped", **fields)
    else:
        events().warning("stopped before all had their answer", **fields)
    return 0 if in_good_order else 1
