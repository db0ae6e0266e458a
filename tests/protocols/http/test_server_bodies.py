"""Bodies both ways: gathered and streamed, framing by method, status and version, 100-continue,
back-pressure."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Channel, ChannelClosed, Reply, gather, sleep
from protocols import http
from protocols.http.codec.headers import Headers
from tests.protocols.http.harness import Answer, Client, Served, get

MEBIBYTE = 1 << 20


def post(body: bytes, lines: str = "", *, chunk: int = 0, minor: int = 1) -> bytes:
    """A request with a body; in chunks of `chunk` bytes if that is given."""
    head = f"POST / HTTP/1.{minor}\r\nHost: a\r\n{lines}"
    if not chunk:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    return (
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        + b"0\r\nX-Sum: 7\r\n\r\n"
    )


def echo(request: http.Request) -> http.Response:
    return http.Response(200, {"X-Sum": request.trailers.get("x-sum", "none") or ""}, request.body)


async def echo_flow(request: http.Request) -> http.Response:
    return echo(request)


class TestGathered:
    @pytest.mark.parametrize("handler", [echo, echo_flow])
    @pytest.mark.parametrize("chunk", [0, 1, 7, 5000])
    @pytest.mark.parametrize("size", [1, 1000, 300_000])
    def test_body(self, handler: Any, chunk: int, size: int) -> None:
        if size // (chunk or size) > 10_000:
            chunk = 100
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        with Served(handler) as served:
            client = served.connect()
            answers = client.send(post(body, chunk=chunk) * 2).answers(2)
        assert [answer.body for answer in answers] == [body, body]
        assert answers[0].headers.get("x-sum") == ("7" if chunk else "none")

    def test_bytewise(self) -> None:
        with Served(echo) as served:
            client = served.connect().send_bytewise(post(b"abc", chunk=2) + post(b"def"))
            assert [answer.body for answer in client.answers(2)] == [b"abc", b"def"]

    @pytest.mark.parametrize("chunk", [0, 100])
    def test_too_large(self, chunk: int) -> None:
        with Served(echo, limits=http.Limits(body_bytes=1000)) as served:
            client = served.connect()
            answers = client.send(
                post(b"x" * 1000, chunk=chunk) + post(b"x" * 1001, chunk=chunk)
            ).to_the_end()
            assert [answer.status for answer in answers] == [200, 413]
            assert (client.closed, served.server.statistics().refused) == ("fin", 1)

    def test_no_limit(self) -> None:
        with Served(echo, limits=http.Limits(body_bytes=None)) as served:
            assert len(served.ask(post(b"x" * 2 * MEBIBYTE)).body) == 2 * MEBIBYTE


class TestExpectContinue:
    LINES = "Expect: 100-continue\r\n"

    def ask(self, served: Served, body: bytes = b"abc") -> Client:
        return served.connect().send(post(body, self.LINES)[: -len(body)])

    def test_gathered(self) -> None:
        with Served(echo) as served:
            client = self.ask(served)
            client.until(lambda: client.received)
            assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
            interim, answer = client.send(b"abc").answers(1)
            assert (interim.status, answer.status, answer.body) == (100, 200, b"abc")

    def test_a_body_that_is_there_needs_no_100(self) -> None:
        with Served(echo) as served:
            client = served.connect().send(post(b"abc", self.LINES))
            assert [answer.status for answer in client.answers(1)] == [200]

    def test_too_large_is_said_before_the_body(self) -> None:
        with Served(echo, limits=http.Limits(body_bytes=10)) as served:
            assert [a.status for a in self.ask(served, b"x" * 11).to_the_end()] == [413]

    def test_http_10_gets_none(self) -> None:
        with Served(echo) as served:
            data = post(b"abc", self.LINES, minor=0)
            client = served.connect().send(data[:-3])
            client.send(b"abc")
            assert [answer.status for answer in client.to_the_end()] == [200]

    def test_a_streaming_handler_that_reads(self) -> None:
        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            return http.Response(200, body=b"".join([piece async for piece in request.stream]))

        with Served(handler) as served:
            client = self.ask(served)
            client.until(lambda: client.received)
            assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert client.send(b"abc").answer().body == b"abc"
            assert client.closed is None

    def test_a_streaming_handler_that_refuses(self) -> None:
        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            await sleep(0)
            return http.text_response("no\n", 403)

        with Served(handler) as served:
            (answer,) = self.ask(served).to_the_end()
            assert (answer.status, answer.headers.get("connection")) == (403, "close")


class TestFraming:
    @pytest.mark.parametrize("flow", [False, True])
    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 304)])
    def test_no_body(self, flow: bool, method: str, status: int) -> None:
        def handler(request: http.Request) -> Any:
            response = http.Response(status, body=b"Hello")
            return later(response) if flow else response

        async def later(response: http.Response) -> http.Response:
            return response

        with Served(handler) as served:
            client = served.connect().send(get(method=method) * 2)
            answers = client.answers(2, f"{method} {method}")
        assert [(a.status, a.body) for a in answers] == [(status, b"")] * 2
        assert answers[0].headers.get("content-length") == ("5" if status == 200 else None)
        assert client.received.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    @pytest.mark.parametrize("length", [None, 5])
    def test_no_body_streamed(self, method: str, status: int, length: int | None) -> None:
        """What the channel holds goes nowhere, and the connection goes on."""

        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(status, {}, full_channel(b"He", b"llo"), length)

        with Served(handler) as served:
            client = served.connect().send(get(method=method) * 2)
            answers = client.answers(2, f"{method} {method}")
            assert [(a.status, a.body) for a in answers] == [(status, b"")] * 2
            assert client.closed is None

    def test_trailers(self) -> None:
        def handler(request: http.Request) -> http.Response:
            return http.Response(200, body=b"Hello", trailers=Headers({"X-Sum": "7"}))

        with Served(handler) as served:
            answer = served.ask(get())
            assert (answer.body, answer.trailers.get("x-sum")) == (b"Hello", "7")
            answer = served.ask(get(minor=0))
            assert (answer.body, answer.headers.get("content-length"), len(answer.trailers)) == (
                b"Hello",
                "5",
                0,
            )

    def test_trailers_that_may_not_be(self) -> None:
        def handler(request: http.Request) -> http.Response:
            return http.Response(200, trailers=Headers({"Content-Length": "7"}))

        async def flow(request: http.Request) -> http.Response:
            return handler(request)

        for either in (handler, flow):
            with Served(either) as served:
                answers = served.connect().send(get() * 2).answers(2)
                assert [answer.status for answer in answers] == [500, 500]

    @pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b", "a\rb"])
    def test_headers_cannot_be_injected(self, value: str) -> None:
        def handler(request: http.Request) -> http.Response:
            return http.Response(200, {"Location": value})

        with Served(handler) as served:
            answer = served.ask(get())
            assert (answer.status, "x" in answer.headers) == (500, False)

    def test_framing_and_date_of_a_handler_are_not_sent(self) -> None:
        def handler(request: http.Request) -> http.Response:
            fields = {"Date": "x", "Content-Length": "99", "Connection": "X-Hop", "X-Hop": "1", "A": "b"}
            return http.Response(200, fields, b"abc")

        with Served(handler) as served:
            answer = served.ask(get())
        assert answer.headers.get_all("content-length") == ["3"]
        assert len(answer.headers.get_all("date")) == 1
        assert (answer.headers.get("a"), "x-hop" in answer.headers) == ("b", False)


def full_channel(*pieces: bytes, close: bool = True) -> Channel[bytes]:
    channel: Channel[bytes] = Channel(16)
    for piece in pieces:
        channel.put(piece)
    if close:
        channel.close()
    return channel


class TestStreamingResponse:
    @pytest.mark.parametrize("length", [None, 5])
    @pytest.mark.parametrize("flow", [False, True])
    def test_body(self, length: int | None, flow: bool) -> None:
        def handler(request: http.Request) -> Any:
            trailers = Headers({"X-Sum": "7"})
            response = http.StreamingResponse(
                200, {"A": "b"}, full_channel(b"He", b"", b"llo"), length, trailers
            )
            return later(response) if flow else response

        async def later(response: http.StreamingResponse) -> http.StreamingResponse:
            await sleep(0)
            return response

        with Served(handler) as served:
            client = served.connect().send(get() * 2)
            answers = client.answers(2)
        assert [(a.body, a.headers.get("a")) for a in answers] == [(b"Hello", "b")] * 2
        assert answers[0].trailers.get("x-sum") == ("7" if length is None else None)
        chunked = "chunked" if length is None else None
        assert answers[0].headers.get("transfer-encoding") == chunked

    def test_http_10_gets_it_until_the_close(self) -> None:
        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, full_channel(b"He", b"llo"))

        with Served(handler) as served:
            client = served.connect().send(get(minor=0, lines="Connection: keep-alive\r\n"))
            (answer,) = client.to_the_end()
        assert (answer.body, answer.complete, answer.headers.get("connection")) == (b"Hello", True, "close")
        assert "transfer-encoding" not in answer.headers

    @pytest.mark.parametrize("minor", [0, 1])
    @pytest.mark.parametrize("length", [None, 50])
    def test_an_error_resets(self, minor: int, length: int | None) -> None:
        """Whatever the framing, a truncated body does not look like a whole one."""
        channel = full_channel(b"Hello", close=False)

        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, channel, length)

        with Served(handler) as served:
            client = served.connect().send(get(minor=minor))
            client.until(lambda: b"Hello" in client.received)
            channel.close(RuntimeError("the source has failed"))
            client.until(lambda: client.closed is not None)
            assert client.closed == "reset"

    @pytest.mark.parametrize("pieces", [[b"He"], [b"Hello", b"!"], [b"Hello!"]])
    def test_a_body_that_is_not_as_long_as_announced_resets(self, pieces: list[bytes]) -> None:
        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, full_channel(*pieces), 5)

        with Served(handler) as served:
            client = served.connect().send(get() * 2)
            client.until(lambda: client.closed is not None)
            assert client.closed == "reset"
            assert client.received.count(b"HTTP/1.1") <= 1
            assert served.server.statistics().failed == 1

    def test_what_is_no_bytes_resets(self) -> None:
        channel: Channel[Any] = Channel(2)
        channel.put("text")

        with Served(lambda request: http.StreamingResponse(200, {}, channel)) as served:
            client = served.connect().send(get())
            client.until(lambda: client.closed is not None)
            with pytest.raises(ChannelClosed):
                channel.put("more")

    @pytest.mark.parametrize(("status", "length"), [(101, None), (1000, None), (200, -1)])
    def test_nonsense(self, status: int, length: int | None) -> None:
        with pytest.raises(ValueError):
            http.StreamingResponse(status, {}, full_channel(), length)

    def test_a_client_that_goes_cancels_the_channel(self) -> None:
        channel = full_channel(b"x", close=False)

        with Served(lambda request: http.StreamingResponse(200, {}, channel)) as served:
            client = served.connect().send(get())
            client.until(lambda: client.received)
            client.close()

            def noticed() -> bool:
                try:
                    channel.put(b"more")
                except ChannelClosed:
                    return True
                return False

            served.until(noticed)
            served.until(lambda: not served.server.connections)
            assert channel.ended

    def test_64_mebibytes_to_a_slow_reader(self) -> None:
        """No more than the watermark and the channel hold is ever in memory."""
        piece = b"x" * 65536
        count = 1024
        peak = 0

        async def produce(channel: Channel[bytes]) -> None:
            nonlocal peak
            for _ in range(count):
                await channel.send(piece)
                peak = max(peak, sum(stream.unsent for stream in served.streams()))
            channel.close()

        def handler(request: http.Request) -> http.StreamingResponse:
            channel: Channel[bytes] = Channel(1 << 18, weigh=len)
            served.loop.spawn(produce(channel))
            return http.StreamingResponse(200, {}, channel, count * len(piece))

        with Served(handler) as served:
            client = served.connect().send(get())
            served.until(lambda: any(stream.unsent >= MEBIBYTE // 4 for stream in served.streams()))
            for _ in range(100):
                served.loop.tick(0)  # it waits for the client
            total = 0

            def all_taken() -> bool:
                nonlocal total
                client.pull()
                total += len(client.received)
                client.received = b""
                return total >= count * len(piece)

            served.until(all_taken)
        assert MEBIBYTE < peak < 2 * MEBIBYTE


class TestStreamingRequest:
    def test_whatever_has_come_with_the_head(self) -> None:
        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            body = b"".join([piece async for piece in request.stream])
            return http.Response(200, {"X-Sum": request.trailers.get("x-sum") or "none"}, body)

        with Served(handler) as served:
            client = served.connect().send(post(b"abc") + post(b"defg", chunk=2) + get())
            answers = client.answers(3)
            assert [answer.body for answer in answers] == [b"abc", b"defg", b""]
            assert [answer.headers.get("x-sum") for answer in answers] == ["none", "7", "none"]
            client.received = b""
            client.send_bytewise(post(b"defg", chunk=2))
            assert client.answer().body == b"defg"

    def test_back_pressure(self) -> None:
        """64 MiB to a handler that reads only when told: little is held, and nothing is lost."""
        go: Reply[None] = Reply()
        total = 16 * MEBIBYTE
        peak = 0

        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            nonlocal peak
            size = 0
            await go
            async for piece in request.stream:
                size += len(piece)
                held = sum(len(stream.input) for stream in served.streams())
                peak = max(peak, request.stream.weight + held)
            return http.Response(200, body=b"%d" % size)

        with Served(handler) as served:
            client = served.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
            client.push(b"x" * total)
            for _ in range(300):
                client.pump()
                served.loop.tick(0)
            assert client.unsent > total // 2
            go.settle(None)
            served.until(lambda: client.pump() == 0)
            assert client.answer().body == b"%d" % total
        assert peak < MEBIBYTE

    def test_echo_while_it_comes(self) -> None:
        """The answer begins before the request has ended."""

        @http.streaming
        def handler(request: http.Request) -> http.StreamingResponse:
            return http.StreamingResponse(200, {}, request.stream)

        with Served(handler) as served:
            client = served.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            client.until(lambda: b"abc" in client.received)
            client.send(b"def")
            (answer,) = client.to_the_end()
            assert (answer.body, answer.complete) == (b"abcdef", True)

    def test_an_answer_before_the_body_closes(self) -> None:
        """The client sees it all the same, whatever it is sending."""

        @http.streaming
        def refuse(request: http.Request) -> http.Response:
            return http.text_response("no\n", 403)

        @http.streaming
        async def refuse_later(request: http.Request) -> http.Response:
            return refuse(request)

        for handler in (refuse, refuse_later):
            with Served(handler) as served:
                client = served.connect()
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 400_000)
                (answer,) = client.to_the_end()
                assert (answer.status, answer.headers.get("connection")) == (403, "close")
                assert client.closed == "fin"

    def test_a_reader_that_cancels_lets_the_rest_pass(self) -> None:
        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            first = await request.stream.receive()
            request.stream.cancel()
            await sleep(0.001)
            return http.Response(200, body=first[:3])

        with Served(handler) as served:
            client = served.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nabc")
            client.send(b"x" * 899_997)
            assert client.answer().body == b"abc"

    def test_bad_chunks_end_the_stream(self) -> None:
        seen: list[object] = []

        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            try:
                async for piece in request.stream:
                    seen.append(piece)  # noqa: PERF401  # as they come
            finally:
                seen.append("finally")
            return http.Response()

        with Served(handler) as served:
            data = post(b"abc", chunk=3).replace(b"0\r\n", b"zz\r\n")
            client = served.connect().send(data[:-18])
            served.until(lambda: seen)
            client.send(data[-18:])
            (answer,) = client.to_the_end()
            assert (answer.status, seen) == (400, [b"abc", "finally"])

    def test_a_client_that_goes(self) -> None:
        errors: list[BaseException] = []

        async def read(stream: Channel[bytes]) -> None:
            try:
                async for _ in stream:
                    pass
            except ConnectionError as error:
                errors.append(error)

        @http.streaming
        async def handler(request: http.Request) -> http.Response:
            served.loop.spawn(read(request.stream))
            await sleep(60)
            return http.Response()

        with Served(handler) as served:
            client = served.connect().send(post(b"abc")[:-1])
            served.until(lambda: served.server.statistics().requests)
            client.close()
            served.until(lambda: errors)
            assert [str(error) for error in errors] == ["the client has gone"]


def test_flows_compose() -> None:
    async def part(number: int) -> int:
        await sleep(0.001)
        return number

    async def handler(request: http.Request) -> http.Response:
        one, two = await gather(served.loop.spawn(part(1)), served.loop.spawn(part(2)))
        return http.json_response(one + two)

    with Served(handler) as served:
        answers: list[Answer] = served.connect().send(get() * 3).answers(3)
    assert [answer.body for answer in answers] == [b"3"] * 3


def test_a_reply_is_an_answer() -> None:
    """A plain function may return what is to be awaited."""
    reply: Reply[http.Response] = Reply()

    with Served(lambda request: reply) as served:
        client = served.connect().send(get())
        served.until(lambda: reply.awaited)
        reply.settle(http.text_response("later"))
        assert client.answer().body == b"later"
