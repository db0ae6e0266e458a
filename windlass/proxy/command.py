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
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import to_builtins

from actors import Address, Loop, TcpAddress, workers
from actors.events import EventLog
from pools import Pool
from protocols import http
from protocols.http.server.access_log import AccessLog
from windlass.logs import configure_logs, tell

from .certificates import StartError, backend_context, reason_of, server_context
from .options import check, proxy_parser
from .renewal import lead_to, on_hangup

__all__ = ["proxy_parser", "run_proxy"]

GARBAGE_THRESHOLD: Final = 50_000  # objects; see `tune`
ADVICE: Final = {
    "certificate is not trusted": "trust its authority with --backend-ca, or write the name it was issued to",
    "does not speak TLS": "write --backend http://… for it",
    "speaks TLS, but was contacted without it": "write --backend https://… for it",
}
DESCRIPTORS_BESIDE: Final = 64  # for what is no connection: logs, the poller, spools of slow clients


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
    configure_logs(json=options.log_json, also=[advise])
    try:
        files = open_files(options)
        provide_descriptors(options)
        return run_alone(options, files) if options.workers == 1 else run_workers(options, files)
    except StartError as error:
        tell(f"windlass proxy: {error}")
        return 1


def open_files(options: argparse.Namespace) -> Files:
    """Read and open what the options name. Raises `StartError`."""
    place = options.spool_directory
    if place is not None and not (os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)):
        raise StartError(f"cannot write files into {place}; change --spool-directory")
    return Files(server_context(options), backend_context(options), open_log(options.access_log))


def run_alone(options: argparse.Namespace, files: Files) -> int:
    """In this process."""

    def renewed() -> None:
        renew(options, files.log, pool, server)

    with Loop() as loop, loop.taking_signals(options.drain), on_hangup(loop, renewed):
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


def renew(options: argparse.Namespace, log: int | None, pool: Pool, server: http.Server) -> None:
    """Read and open once more what the options name, for connections and lines from now on. Raises
    `StartError` as at the start; then nothing has changed."""
    new = open_files(options)
    server.tls = new.clients
    pool.renew_tls(new.backends)
    if log is not None and new.log is not None and new.log != log:
        lead_to(log, new.log)


def run_workers(options: argparse.Namespace, files: Files) -> int:
    """In a process per worker, supervised by this one. Each worker opens the files again, so
    replacing the workers brings renewed certificates in, and a rotated log. Here they were only tried."""
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


def spawn(loop: Loop, options: argparse.Namespace, files: Files) -> tuple[Pool, http.Server]:
    """The machines. Raises `OSError` if the address is taken."""
    limits = http.Limits(
        head_bytes=options.head_bytes,
        target_bytes=min(options.head_bytes, http.Limits().target_bytes),
        headers=options.headers,
    )
    pool = loop.spawn(
        http.pool(
            options.backend,
            connections=options.connections,
            pipeline=options.pipeline,
            queue=options.queue,
            timeout=options.timeout,
            connect_timeout=options.connect_timeout,
            tunnels=options.tunnels,
            body_timeout=options.body_timeout,
            limits=limits,
            tls=files.backends,
        )
    )
    log = None if files.log is None else loop.spawn(AccessLog(files.log))
    server = http.server(
        options.listen,
        http.proxy(
            pool,
            trusted=options.trusted,
            secure=files.clients is not None,
            body_max=options.body_max,
            gather=options.gather,
            body_timeout=options.body_timeout,
            spool_max=options.spool_max,
            spool_total=options.spool_total,
            spool_directory=options.spool_directory,
            tunnel_idle=options.tunnel_idle,
        ),
        connections=options.clients,
        limits=limits,
        timeouts=http.Timeouts(
            idle=options.idle,
            body_receiving=options.body_timeout,
            response_generation=options.timeout + options.connect_timeout,
            response_sending=options.response_sending,
        ),
        half_close=not options.no_half_close,
        tls=files.clients,
        access_log=log,
    )
    return pool, loop.spawn(server)


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
    backends = options.connections * len(options.backend) + min(options.tunnels, options.clients)
    wanted = options.clients + backends + DESCRIPTORS_BESIDE
    if resource.RLIM_INFINITY != soft < wanted:
        events().warning("too few descriptors: raise ulimit -n, or lower --clients", has=soft, wants=wanted)


def advise(logger: object, name: str, event: Any) -> Any:
    """A processor of events: adds which option fixes the error."""
    error = str(event.get("error", ""))
    for words, advice in ADVICE.items():
        if words in error:
            event["advice"] = advice
    return event


def tune() -> None:
    """Take what was imported out of the collector's sight, and have it look less often.

    A request leaves no cycles behind, so all that a collection does is to look at what lives. Measured by the
    CPU time of a request: no difference with 64 clients, 4 % with 1,000; and no pause to look at everything.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)


def events() -> EventLog:
    """Write a message outside any loop."""
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
        events().warning("stopped before every request had its answer", **fields)
    return 0 if in_good_order else 1
