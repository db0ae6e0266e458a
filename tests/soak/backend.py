"""A backend that can be killed and be back at once: `python -m tests.soak.backend PORT` serves from a forked
child; a line `kill` on standard input kills that and forks the next. It says `up` for each one that listens.

It answers with what it was asked: the method, the target and the body. `/large/N` gives N bytes.
"""

from __future__ import annotations

import os
import signal
import sys

from actors import Loop
from protocols import http

__all__ = ["echo", "expected"]


def expected(method: str, target: str, body: bytes) -> bytes:
    """What `echo` answers to this."""
    if target.startswith("/large/"):
        return b"x" * int(target.split("/")[2])
    return b"%b %b %b" % (method.encode(), target.encode(), body)


def echo(request: http.Request) -> http.Response:
    """The handler."""
    return http.Response(200, {}, expected(request.method, request.target, request.body))


def serve(port: int, up: int) -> None:
    """The child: until it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop = Loop()
    loop.spawn(http.server(f"127.0.0.1:{port}", echo))
    os.write(up, b"up\n")
    loop.run(signals=False)


def main() -> None:
    """The parent: keeps one child."""
    port = int(sys.argv[1])
    while True:
        child = os.fork()
        if not child:
            sys.stdin.close()
            serve(port, sys.stdout.fileno())
            os._exit(0)
        line = sys.stdin.readline()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not line:
            return


if __name__ == "__main__":
    main()
