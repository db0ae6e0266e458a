"""Asks an HTTP server exactly so many times: on each of 64 connections, then for their answers, and again.

`wrk` drives for a time; here the count is given, so that two runs can be compared request by request.
"""

from __future__ import annotations

import socket

__all__ = ["ask"]

CONNECTIONS = 64
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWER_SECONDS_MAX = 120.0


def _one_answer(sock: socket.socket) -> int:
    """The size in bytes of the answer to one request, all of which look the same."""
    sock.sendall(REQUEST)
    answer = b""
    while True:
        head, blank_line, body = answer.partition(b"\r\n\r\n")
        if blank_line:
            status, *lines = head.lower().split(b"\r\n")
            if b" 200 " not in status:
                raise ConnectionError(f"the server answered {status!r}")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            if len(body) >= length:
                return len(answer)
        if not (data := sock.recv(65536)):
            raise ConnectionError("the server closed the connection")
        answer += data


def _read(sock: socket.socket, size: int) -> None:
    while size > 0:
        if not (data := sock.recv(65536)):
            raise ConnectionError("the server closed the connection")
        size -= len(data)


def ask(port: int, count: int, *, pipelined: int = 1) -> None:
    """Have `count` requests answered, `pipelined` in every write. Raises `OSError` if they are not."""
    sockets = [
        socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX) for _ in range(CONNECTIONS)
    ]
    size = max([_one_answer(sock) for sock in sockets]) * pipelined
    for _ in range(count // (CONNECTIONS * pipelined)):
        for sock in sockets:
            sock.sendall(REQUEST * pipelined)
        for sock in sockets:
            _read(sock, size)
    for sock in sockets:
        sock.close()
