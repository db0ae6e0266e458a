"""The server by real sockets: requests in, answers out, in order; bad input; connections and their ends."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import Channel, Reply, Stream, sleep
from actors.simulation import turned
from protocols import http
from protocols.http.server.connection import ServerConnection
from tests.protocols.http.bad_requests import BAD_REQUESTS
from tests.protocols.http.harness import Client, Served, Simulated, get, read_answers


def echo(request: http.Request) -> http.Response:
    """Method, target and body."""
    text = f"{request.method} {request.target} ".encode()
    return http.Response(200, {"Content-Type": "text/plain"}, text + request.body)


async def echo_flow(request: http.Request) -> http.Response:
    if "slow" in request.target:
        await sleep(0.001)
    return echo(request)


def mixed(request: http.Request) -> Any:
    return echo(request) if "sync" in request.target else echo_flow(request)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served(echo) as served:
        yield served


class TestBadRequests:
    @pytest.mark.parametrize(("name", "data", "status"), BAD_REQUESTS, ids=[row[0] for row in BAD_REQUESTS])
    @pytest.mark.parametrize("bytewise", [False, True])
    def test_refused_and_closed(
        self, served: Served, name: str, data: bytes, status: int, bytewise: bool
    ) -> None:
        client = served.connect()
        refused = served.server.statistics().refused
        if bytewise and len(data) > 1000:
            client.send(data[:-300]).send_bytewise(data[-300:])
        elif bytewise:
            client.send_bytewise(data)
        else:
            client.send(data)
        (answer,) = client.to_the_end()
        assert (answer.status, answer.complete, client.closed) == (status, True, "fin")
        assert answer.headers.get("connection") == "close"
        assert answer.headers.get("date") is not None
        assert served.server.statistics().refused == refused + 1
        client.close()

    def test_the_answer_survives_what_is_still_sent(self, served: Served) -> None:
        """Closing with unread input would reset the connection, and the client could lose the answer."""
        client = served.connect()
        client.send(b"GET /\x00 HTTP/1.1\r\n" + b"x" * 300_000)
        (answer,) = client.to_the_end()
        assert (answer.status, client.closed) == (400, "fin")

    def test_what_came_before_is_answered(self, served: Served) -> None:
        client = served.connect().send(get("/1") + get("/2") + b"nonsense\r\n\r\n" + get("/3"))
        first, second, refusal = client.to_the_end()
        assert [first.body, second.body, refusal.status] == [b"GET /1 ", b"GET /2 ", 400]


class TestKeepAlive:
    def test_http_11(self, served: Served) -> None:
        client = served.connect()
        for target in ("/a", "/b", "/a"):
            client.received = b""
            answer = client.send(get(target)).answer()
            assert answer.body == f"GET {target} ".encode()
            assert "connection" not in answer.headers
        assert client.closed is None

    def test_http_11_close(self, served: Served) -> None:
        (answer,) = served.connect().send(get(lines="Connection: close\r\n")).to_the_end()
        assert answer.headers.get("connection") == "close"

    def test_http_10(self, served: Served) -> None:
        (answer,) = served.connect().send(get(minor=0)).to_the_end()
        assert answer.headers.get("connection") == "close"

    def test_http_10_keep_alive(self, served: Served) -> None:
        client = served.connect()
        for _ in range(2):
            client.received = b""
            answer = client.send(get(minor=0, lines="Connection: keep-alive\r\n")).answer()
            assert answer.headers.get("connection") == "keep-alive"
        assert client.closed is None

    @pytest.mark.parametrize("handler", [echo, echo_flow])
    def test_requests_per_connection(self, handler: Any) -> None:
        with Served(handler, requests_per_connection=3) as served:
            answers = served.connect().send(get() * 5).to_the_end()
            assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        with pytest.raises(ValueError, match="1 or more"):
            http.server("127.0.0.1:0", echo, requests_per_connection=0)

    def test_blank_lines_between_requests(self, served: Served) -> None:
        assert len(served.connect().send(get() + b"\r\n" + get()).answers(2)) == 2

    def test_a_head_in_pieces(self, served: Served) -> None:
        client = served.connect()
        for _ in range(2):
            client.send_bytewise(get("/pieces", "X: y\r\n"))
        assert [answer.body for answer in client.answers(2)] == [b"GET /pieces "] * 2

    def test_a_head_larger_than_one_read(self) -> None:
        with Served(echo, limits=http.Limits(head_bytes=200_000)) as served:
            data = get(lines=f"X: {'x' * 150_000}\r\n")
            assert served.ask(data).status == 200
            assert served.ask(get(lines=f"X: {'x' * 250_000}\r\n")).status == 431

    def test_connections_at_the_cap_wait(self) -> None:
        with Served(echo, connections=1) as served:
            first = served.connect()
            first.send(get()).answer()
            second = served.connect()
            second.send(get())
            assert second.received == b""
            first.close()
            assert second.answer().status == 200
            assert served.server.statistics().connections == 1


class TestPipelining:
    @pytest.mark.parametrize("handler", [echo, echo_flow, mixed])
    def test_in_order(self, handler: Any) -> None:
        targets = [f"/{index}{('sync', 'slow', '')[index % 3]}" for index in range(30)]
        with Served(handler) as served:
            answers = served.connect().send(b"".join(get(target) for target in targets)).answers(30)
        assert [answer.body for answer in answers] == [f"GET {target} ".encode() for target in targets]

    def test_flows_that_end_at_once_do_not_pile_up(self) -> None:
        """Each would be a few frames deeper in the stack, if the next began inside the end of the one
        before."""
        with Served(echo_flow) as served:
            assert len(served.connect().send(get() * 2000).answers(2000)) == 2000

    def test_bodies_and_flows(self) -> None:
        def post(number: int) -> bytes:
            body = b"x" * number
            return b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (number, number, body)

        with Served(mixed) as served:
            sent = b"".join(post(number) + get("/sync") for number in range(1, 20))
            answers = served.connect().send(sent).answers(38)
        assert [len(answer.body) for answer in answers[::2]] == [
            len(f"POST /{number} ") + number for number in range(1, 20)
        ]

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_client_that_does_not_read(self, asynchronous: bool) -> None:
        """Memory is bounded: reading pauses, no more is answered; it goes on when the client reads."""
        body = b"x" * 10_000
        peak = 0

        def handler(request: http.Request) -> Any:
            nonlocal peak
            (stream,) = [s for s in served.streams() if s.protocol.__class__.__name__ == "ServerConnection"]
            peak = max(peak, stream.unsent + len(stream.input))
            response = http.Response(200, {"X": request.target}, body)
            return later(response) if asynchronous else response

        async def later(response: http.Response) -> http.Response:
            return response

        with Served(handler) as served:
            client = served.connect(buffer=32768)
            client.send(b"".join(get(f"/{number}") for number in range(1000)))
            served.until(lambda: served.server.statistics().requests > 0)
            for _ in range(200):
                served.loop.tick(0)
            assert served.server.statistics().requests < 1000
            client.until(lambda: len(client.received) > 1000 * len(body))  # to parse it once only
            answers = client.answers(1000)
        assert [answer.headers.get("x") for answer in answers] == [f"/{number}" for number in range(1000)]
        assert peak < 400_000

    def test_a_fin_behind_pipelined_requests(self) -> None:
        """`printf … | nc -N`: what was asked before the end is answered."""
        with Served(lambda request: http.Response(200, body=b"x" * 50_000)) as served:
            client = served.connect(buffer=32768)
            client.send(get() * 20)
            client.sock.shutdown(1)
            assert len(client.to_the_end()) == 20
            assert client.closed == "fin"


class TestEnds:
    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_goes_cancels_the_flow(self, reset: bool) -> None:
        reply: Reply[int] = Reply()
        ended: list[str] = []

        async def handler(request: http.Request) -> http.Response:
            try:
                await reply
            finally:
                ended.append("finally")
            return http.Response()

        with Served(handler, half_close=reset) as served:
            client = served.connect().send(get())
            served.until(lambda: reply.awaited)
            if reset:
                client.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            client.close()
            served.until(lambda: ended)
            assert reply.settled
            served.until(lambda: served.server.statistics().connections == 0)
            assert served.server.statistics().failed == 0

    def test_a_client_that_goes_in_the_middle_of_its_body(self) -> None:
        calls: list[http.Request] = []
        with Served(calls.append) as served:
            client = served.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            served.until(lambda: served.server.statistics().connections == 1)
            client.close()
            served.until(lambda: served.server.statistics().connections == 0)
        assert calls == []

    @pytest.mark.parametrize("options", [{}, {"half_close": True}, {"half_close": False}])
    def test_a_fin_while_answering(self, options: dict[str, Any]) -> None:
        """It says that the client sends nothing more, and nothing else."""
        reply: Reply[int] = Reply()

        async def handler(request: http.Request) -> http.Response:
            return http.Response(200, body=str(await reply).encode())

        with Served(handler, **options) as served:
            client = served.connect().send(get() + get())
            served.until(lambda: reply.awaited)
            client.sock.shutdown(1)
            if options.get("half_close", True):
                for _ in range(10):
                    served.loop.tick(0)
                assert reply.settle(7)
                assert [answer.body for answer in client.to_the_end()] == [b"7", b"7"]
            else:
                assert client.to_the_end() == []
                assert reply.settled

    def test_a_client_that_has_gone_after_its_request_is_noticed_when_it_is_answered(self) -> None:
        ended: list[BaseException | None] = []

        class Slow(http.Responder):
            def begin(self, exchange: Any) -> None:
                exchange.send_head(200, b"", -1)
                self.deadline = 0.0

            def timeout(self, exchange: Any) -> None:
                exchange.send(b"x" * 1000)
                self.deadline = exchange.scope.now + 0.001

            def abandoned(self, exchange: Any, error: BaseException | None) -> None:
                ended.append(error)

        with Served(lambda request: Slow()) as served:
            client = served.connect().send(get())
            client.until(lambda: client.received)
            client.close()
            served.until(lambda: ended)
            served.until(lambda: served.server.statistics().connections == 0)
            assert isinstance(ended[0], OSError)

    def test_a_client_that_asks_faster_than_it_is_answered_waits(self) -> None:
        """What it sends ahead is bounded, and all of it is answered in order."""
        one = get("/" + "x" * 500)
        requests = 600

        async def handler(request: http.Request) -> http.Response:
            await sleep(0)
            return http.Response(200, body=str(served.server.statistics().requests).encode())

        with Served(handler) as served:
            client = served.connect()
            client.push(one * requests)
            input_max = 0

            def done() -> bool:
                nonlocal input_max
                client.pump()
                client.pull()
                input_max = max([input_max, *(len(stream.input) for stream in served.streams())])
                return client.received.count(b"HTTP/1.1 200") == requests

            served.until(done)
            assert input_max < 2 * 65536
            assert [answer.body for answer in read_answers(client.received)] == [
                b"%d" % number for number in range(1, requests + 1)
            ]

    def test_a_fin_does_not_complete_a_body(self) -> None:
        with Served(echo) as served:
            client = served.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            client.sock.shutdown(1)
            assert client.to_the_end() == []

    def test_drain(self) -> None:
        """Idle ones close now; who is being answered gets the answer, told that it is the last."""
        reply: Reply[int] = Reply()

        async def handler(request: http.Request) -> http.Response:
            return http.Response(200, body=str(await reply).encode())

        def route(request: http.Request) -> Any:
            return handler(request) if request.target == "/busy" else echo(request)

        with Served(route) as served:
            idle, fresh, busy, partial = (served.connect() for _ in range(4))
            idle.send(get()).answer()
            busy.send(get("/busy"))
            partial.send(get()[:10])
            served.until(lambda: reply.awaited and served.server.statistics().accepted == 4)
            served.loop.drain(30)
            assert len(idle.to_the_end()) == 1
            assert fresh.to_the_end() == []
            assert busy.closed is None
            reply.settle(7)
            (answer,) = busy.to_the_end()
            assert (answer.body, answer.headers.get("connection")) == (b"7", "close")
            (answer,) = partial.send(get()[10:]).to_the_end()
            assert answer.headers.get("connection") == "close"
            served.until(lambda: served.loop.machines == 0)

    def test_drain_lets_a_slow_reader_finish(self) -> None:
        with Served(lambda request: http.Response(200, body=b"x" * 500_000)) as served:
            client = served.connect(buffer=32768).send(get())
            served.until(lambda: served.server.statistics().requests == 1)
            served.loop.drain(30)
            (answer,) = client.to_the_end()
            assert len(answer.body) == 500_000

    def test_drain_in_the_middle_of_a_row(self) -> None:
        """What was answered is sent whole; what waits behind it is not begun any more."""
        with Served(lambda request: http.Response(200, body=b"x" * 5_000_000)) as served:
            client = served.connect(buffer=32768).send(get() * 5)
            served.until(lambda: served.server.statistics().requests == 1)
            served.loop.tick(0)
            served.loop.drain(30)
            served.loop.tick(0)
            (answer,) = client.to_the_end()
            assert (len(answer.body), answer.complete, client.closed) == (5_000_000, True, "fin")

    def test_drain_while_an_answer_streams(self) -> None:
        """Its head has not said that it is the last; the connection is closed all the same."""
        channel: Channel[bytes] = Channel()
        with Served(lambda request: http.StreamingResponse(200, {}, channel)) as served:
            client = served.connect().send(get())
            client.until(lambda: client.received)
            served.loop.drain(30)
            served.loop.tick(0)
            channel.put(b"x")
            channel.close()
            (answer,) = client.to_the_end()
            assert (answer.body, answer.complete, client.closed) == (b"x", True, "fin")

    def test_nothing_is_left_of_connections_and_exchanges(self) -> None:
        """Not even for the collector: all of it goes by reference counts."""

        async def handler(request: http.Request) -> http.Response:
            await sleep(0)
            return echo(request)

        def left(*kinds: type) -> list[object]:
            return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]

        with Served(handler) as served:
            client = served.connect()
            client.send(get()).answer()
            gc.collect()
            gc.disable()
            before = len(left(Stream, ServerConnection))  # those of other tests' servers
            try:
                for _ in range(50):
                    client.received = b""
                    client.send(get() * 20).answers(20)
                    other = served.connect()
                    other.send(get()).answer()
                    other.close()
                    served.clients.remove(other)
                served.until(lambda: served.server.statistics().connections == 1)
                assert left(http.Exchange, http.Request, http.Response, http.Responder) == []
                assert len(left(Stream, ServerConnection)) <= before
            finally:
                gc.enable()


class TestRememberedHeads:
    """Small heads that came before are not parsed again; nothing may tell the difference, nor be kept that
    should not."""

    def ask_often(self, data: bytes) -> tuple[int, list[bytes]]:
        with Served(echo) as served:
            client = served.connect()
            bodies = []
            for _ in range(3):
                client.received = b""
                bodies.append(client.send(data).answer().body)
            return len(served.server.shared.heads), bodies

    def test_kept(self) -> None:
        assert self.ask_often(get("/x", "X: y\r\n")) == (1, [b"GET /x "] * 3)

    @pytest.mark.parametrize(
        "data",
        [
            get(lines="Cookie: a\r\n"),
            get(lines="authorization: a\r\n"),
            get(lines="Proxy-Authorization: a\r\n"),
            get(lines="X-Api-Key: a\r\n"),
            get(lines="x-auth-token: a\r\n"),
            get(lines=f"X: {'x' * 1024}\r\n"),
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        ],
    )
    def test_not_kept(self, data: bytes) -> None:
        assert self.ask_often(data)[0] == 0

    def test_bounded(self) -> None:
        with Served(echo) as served:
            client = served.connect()
            for number in range(600):
                client.received = b""
                assert client.send(get(f"/{number}")).answer().body == f"GET /{number} ".encode()
            assert 0 < len(served.server.shared.heads) <= 512

    @pytest.mark.parametrize("count", [0, 1, 2, 512])
    @pytest.mark.parametrize("size", [0, 40, 60, 1024])
    def test_whatever_is_remembered_each_gets_its_own(self, count: int, size: int) -> None:
        """Pipelined, one by one and cut in two, by clients in turn; small heads, large ones, and bodies."""
        memo = "protocols.http.codec.memo"
        knobs = {f"{memo}.HEADS_KEPT": count, f"{memo}.HEAD_KEPT_BYTES": size}
        asked = [
            (get(f"/{number % 5}", "X: y\r\n" * (number % 3), "HEAD" if number % 7 == 6 else "GET"), b"")
            if number % 4
            else (b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", b"%03d" % number)
            for number in range(60)
        ]

        def tell(request: http.Request) -> http.Response:
            told = f"{request.method} {request.target} {len(request.headers)} ".encode()
            return http.Response(200, {"X-Told": told.decode()}, told + request.body)

        with turned(knobs, ["protocols.http"]), Simulated(tell) as simulated:
            clients = [simulated.connect() for _ in range(3)]
            for start in range(0, len(asked), 3):
                group = asked[start : start + 3]
                data = b"".join(head + body for head, body in group)
                sock = clients[start % 2]
                for piece in (data,) if start % 4 else (data[:50], data[50:]):
                    simulated.send(sock, piece)
                methods = " ".join(head.split()[0].decode() for head, _ in group)
                told = [answer.headers.get("x-told") for answer in read_answers(sock.delivered(), methods)]
                expected = [
                    f"{head.split()[0].decode()} {head.split()[1].decode()} {head.count(b':')} "
                    for head, _ in group
                ]
                assert told == [text.strip() for text in expected]


# -- however it is cut ---------------------------------------------------------------------------------------


def one_request() -> st.SearchStrategy[bytes]:
    """A well-formed request, with or without a body."""
    target = st.sampled_from(["/", "/sync", "/a/b?c=d"])
    body = st.binary(max_size=40)
    lines = st.lists(
        st.sampled_from(["X: y", "Accept: */*", "Cookie: a=b", "Connection: keep-alive"]), max_size=3
    )

    def build(target: str, body: bytes, lines: list[str], kind: int, cuts: int) -> bytes:
        head = "".join(f"{line}\r\n" for line in ["Host: a", *lines])
        if kind == 0:
            return f"GET {target} HTTP/1.1\r\n{head}\r\n".encode()
        if kind == 1:
            return f"POST {target} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        size = cuts + 1
        chunks = [body[index : index + size] for index in range(0, len(body), size)]
        return (
            f"PUT {target} HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
            + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            + b"0\r\nX-Trailer: t\r\n\r\n"
        )

    return st.builds(build, target, body, lines, st.integers(0, 2), st.integers(0, 9))


def without_dates(data: bytes) -> list[tuple[int, bytes, str | None]]:
    return [(a.status, a.body, a.headers.get("connection")) for a in read_answers(data)]


@settings(max_examples=40, deadline=None)
@given(st.lists(one_request(), min_size=1, max_size=5), st.lists(st.integers(1, 400), max_size=8))
def test_cut_anywhere_it_is_answered_the_same(requests: list[bytes], cuts: list[int]) -> None:
    data = b"".join(requests)
    with Served(mixed) as served:
        whole = served.connect().send(data)
        whole.answers(len(requests))
        pieces: Client = served.connect()
        places = [0, *sorted(cut for cut in set(cuts) if cut < len(data)), len(data)]
        for start, end in itertools.pairwise(places):
            pieces.send(data[start:end])
            served.loop.tick(0)
        pieces.answers(len(requests))
    assert without_dates(whole.received) == without_dates(pieces.received)
    assert len(without_dates(whole.received)) == len(requests)


@http.streaming
async def echo_stream(request: http.Request) -> http.StreamingResponse:
    return http.StreamingResponse(200, {}, request.stream)


def everything() -> http.Router:
    """Every kind of handler."""
    router = http.Router()
    for method in ("GET", "POST", "PUT"):
        router.add(method, "/", echo)
        router.add(method, "/sync", echo_flow)
        router.add(method, "/a/{b}", echo_stream)
    return router


@settings(max_examples=150, deadline=None)
@given(
    st.lists(one_request(), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
    st.integers(1, 60),
    st.sampled_from(["stay", "end", "reset"]),
)
def test_whatever_is_sent_the_answers_are_well_formed_and_nothing_crashes(
    requests: list[bytes], changes: list[tuple[int, bytes, int]], step: int, then: str
) -> None:
    data = bytearray(b"".join(requests))
    for place, new, dropped in changes:
        data[place : place + dropped] = new
    with Simulated(everything(), limits=http.Limits(body_bytes=100)) as simulated:
        sock = simulated.connect()
        for start in range(0, len(data), step):
            simulated.send(sock, bytes(data[start : start + step]))
        heard = sock.delivered()
        if then != "stay":
            getattr(sock, then)()
            simulated.settle()
            heard += sock.delivered()
        simulated.advance(1)
        simulated.advance(200)
        simulated.advance(200)
        assert sock.closed
        statistics = simulated.loop.statistics()
        assert (statistics.crashed, simulated.server.statistics().failed) == (0, 0)
        read_answers(heard + sock.delivered(), "GET " * 99, ended=True)
