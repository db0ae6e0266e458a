"""A server that the test plays, byte by byte."""

from __future__ import annotations

import struct
from typing import Any

from pools.testing import Bench
from protocols import postgres
from protocols.postgres import messages
from protocols.postgres.startup.handshake import Settings
from protocols.postgres.statements import Statements
from protocols.postgres.wire import PostgresWire

m = messages.message
WELCOME = m(b"R", bytes(4)) + m(b"S", b"a\0b\0") + m(b"K", struct.pack("!ii", 7, 9)) + m(b"Z", b"I")
COLUMN = m(b"T", struct.pack("!h", 1) + b"n\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0))
DESCRIBED = m(b"1") + m(b"t", struct.pack("!hI", 1, 23)) + COLUMN
READY = m(b"Z", b"I")


def row(number: int) -> bytes:
    return m(b"D", struct.pack("!hii", 1, 4, number))


def answer(*numbers: int, introduced: bool = False) -> bytes:
    rows = b"".join(map(row, numbers))
    return (DESCRIBED if introduced else b"") + m(b"2") + rows + m(b"C", b"SELECT 1\0") + READY


def error(sqlstate: str, severity: str = "ERROR") -> bytes:
    return m(b"E", f"S{severity}\0V{severity}\0C{sqlstate}\0Mno\0\0".encode())


UNIT = postgres.query("select $1::int", 5)


class Played(Bench):
    """A pool of one connection to a server that the test plays."""

    def __init__(self, *, password: str | None = None, tls: Any = None, **options: Any) -> None:
        settings = Settings("me", password, "db", {}, {}, tls, "localhost")
        shared = Statements(8)
        super().__init__(
            lambda: PostgresWire(settings, shared, 1 << 20), ("192.0.2.7:5432",), connections=1, **options
        )

    def say(self, data: bytes, index: int = -1) -> None:
        self.sockets[index].arrive(data)
        self.run()

    def ready(self) -> Played:
        """Connected, with `UNIT` known to the connection."""
        first = self.submit(UNIT)
        self.accept()
        self.say(WELCOME)
        self.say(DESCRIBED)
        self.say(answer(5))
        assert first.result() == [(5,)]
        self.sockets[-1].delivered()
        return self
