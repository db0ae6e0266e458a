"""The options of `windlass proxy`: a table, the parser made of it, and what makes no sense together."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from actors import TcpAddress, workers
from protocols.http.client.units import parse_url
from windlass.arguments import Parser, address, backend, integer, network, seconds, tls_version

__all__ = ["check", "proxy_parser"]

EXAMPLES: Final = """\
examples:
  windlass proxy --listen 0.0.0.0:8080 --backend http://10.0.0.5:9001 --backend http://10.0.0.6:9001
  windlass proxy --backend https://api.example.com --tls-certificate site.pem --tls-key site.key --listen :443

SIGTERM or Ctrl-C drains: nothing new is accepted, and requests under way get their answers. A second signal
stops at once. SIGHUP reads the certificates again and reopens the access log, without losing a request. With
several workers, it replaces them one by one, and SIGUSR1 logs the sum of their statistics.
"""
TIMEOUT_SECONDS: Final = 60.0  # nginx 60, Envoy 15, HAProxy's examples 50
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
        ("--connections", "N", integer(1, 100_000), 10, "maximum connections per backend (default 10)"),
        ("--pipeline", "N", integer(1, 10_000), 1,
         "requests in flight per connection; one slow answer delays those behind it (default 1)"),
        ("--queue", "N", integer(1, 1_000_000), 1024,
         "requests that may wait for a connection; further ones get a 503 (default 1024)"),
        ("--timeout", "S", seconds(0.001, 86_400), TIMEOUT_SECONDS,
         "seconds from the end of a request to the head of its answer; then 504 (default 60)"),
        ("--connect-timeout", "S", seconds(0.001, 3600), 5.0, "seconds to connect to a backend (default 5)"),
        ("--body-timeout", "S", seconds(0.001, 86_400), 60.0,
         "seconds without progress of a body; a request's body keeps up 500 B/s (default 60)"),
        ("--tunnels", "N", integer(0, 1_000_000), 1000,
         "upgraded connections (WebSocket) at a time; further ones get a 503 (default 1000)"),
        ("--tunnel-idle", "S", seconds(0.1, 604_800), 600.0,
         "seconds that an upgraded connection may be silent (default 600)"),
        ("--backend-ca", "FILE", str, None, "certificates to trust for https backends (default: system's)"),
        ("--backend-certificate", "FILE", str, None,
         "PEM certificate chain to show to https backends as the client's own (default: none)"),
        ("--backend-key", "FILE", str, None, "its private key (default: in the same file)"),
        ("--backend-tls-min", "VERSION", tls_version, "1.2",
         "lowest version of TLS towards backends, 1.2 or 1.3 (default 1.2)"),
    ],
    "towards the clients": [
        ("--clients", "N", integer(1, 1_000_000), 10_000, "client connections at a time (default 10000)"),
        ("--idle", "S", seconds(0.1, 86_400), 75.0,
         "seconds that a client's connection is kept without a request (default 75)"),
        ("--body-max", "BYTES", integer(0, 1 << 60), None,
         "larger request bodies get a 413 (default: no limit)"),
        ("--gather", "BYTES", integer(0, 1 << 40), 1 << 20,
         "request bodies up to this size arrive whole before they take a connection (default 1048576)"),
        ("--head-bytes", "BYTES", integer(256, 1 << 20), 16_384,
         "larger heads get a 431, or a 502 if they are a backend's (default 16384)"),
        ("--headers", "N", integer(1, 10_000), 100, "heads with more headers get a 431 or 502 (default 100)"),
        ("--response-sending", "S", seconds(0.1, 86_400), 60.0,
         "seconds for a client to take what waits for it (default 60)"),
        ("--spool-max", "BYTES", integer(0, 1 << 60), 1 << 30,
         "a file holds what a slow client leaves of an answer, up to this size (default 1073741824)"),
        ("--spool-total", "BYTES", integer(0, 1 << 60), 4 << 30,
         "size of all these files together; beyond it, backends are held back (default 4294967296)"),
        ("--spool-directory", "DIR", str, None,
         "directory of these files (default: the system's temporary directory)"),
        ("--trusted", "NETWORK", network, [],
         "believe X-Forwarded-For of clients in this network; repeat it for several (default: of none)"),
        ("--no-half-close", "", FLAG, False,
         "treat clients that close their sending side early as gone (default: they are answered)"),
        ("--tls-certificate", "FILE", str, None, "serve HTTPS with this PEM certificate chain"),
        ("--tls-key", "FILE", str, None, "its private key (default: in the same file)"),
        ("--tls-min", "VERSION", tls_version, "1.2",
         "lowest version of TLS towards clients, 1.2 or 1.3 (default 1.2)"),
        ("--client-ca", "FILE", str, None,
         "admit only clients with a certificate of one of these authorities (default: all clients)"),
    ],
    "running it": [
        ("--workers", "N", integer(1, 1024), 1,
         "processes; each has its own connections, queue and clients (default 1)"),
        ("--drain", "S", seconds(0, 86_400), 30.0,
         "seconds that the first SIGTERM gives to requests under way (default 30)"),
        ("--silence", "S", seconds(1.5, 86_400), workers.SILENCE,
         "seconds without a sign of life, after which a worker gets a successor (default 10)"),
        ("--access-log", "FILE", str, None,
         "a line per request, to standard output or appended to FILE (default: none)"),
        ("--log-json", "", FLAG, False, "events on standard error as JSON lines (default: for people)"),
    ],
}
# fmt: on

NEEDS: Final = {
    "--tls-key": "--tls-certificate",
    "--client-ca": "--tls-certificate",
    "--backend-key": "--backend-certificate",
}


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
    for option, other in NEEDS.items():
        if value_of(options, option) and not value_of(options, other):
            parser.fail(f"{option} without {other}; give both")
    if not any(url.startswith("https:") for url in options.backend):
        for option in ("--backend-ca", "--backend-certificate"):
            if value_of(options, option):
                parser.fail(f"{option} is for https backends, but no backend is https")
    for url in options.backend:
        if options.listen == parse_url(url)[0].address:
            parser.fail(
                f"--backend {url} is the address of --listen: the proxy would call itself; change one of them"
            )


def value_of(options: argparse.Namespace, option: str) -> Any:
    """What was given for an option, by its name on the command line."""
    return getattr(options, option.removeprefix("--").replace("-", "_"))
