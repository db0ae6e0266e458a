"""Responders on their exchange: what they may do, what they are told, and what misuse of it leads to."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Bytes, Continue, Misuse, Outcome, Reply, StreamProtocol, Transport
from protocols import http
from protocols.http.codec.head import CHUNKED, UNTIL_CLOSE
from protocols.http.codec.messages import encode_response_head
from tests.protocols.http.harness import Answer, Simulated, get, read_answers

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


class Recorder(http.Responder):
    """Notes what it is told, and does what the test says."""

    def __init__(self, **actions: Any) -> None:
        self.told: list[Any] = []
        self.actions = actions
        self.exchange: Any = None

    def _told(self, name: str, *details: Any) -> None:
        self.told.append((name, *details) if details else name)
        action = self.actions.get(name)
        if action is not None:
            action(self.exchange)

    def begin(self, exchange: http.Exchange) -> None:
        self.exchange = exchange
        self._told("begin")

    def body(self, exchange: http.Exchange, pieces: list[bytes]) -> None:
        self._told("body", b"".join(pieces))

    def body_ended(self, exchange: http.Exchange, trailers: http.Headers) -> None:
        self._told("body_ended")

    def wakeup(self, exchange: http.Exchange) -> None:
        self._told("wakeup")

    def writable(self, exchange: http.Exchange) -> None:
        self._told("writable")

    def timeout(self, exchange: http.Exchange) -> None:
        self._told("timeout")

    def abandoned(self, exchange: http.Exchange, error: BaseException | None) -> None:
        self._told("abandoned", type(error))


class Log:
    def __init__(self) -> None:
        self.rows: list[tuple[str | None, int]] = []

    def add(
        self, transport: Any, request: http.Request | None, status: int, size: int, seconds: float
    ) -> None:
        self.rows.append((request and f"{request.method} {request.target} {request.peer}", status))


def ask(responder: http.Responder, data: bytes = POST, *, end: bool = False, **options: Any) -> list[Answer]:
    handler = http.streaming(lambda request: responder)
    with Simulated(handler, **options) as simulated:
        sock = simulated.connect()
        simulated.send(sock, data)
        return read_answers(sock.delivered(), ended=True)


def respond(exchange: Any) -> None:
    exchange.respond(http.text_response("done"))


def test_told_in_order() -> None:
    responder = Recorder(body_ended=respond)
    assert [answer.body for answer in ask(responder, POST + POST)] == [b"done"] * 2
    assert responder.told == ["begin", ("body", b"abc"), "body_ended"] * 2


def test_an_answer_in_begin_is_the_end_of_it() -> None:
    responder = Recorder(begin=respond)
    (answer,) = ask(responder, get() + get())[:1]
    assert answer.body == b"done"
    assert responder.told == ["begin", "begin"]


def test_woken_and_timed() -> None:
    reply: Reply[str] = Reply()

    class Patient(Recorder):
        deadline = 1002.0

    responder = Patient(begin=lambda exchange: reply.attach(exchange.scope), wakeup=respond)
    with Simulated(lambda request: responder) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get())
        simulated.advance(1.9)
        assert responder.told == ["begin", "body_ended"]
        responder.actions["timeout"] = lambda exchange: setattr(responder, "deadline", 1e9)
        simulated.advance(0.2)
        assert responder.told[2:] == ["timeout"]
        reply.settle("x")
        simulated.settle()
        assert len(read_answers(sock.delivered())) == 1


def test_what_an_exchange_tells() -> None:
    seen: list[Any] = []

    def look(exchange: http.Exchange) -> None:
        states = exchange.answered, exchange.finished, exchange.body_complete, exchange.congested
        seen.append((*states, repr(exchange)))

    def body_ended(exchange: http.Exchange) -> None:
        look(exchange)
        respond(exchange)
        look(exchange)

    ask(Recorder(begin=look, body_ended=body_ended))
    assert [row[:4] for row in seen] == [
        (False, False, False, False),
        (False, False, True, False),
        (True, True, True, False),
    ]
    assert seen[0][4].startswith("<Exchange POST / receiving the body <")
    assert seen[1][4].startswith("<Exchange POST / answering <")


def test_held_body() -> None:
    def hold(exchange: http.Exchange) -> None:
        exchange.hold_body(True)
        exchange.hold_body(True)

    responder = Recorder(begin=hold, wakeup=lambda exchange: exchange.hold_body(False), body_ended=respond)
    handler = http.streaming(lambda request: responder)
    with Simulated(handler) as simulated:
        sock = simulated.connect()
        simulated.send(sock, POST)
        assert responder.told == ["begin"]
        assert responder.exchange.body_held
        responder.exchange.scope.wake()
        simulated.settle()
        assert responder.told[:4] == ["begin", "wakeup", ("body", b"abc"), "body_ended"]
        assert len(read_answers(sock.delivered())) == 1


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (POST, b"abc"),
        (POST[:-1], None),
        (get(), None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", None),
    ],
)
def test_take_whole_body(data: bytes, whole: bytes | None) -> None:
    taken: list[bytes | None] = []
    responder = Recorder(begin=lambda exchange: taken.append(exchange.take_whole_body()), body_ended=respond)
    ask(responder, data)
    assert taken == [whole]
    assert ("body", b"abc") not in responder.told


def test_interim_responses() -> None:
    def begin(exchange: http.Exchange) -> None:
        exchange.send_interim(103, b"Link: </a>\r\n")
        exchange.send_interim(100, b"")
        exchange.proceed()  # has been done
        respond(exchange)
        exchange.send_interim(103, b"")  # too late
        exchange.proceed()

    lines = b"POST / HTTP/1.%d\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert [answer.status for answer in ask(Recorder(begin=begin), lines % 1)] == [103, 100, 200]
    assert [answer.status for answer in ask(Recorder(begin=begin), lines % 0)] == [200]


def test_proceed() -> None:
    def begin(exchange: http.Exchange) -> None:
        exchange.proceed()
        exchange.proceed()

    data = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert [answer.status for answer in ask(Recorder(begin=begin), data)] == [100]


@pytest.mark.parametrize("length", [5, CHUNKED, UNTIL_CLOSE])
@pytest.mark.parametrize("dated", [False, True])
def test_send_head(length: int, dated: bool) -> None:
    def begin(exchange: http.Exchange) -> None:
        exchange.send_head(200, b"Date: x\r\n" if dated else b"", length, "Fine", dated=dated)
        exchange.send(b"Hello")
        exchange.finish()

    (answer,) = ask(Recorder(begin=begin), get())
    assert (answer.body, answer.complete) == (b"Hello", True)
    assert len(answer.headers.get_all("date")) == 1
    assert answer.headers.get("connection") == ("close" if length == UNTIL_CLOSE else None)


def ends_in_reset(**actions: Any) -> Recorder:
    responder = Recorder(**actions)
    with Simulated(lambda request: responder) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get())
        assert sock.closed
        assert not sock.delivered().endswith(b"0\r\n\r\n")
    return responder


def begun(then: Any) -> Any:
    def begin(exchange: http.Exchange) -> None:
        exchange.send_head(200, b"", CHUNKED)
        then(exchange)

    return begin


def fail(exchange: http.Exchange) -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    "then",
    [
        fail,
        lambda exchange: exchange.send_head(200, b"", 0),
        lambda exchange: exchange.respond(http.Response()),
        lambda exchange: exchange.abort(RuntimeError("x")),
        lambda exchange: exchange.send("text"),
    ],
)
def test_what_goes_wrong_after_the_head_resets(then: Any) -> None:
    responder = ends_in_reset(begin=begun(then))
    assert responder.told[-1][0] == "abandoned"


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (fail, 500),
        (lambda exchange: exchange.send(b"x"), 500),
        (lambda exchange: exchange.finish(), 500),
        (lambda exchange: exchange.send_head(102, b"", 0), 500),
        (lambda exchange: exchange.abort(RuntimeError("x")), 502),
    ],
)
@pytest.mark.parametrize("when", ["begin", "body_ended"])
def test_what_goes_wrong_before_the_head_is_answered(action: Any, status: int, when: str) -> None:
    responder = Recorder(**{when: action})
    answers = ask(responder)
    assert answers[0].status == status
    if status == 500:
        assert ("abandoned", KeyError if action is fail else Misuse) in responder.told


def test_what_goes_wrong_after_the_end_is_only_logged() -> None:
    def begin(exchange: http.Exchange) -> None:
        exchange.send_head(200, b"", 0)
        exchange.finish()
        exchange.abort(RuntimeError("too late"))
        exchange.send(b"x")

    with Simulated(lambda request: Recorder(begin=begin)) as simulated:
        sock = simulated.connect()
        answers = simulated.ask(sock, get() * 2)
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"")] * 2
        assert simulated.server.statistics().failed == 2


@pytest.mark.parametrize("how", ["fin", "reset", "drain deadline"])
@pytest.mark.parametrize("answered", [False, True])
def test_abandoned(how: str, answered: bool) -> None:
    responder = Recorder(begin=begun(lambda exchange: None) if answered else lambda exchange: None)
    with Simulated(lambda request: responder, half_close=how != "fin") as simulated:
        sock = simulated.connect()
        simulated.send(sock, get())
        if how == "fin":
            sock.end()
        elif how == "reset":
            sock.reset()
        else:
            simulated.loop.drain(1)
            simulated.settle()
            assert not sock.closed
            simulated.advance(1.1)
        simulated.settle()
        assert sock.closed
        assert [told[0] for told in responder.told if told[0] == "abandoned"] == ["abandoned"]


def test_a_silent_answer_to_a_client_that_has_ended_its_side_is_given_up() -> None:
    """It may have gone, and only what is sent to it would show that."""
    responder = Recorder(begin=begun(lambda exchange: None))
    with Simulated(lambda request: responder, timeouts=http.Timeouts(idle=8.0)) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get())
        simulated.advance(100)
        sock.end()
        simulated.settle()
        for _ in range(5):
            simulated.advance(7)
            assert not sock.closed
            simulated.streams()[0].scope.wake()  # the responder has something to do
            simulated.settle()
        simulated.advance(8)
        assert sock.closed
        assert simulated.server.statistics().timeouts["idle"] == 1
        assert responder.told[-1][0] == "abandoned"


def test_an_answer_from_outside_of_the_handlers() -> None:
    """Somebody else's turn: it is sent, and the connection goes on when the responder is woken next."""
    responder = Recorder()
    with Simulated(lambda request: responder) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get())
        respond(responder.exchange)
        simulated.settle()
        assert len(read_answers(sock.delivered())) == 1
        sock.reset()
        simulated.settle()
        assert sock.closed
        assert responder.told == ["begin", "body_ended"]


@pytest.mark.parametrize(
    ("method", "minor", "connection"), [("GET", 1, None), ("HEAD", 1, None), ("GET", 0, "close")]
)
@pytest.mark.parametrize("dated", [False, True])
def test_relay(method: str, minor: int, connection: str | None, dated: bool) -> None:
    def begin(exchange: http.Exchange) -> None:
        head = encode_response_head(203, b"Date: x\r\n" if dated else b"", 5, reason="Fine")
        exchange.relay(203, head, b"Hello", dated=dated)
        exchange.relay(203, head, b"Hello", dated=dated)

    with Simulated(lambda request: Recorder(begin=begin), access_log=(log := Log())) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get(method=method, minor=minor))
        (answer,) = read_answers(sock.delivered(), method)
        assert (answer.status, answer.body) == (203, b"" if method == "HEAD" else b"Hello")
        assert answer.headers.get("content-length") == "5"
        assert answer.headers.get("connection") == connection
        assert len(answer.headers.get_all("date")) == 1
        assert simulated.server.statistics().failed == 1  # the second one
        assert [status for _, status in log.rows] == [203]


def test_switch() -> None:
    class Upper(StreamProtocol):
        def connected(self, transport: Transport) -> Outcome:
            return Continue(self, Bytes(3))

        def received(self, transport: Transport) -> Outcome:
            transport.write(transport.take(3).upper())
            return Continue(self, Bytes(3))

    def begin(exchange: http.Exchange) -> None:
        exchange.send_head(101, b"Connection: upgrade\r\nUpgrade: upper\r\n", UNTIL_CLOSE)
        exchange.switch(Upper())

    with Simulated(lambda request: Recorder(begin=begin), requests_per_connection=1) as simulated:
        sock = simulated.connect()
        simulated.send(sock, get(lines="Connection: upgrade\r\nUpgrade: upper\r\n") + b"abcd")
        simulated.send(sock, b"ef")
        head, _, rest = sock.delivered().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.count(b"onnection:") == 1
        assert rest == b"ABCDEF"


def test_reprs() -> None:
    responder = Recorder()
    flow: Reply[None] = Reply()

    async def handler(request: http.Request) -> http.Response:
        await flow
        return http.Response()

    with Simulated(handler) as simulated:
        sock = simulated.connect()
        (stream,) = simulated.streams()
        assert repr(stream.protocol) == "<ServerConnection idle>"
        simulated.send(sock, b"GET")
        assert repr(stream.protocol) == "<ServerConnection receiving a head>"
        simulated.send(sock, get()[3:])
        assert "<Exchange GET / answering <FlowResponder <Steps of " in repr(stream.protocol)
        simulated.loop.drain(10)
        simulated.settle()
        assert repr(stream.protocol).endswith(", closing>")
    assert responder.told == []


def test_access_log() -> None:
    log = Log()
    router = http.Router()
    router.add("GET", "/plain", lambda request: http.Response())
    router.add("GET", "/streamed", lambda request: Recorder(begin=begun(lambda exchange: exchange.finish())))
    router.add("GET", "/responded", lambda request: Recorder(begin=respond))
    router.add("POST", "/body", lambda request: http.Response(201))
    with Simulated(router, access_log=log, limits=http.Limits(body_bytes=2)) as simulated:
        sock = simulated.connect()
        for data in (get("/plain"), get("/streamed"), get("/responded"), POST.replace(b"/ ", b"/body ")):
            simulated.send(sock, data)
        simulated.send(simulated.connect(), b"nonsense\r\n")
    assert log.rows == [
        ("GET /plain 192.0.2.1", 200),
        ("GET /streamed 192.0.2.1", 200),
        ("GET /responded 192.0.2.1", 200),
        ("POST /body 192.0.2.1", 413),
        (None, 400),
    ]
