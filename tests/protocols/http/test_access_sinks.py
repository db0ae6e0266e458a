"""A program's own access log: whatever it raises, the answers reach the clients."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Channel, sleep
from protocols import http
from tests.protocols.http.harness import Simulated, get, read_answers


class Broken:
    """Its database is gone."""

    def add(self, *what: Any) -> None:
        raise OSError("the database is gone")


def at_once(request: http.Request) -> http.Response:
    return http.text_response("there")


async def later(request: http.Request) -> http.Response:
    await sleep(0)
    return http.text_response("there")


def streamed(request: http.Request) -> http.StreamingResponse:
    channel: Channel[bytes] = Channel(2)
    channel.put(b"there")
    channel.close()
    return http.StreamingResponse(200, {}, channel)


@pytest.mark.parametrize("handler", [at_once, later, streamed])
def test_an_access_log_that_raises_does_not_reach_the_traffic(handler: Any) -> None:
    with Simulated(handler, access_log=Broken()) as simulated:
        sock = simulated.connect()
        for _ in range(3):
            simulated.send(sock, get())
            (answer,) = read_answers(sock.delivered())
            assert (answer.status, answer.body) == (200, b"there")
        assert not sock.closed
        assert simulated.server.statistics().failed == 0
        assert {event for _, event, _ in simulated.log.lines} == {"listening", "access log failed"}


def test_what_is_refused_is_answered_all_the_same() -> None:
    with Simulated(at_once, access_log=Broken()) as simulated:
        sock = simulated.connect()
        simulated.send(sock, b"nonsense\r\n\r\n")
        assert sock.delivered().startswith(b"HTTP/1.1 400 ")
