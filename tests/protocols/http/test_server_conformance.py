"""The server's side of a connection under the kit: at every split, in every state, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from actors import Channel, ChannelClosed, Outcome, StreamProtocol, Transport, current_loop, sleep
from actors.testing.conformance import Conversation, check_protocol
from actors.testing.events import END, EXPIRE
from protocols import http
from protocols.http.server.connection import ServerConnection
from protocols.http.server.server import ServerSpec
from tests.protocols.http.harness import read_answers

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.0\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED += b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n"
WAITING = b"POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
TWO_HOSTS = b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
SMUGGLED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

STORIES: dict[str, Conversation] = {
    "two requests": [(GET, None), (GET, None)],
    "the last one": [(GET, None), (LAST, None), (GET, b"")],
    "an old client": [(HEAD, None)],
    "bodies": [(POST, None), (CHUNKED, None), (GET, None)],
    "refused": [(GET, None), (TWO_HOSTS, None)],
    "smuggled": [(SMUGGLED, None)],
    "idle": [(GET, None), EXPIRE],
    "ended": [(GET + POST[:-2], None), END],
}


class Connection(StreamProtocol):
    """A connection whose server is on the same loop."""

    def __init__(self, server: ServerSpec) -> None:
        self.server = server

    def connected(self, transport: Transport) -> Outcome:
        server = transport.scope.spawn(self.server)
        return ServerConnection(server.shared).connected(transport)


def answer(request: http.Request) -> http.Response:
    return http.text_response(f"{request.method} {request.target} {len(request.body)}\n")


# A connection keeps a deadline that is too early and corrects it when it fires. The kit compares deadlines,
# so here none is earlier than the idle one.
TIMEOUTS = http.Timeouts(response_generation=100.0, response_sending=100.0)


async def answer_later(request: http.Request) -> http.Response:
    await sleep(0)
    return answer(request)


def served_by(handler: Any) -> Callable[[], StreamProtocol]:
    def connection() -> StreamProtocol:
        return Connection(http.server("127.0.0.1:80", handler, timeouts=TIMEOUTS))

    return connection


@pytest.mark.no_cover
@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("handler", [answer, answer_later])
def test_a_connection_keeps_the_kits_rules(handler: Any, story: str) -> None:
    copyable = handler is answer and story not in ("bodies", "ended")  # an exchange holds a channel's peers
    tally = check_protocol(served_by(handler), [STORIES[story]], clones=copyable)
    assert tally["slow peers"] > 10


def test_a_client_that_waits_to_be_told_to_go_on() -> None:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"  # not said to a client that has not waited
    check_protocol(served_by(answer), [[(WAITING, go_on), (b"hello", None)]], clones=False, together=False)


@http.streaming
async def echo_back(request: http.Request) -> http.StreamingResponse:
    """The body in capitals, as it comes, no faster than it is taken; then how much there was."""
    body: Channel[bytes] = Channel(8, weigh=len)

    async def pump() -> None:
        total = 0
        with suppress(ChannelClosed):  # the client has gone
            async for piece in request.stream:
                total += len(piece)
                await body.send(piece.upper())
            await body.send(f" {total}".encode())
            body.close()

    loop = current_loop()
    assert loop is not None
    loop.spawn(pump())
    return http.StreamingResponse(200, {"X-Kind": "echo"}, body)


def bodies(sent: bytes) -> list[tuple[int, bytes, bool]]:
    """What a client reads: chunks are cut as the pieces come."""
    return [(answer.status, answer.body, answer.complete) for answer in read_answers(sent, ended=True)]


@pytest.mark.no_cover
@pytest.mark.parametrize("told", [[POST, GET, CHUNKED], [GET, POST], [CHUNKED, LAST]])
def test_bodies_that_are_streamed_both_ways(told: list[bytes]) -> None:
    tally = check_protocol(
        served_by(echo_back), [[(request, None) for request in told]], reads=bodies, clones=False
    )
    assert tally["cuts"] > 100
