"""The five timeout classes by name, on a manual clock; and what handlers do wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors import Channel, Reply, sleep
from protocols import http
from tests.protocols.http.harness import Simulated, get, read_answers

TIMEOUTS = http.Timeouts(
    idle=8.0,
    head_receiving=5.0,
    body_receiving=6.0,
    response_generation=7.0,
    response_sending=9.0,
    body_rate_min=1000.0,
)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n"


def echo(request: http.Request) -> http.Response:
    return http.Response(200, body=request.body or b"Hello")


async def stuck(request: http.Request) -> http.Response:
    await Reply[None]()
    return echo(request)


def upload(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def counted(simulated: Simulated) -> dict[str, int]:
    return {name: count for name, count in simulated.server.statistics().timeouts.items() if count}


class TestIdle:
    def test_before_the_first_request(self) -> None:
        with Simulated(echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.advance(7.9)
            assert not sock.closed
            simulated.advance(0.2)
            assert sock.closed
            assert sock.delivered() == b""
            assert counted(simulated) == {"idle": 1}

    @pytest.mark.parametrize("flow", [False, True])
    def test_between_requests(self, flow: bool) -> None:
        """Counted from the last answer, though the timer is not moved at each."""

        async def echo_flow(request: http.Request) -> http.Response:
            return echo(request)

        with Simulated(echo_flow if flow else echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            for _ in range(20):
                assert len(simulated.ask(sock, get())) == 1
                simulated.advance(0.7)
            simulated.advance(7.2)  # and the 0.7 after the last answer
            assert not sock.closed
            simulated.advance(0.2)
            assert sock.closed
            assert counted(simulated) == {"idle": 1}

    def test_begins_with_the_answer_not_with_the_request(self) -> None:
        async def handler(request: http.Request) -> http.Response:
            await sleep(6.0)
            return echo(request)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            for _ in range(3):
                simulated.advance(7.0)
                simulated.send(sock, get())
                simulated.advance(6.0)
                assert len(read_answers(sock.delivered())) == 1
            simulated.advance(7.9)
            assert not sock.closed
            simulated.advance(0.2)
            assert sock.closed
            assert counted(simulated) == {"idle": 1}

    def test_an_answer_may_take_longer(self) -> None:
        timeouts = http.Timeouts(idle=2.0, response_generation=7.0)
        with Simulated(stuck, timeouts=timeouts) as simulated:
            sock = simulated.connect()
            simulated.advance(1.0)
            for _ in range(2):
                simulated.send(sock, get())
                simulated.advance(6.9)
                assert sock.delivered() == b""
                simulated.advance(0.2)
                assert [answer.status for answer in read_answers(sock.delivered())] == [503]
            simulated.advance(1.7)
            assert not sock.closed
            simulated.advance(0.3)
            assert sock.closed
            assert counted(simulated) == {"idle": 1, "response_generation": 2}


class TestHeadReceiving:
    def test_slowloris(self) -> None:
        """From the first byte to the last, however steadily it drips."""
        with Simulated(echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.advance(3)
            for byte in get(lines="X: yyyyyyyyyyyyyyyyyyyyyyyyy\r\n")[:-2]:
                if sock.ended_here:
                    break
                simulated.send(sock, bytes([byte]))
                simulated.advance(0.2)
            (answer,) = read_answers(sock.delivered())
            assert (answer.status, answer.headers.get("connection")) == (408, "close")
            assert counted(simulated) == {"head_receiving": 1}

    def test_the_next_head_has_its_own(self) -> None:
        with Simulated(echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            for _ in range(3):
                simulated.send(sock, get()[:5])
                simulated.advance(4.9)
                assert len(simulated.ask(sock, get()[5:])) == 1
            assert counted(simulated) == {}


class TestBodyReceiving:
    def test_drip(self) -> None:
        """1,000 bytes a second must be kept up after the first 6 seconds."""
        with Simulated(echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, POST)
            seconds = 0
            while not sock.ended_here and seconds < 100:
                simulated.send(sock, b"x" * 10)
                simulated.advance(1)
                seconds += 1
            (answer,) = read_answers(sock.delivered())
            assert (answer.status, seconds) == (408, 7)
            assert counted(simulated) == {"body_receiving": 1}

    def test_a_steady_upload_may_take_long(self) -> None:
        with Simulated(echo, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, POST)
            for _ in range(10):
                simulated.advance(1.4)
                simulated.send(sock, b"x" * 1000)
            assert [answer.status for answer in read_answers(sock.delivered())] == [200]

    def test_while_the_handler_holds_the_body_the_clients_time_stands_still(self) -> None:
        go: Reply[None] = Reply()

        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            await go
            return http.Response(200, body=b"%d" % len([piece async for piece in request.stream]))

        timeouts = http.Timeouts(body_receiving=6, response_generation=100)
        with Simulated(handler, timeouts=timeouts) as simulated:
            sock = simulated.connect()
            simulated.send(sock, upload(300_001)[:-1])
            simulated.advance(1)
            simulated.advance(50)
            go.settle(None)
            simulated.settle()
            simulated.advance(4)
            simulated.send(sock, b"x")
            assert [answer.status for answer in read_answers(sock.delivered())] == [200]

    def test_a_handler_that_never_takes_the_body(self) -> None:
        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            return await stuck(request)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, upload(900_001)[:-1])
            simulated.advance(7.1)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503]
            assert counted(simulated) == {"response_generation": 1}

    def test_after_the_answer_has_begun_it_is_a_reset(self) -> None:
        @http.streaming
        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, request.stream)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, POST + b"abc")
            simulated.advance(6.1)
            assert sock.closed
            assert counted(simulated) == {"body_receiving": 1}


class TestResponseGeneration:
    def test_503_and_the_connection_goes_on(self) -> None:
        ended: list[str] = []

        async def handler(request: http.Request) -> http.Response:
            if request.target == "/quick":
                return echo(request)
            try:
                await sleep(1000)
            finally:
                ended.append("finally")
            return echo(request)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, get() + get("/quick"))
            simulated.advance(6.9)
            assert sock.delivered() == b""
            simulated.advance(0.2)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503, 200]
            assert ended == ["finally"]
            assert counted(simulated) == {"response_generation": 1}
            assert not sock.closed

    def test_counts_from_the_complete_request(self) -> None:
        with Simulated(stuck, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
            simulated.advance(5)
            simulated.send(sock, b"x")
            simulated.advance(6.9)
            assert sock.delivered() == b""
            simulated.advance(0.2)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503]

    def test_a_begun_answer_may_take_its_time(self) -> None:
        channel: Channel[bytes] = Channel()

        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, channel)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, get())
            simulated.advance(1000)
            channel.put(b"x")
            channel.close()
            simulated.settle()
            assert [answer.body for answer in read_answers(sock.delivered())] == [b"x"]

    def test_a_handlers_own_deadline(self) -> None:
        async def handler(request: http.Request) -> http.Response:
            await sleep(2)
            return echo(request)

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, get())
            simulated.advance(1.9)
            assert sock.delivered() == b""
            simulated.advance(0.2)
            assert [answer.status for answer in read_answers(sock.delivered())] == [200]


class TestResponseSending:
    @staticmethod
    def large(request: http.Request) -> Any:
        if request.path == "/whole":
            return http.Response(200, body=b"x" * 3_000_000)
        channel: Channel[bytes] = Channel(4 << 20, weigh=len)
        for _ in range(30):
            channel.put(b"x" * 100_000)
        channel.close()
        return http.StreamingResponse(200, {}, channel)

    @pytest.mark.parametrize("lines", ["", "Connection: close\r\n"])
    @pytest.mark.parametrize("target", ["/whole", "/streamed"])
    def test_who_takes_nothing(self, target: str, lines: str) -> None:
        with Simulated(self.large, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=1000)
            simulated.send(sock, get(target, lines))
            simulated.advance(8.9)
            assert not sock.closed
            simulated.advance(0.2)
            assert sock.closed
            assert counted(simulated) == {"response_sending": 1}

    @pytest.mark.parametrize("lines", ["", "Connection: close\r\n"])
    @pytest.mark.parametrize("target", ["/whole", "/streamed"])
    def test_who_takes_some_is_not_cut_off(self, target: str, lines: str) -> None:
        """However long it takes in all."""
        with Simulated(self.large, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=1000)
            simulated.send(sock, get(target, lines))
            taken = sock.delivered()
            while any(stream.unsent for stream in simulated.streams()):
                simulated.advance(8)
                assert not sock.closed
                sock.room = 10_100
                simulated.settle()
                taken += sock.delivered()
            answers = read_answers(taken, ended=True)
            assert [(answer.status, len(answer.body), answer.complete) for answer in answers] == [
                (200, 3_000_000, True)
            ]
            assert sock.closed is bool(lines)
            assert counted(simulated) == {}

    @pytest.mark.parametrize("target", ["/whole", "/streamed"])
    def test_who_takes_too_little_in_all(self, target: str) -> None:
        with Simulated(self.large, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=1000)
            simulated.send(sock, get(target))
            (stream,) = simulated.streams()
            for _ in range(int((9 + stream.unsent / 1000) / 4)):
                sock.room = 10
                simulated.advance(4)
                assert not sock.closed
            simulated.advance(4)
            assert sock.closed
            assert counted(simulated) == {"response_sending": 1}

    def test_a_small_answer_is_left_to_the_system_and_may_be_taken_slowly(self) -> None:
        with Simulated(
            lambda request: http.Response(200, body=b"x" * 50_000), timeouts=TIMEOUTS
        ) as simulated:
            slow, stuck = simulated.connect(room=1000), simulated.connect(room=1000)
            for sock in (slow, stuck):
                simulated.send(sock, get())
            for _ in range(4):
                slow.room = 5_000
                simulated.advance(7)
            assert not slow.closed
            assert stuck.closed
            assert counted(simulated) == {"response_sending": 1}

    def test_a_body_is_shared_by_all_who_are_sent_it(self) -> None:
        body = b"x" * 3_000_000
        with Simulated(lambda request: http.Response(200, body=body)) as simulated:
            for room in (0, 1000, 5000):
                simulated.send(simulated.connect(room=room), get())
            pieces = [(stream.output or [b""])[-1] for stream in simulated.streams()]
            assert [piece.obj if isinstance(piece, memoryview) else piece for piece in pieces] == [body] * 3
            assert all(piece is body or getattr(piece, "obj", None) is body for piece in pieces)

    def test_what_wakes_the_handler_does_not_put_it_off(self) -> None:
        """A flow that sleeps beside a client that does not read: its deadlines are told apart."""
        channel: Channel[bytes] = Channel(2 << 20, weigh=len)

        class Ticking(http.Responder):
            deadline = 0.0
            ticks = 0

            def begin(self, exchange: Any) -> None:
                exchange.send_head(200, b"", -1)
                exchange.send(b"x" * 1_100_000)
                self.timeout(exchange)

            def timeout(self, exchange: Any) -> None:
                self.ticks += 1
                self.deadline = exchange.scope.now + 3

        responder = Ticking()
        with Simulated(lambda request: responder, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=0)
            simulated.send(sock, get())
            simulated.advance(4)
            simulated.advance(4)
            assert not sock.closed
            assert responder.ticks > 2
            simulated.advance(4)
            assert sock.closed
            assert counted(simulated) == {"response_sending": 1}
        assert channel.writable

    def test_room_is_told_once_it_has_drained(self) -> None:
        """Between the watermarks, pieces of the request's body come; the wait for room is not forgotten."""
        calls: list[str] = []

        class Both(http.Responder):
            def begin(self, exchange: Any) -> None:
                exchange.send_head(200, b"", -1)
                exchange.send(b"x" * 1_100_000)

            def body(self, exchange: Any, pieces: list[bytes]) -> None:
                calls.append("body")

            def writable(self, exchange: Any) -> None:
                calls.append("writable")
                exchange.finish()

        handler = http.streaming(lambda request: Both())
        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=500_000)
            simulated.send(sock, POST + b"x")
            simulated.send(sock, b"x")
            assert calls == ["body", "body"]
            sock.room = None
            simulated.settle()
            assert calls == ["body", "body", "writable"]
            assert sock.delivered().endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize("flow", [False, True])
    def test_a_streamed_answer_goes_on_when_there_is_room(self, flow: bool) -> None:
        channel: Channel[bytes] = Channel(4 << 20, weigh=len)
        for _ in range(40):
            channel.put(b"x" * 100_000)
        channel.close()

        def handler(request: http.Request) -> Any:
            response = http.StreamingResponse(200, {}, channel, 4_000_000)
            return later(response) if flow else response

        async def later(response: http.StreamingResponse) -> http.StreamingResponse:
            return response

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect(room=0)
            simulated.send(sock, get())
            taken = 0
            while taken < 4_000_000 and not sock.closed:
                sock.room = 500_000
                simulated.settle()
                taken += len(sock.delivered())
                simulated.advance(1)
            assert not sock.closed
            assert counted(simulated) == {}


class TestPerRoute:
    @pytest.mark.parametrize("kind", ["constant", "function"])
    def test_generation_and_sending(self, kind: str) -> None:
        quick = http.Timeouts(response_generation=1.0, response_sending=2.0, body_rate_min=1e9)

        def choose(request: http.Request) -> http.Timeouts:
            return quick if "q" in request.target else TIMEOUTS

        timeouts = quick if kind == "constant" else choose
        router = http.Router()
        router.add("GET", "/q", stuck, timeouts=timeouts)
        router.add("GET", "/qbig", lambda request: http.Response(200, body=b"x" * 100_000), timeouts=timeouts)
        with Simulated(router, timeouts=TIMEOUTS) as simulated:
            sock, slow = simulated.connect(), simulated.connect(room=0)
            simulated.send(sock, get("/q"))
            simulated.send(slow, get("/qbig"))
            simulated.advance(1.1)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503]
            assert not slow.closed
            simulated.advance(1)
            assert slow.closed
            assert counted(simulated) == {"response_generation": 1, "response_sending": 1}

    def test_body_and_a_single_handler(self) -> None:
        route = http.Route(echo, http.Timeouts(body_receiving=1.0))
        with Simulated(route, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, POST)
            simulated.advance(1.1)
            assert [answer.status for answer in read_answers(sock.delivered())] == [408]

    @pytest.mark.parametrize("timeouts", [lambda request: 1 / 0, lambda request: 5.0])
    def test_a_function_that_fails_leaves_the_servers(self, timeouts: Any) -> None:
        with Simulated(http.Route(stuck, timeouts), timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, get())
            assert simulated.server.statistics().failed == 1
            simulated.advance(7.1)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503]


def test_the_documented_table_is_the_code() -> None:
    """Every class and its default is in the docs' table."""
    text = (Path(__file__).parents[3] / "docs" / "server.md").read_text()
    for name in http.Timeouts.__struct_fields__:
        assert f"| `{name}` | {getattr(http.Timeouts(), name):g} |" in text


class TestWrongHandlers:
    async def raises_in_a_flow(request: http.Request) -> http.Response:  # noqa: N805
        raise KeyError("x")

    @pytest.mark.parametrize(
        "handler",
        [
            lambda request: 1 / 0,
            raises_in_a_flow,
            lambda request: None,
            lambda request: "text",
            lambda request: http.Response,
            lambda request: http.Response(102),
            lambda request: http.Response(1000),
            lambda request: http.Response(200, body="text"),
        ],
    )
    def test_500_and_the_connection_goes_on(self, handler: Any) -> None:
        with Simulated(handler) as simulated:
            sock = simulated.connect()
            answers = simulated.ask(sock, get() * 2)
            expected = (500, b"internal server error\n")
            assert [(answer.status, answer.body) for answer in answers] == [expected] * 2
            assert simulated.server.statistics().failed == 2
            assert [line[:2] for line in simulated.log.lines[1:]] == [("error", "handler failed")] * 2
            assert not sock.closed

    @pytest.mark.parametrize("flow", [False, True])
    @pytest.mark.parametrize(
        ("data", "status", "said"),
        [
            (get("/?" + "&".join(["a=1"] * 1001)), 400, b"the query has more than 1000 fields\n"),
            (get("/json") + b"{bad", 400, b"JSON is malformed"),
            (get("/text") + b"\xff\xff\xff\xff", 400, b"the body is not text"),
            (get("/own"), 422, b"no such colour\n"),
        ],
    )
    def test_what_the_client_did_wrong_is_no_failure(
        self, flow: bool, data: bytes, status: int, said: bytes
    ) -> None:
        def handler(request: http.Request) -> http.Response:
            if request.path == "/own":
                raise http.BadRequest("no such colour", 422)
            read = {"/json": request.json, "/text": request.text}.get(request.path)
            return http.json_response(request.query if read is None else read())

        async def handler_flow(request: http.Request) -> http.Response:
            await sleep(0)
            return handler(request)

        if not data.endswith(b"\r\n"):
            data = data.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n")
        with Simulated(handler_flow if flow else handler) as simulated:
            sock = simulated.connect()
            for _ in range(2):
                (answer,) = simulated.ask(sock, data)
                assert (answer.status, answer.body.startswith(said)) == (status, True)
            assert not sock.closed
            assert simulated.log.lines[1:] == []
            statistics = simulated.server.statistics()
            assert (statistics.refused, statistics.failed) == (2, 0)

    def test_a_flow_that_awaits_nonsense(self) -> None:
        class Nonsense:
            def __await__(self) -> Any:
                yield 7

        async def handler(request: http.Request) -> http.Response:
            await Nonsense()
            return http.Response()

        with Simulated(handler) as simulated:
            assert [answer.status for answer in simulated.ask(simulated.connect(), get())] == [500]

    def test_clean_up_that_fails_is_only_logged(self) -> None:
        async def handler(request: http.Request) -> http.Response:
            try:
                await sleep(1000)
            finally:
                raise KeyError("in finally")

        with Simulated(handler, timeouts=TIMEOUTS) as simulated:
            sock = simulated.connect()
            simulated.send(sock, get())
            simulated.advance(7.1)
            assert [answer.status for answer in read_answers(sock.delivered())] == [503]
            assert simulated.server.statistics().failed == 1

    def test_not_callable(self) -> None:
        with pytest.raises(TypeError, match="a handler is a function"):
            http.server("127.0.0.1:0", "handler")  # type: ignore[arg-type]
