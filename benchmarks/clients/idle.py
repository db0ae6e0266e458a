"""Opens connections, has one request answered on each, and keeps them open and quiet.

    python -m benchmarks.clients.idle PORT COUNT

Prints `ready` when all are open. For every line it reads it prints how many of them are still open and quiet.
"""

from __future__ import annotations

import select
import socket
import sys

from benchmarks.machine import raise_descriptor_limit

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def ask_once(port: int) -> socket.socket:
    """A connection on which one small answer with a `Content-Length` was read to its end."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    sock.sendall(REQUEST)
    answer = b""
    while True:
        head, blank_line, body = answer.partition(b"\r\n\r\n")
        if blank_line:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if len(body) >= int(lengths[0].partition(b":")[2]):
                return sock
        if not (data := sock.recv(4096)):
            raise ConnectionError("the server closed a connection before its answer was complete")
        answer += data


def main(port: int, count: int) -> None:
    limit = raise_descriptor_limit()
    if limit < count + 64:
        raise SystemExit(f"{count} connections need that many open files; the limit is {limit}: ulimit -Hn")
    sockets = [ask_once(port) for _ in range(count)]
    poller = select.poll()
    for sock in sockets:
        poller.register(sock, select.POLLIN)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(count - len(poller.poll(0)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
