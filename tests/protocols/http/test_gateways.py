"""A gateway whose page is made of many small answers, over a pool of one connection: a backend that stands
still fails the page, and nothing that comes after it."""

from __future__ import annotations

import pytest

from actors import Loop, NoAnswer, settle_all
from protocols import http
from tests.protocols.http.benches import Client, HttpBench

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSE = b"Connection: close\r\n\r\n"


class GatewayBench(HttpBench):
    """`/page/N` asks for N parts at once, everything else for one."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.server = self.loop.spawn(http.server("127.0.0.1:80", gateway(self.loop, self.pool)))
        self.listener = self.kernel.sockets.pop()

    def ask(self, path: str) -> Client:
        """A client asks, and the backend accepts what is opened for it."""
        client = Client(self.kernel)
        self.listener.backlog.append(client)
        client.arrive(b"GET %b HTTP/1.1\r\nHost: a\r\n%b" % (path.encode(), CLOSE))
        self.accept()
        return client

    def serve(self) -> None:
        """The backend answers all that it is sent, one after the other."""
        for _ in range(1000):
            self.accept()
            asked = [sock for sock in self.sockets if not sock.closed and b"GET " in sock.delivered()]
            if not asked:
                return
            for sock in asked:
                sock.arrive(OK)

    def heard(self, client: Client) -> bytes:
        """What a client was sent: the body, or the status if it is no 200."""
        self.run()
        head, _, body = client.delivered().partition(b"\r\n\r\n")
        return body if b" 200 " in head else head[9:12]


def gateway(loop: Loop, backend: http.Pool) -> http.Router:
    router = http.Router()

    @router.get("/page/{count}")
    async def page(request: http.Request) -> http.Response:
        units = [backend.submit(http.get("/part"), timeout=0.3) for _ in range(int(request.params["count"]))]
        parts = await settle_all(*units)
        there = sum(isinstance(part, http.Response) for part in parts)
        return http.text_response(f"{there} of {len(parts)}")

    @router.get("/{one}")
    async def one(request: http.Request) -> http.Response:
        try:
            response = await backend.submit(http.get(request.path), timeout=0.3)
        except NoAnswer as error:
            return http.text_response(f"{error}\n", 503)
        return http.text_response(response.text())

    return router


@pytest.mark.parametrize("parts", [1, 2, 64, 65, 66, 130])
@pytest.mark.parametrize("connections", [1, 4])
def test_a_page_of_many_parts_is_served_before_and_after_a_backend_stood_still(
    parts: int, connections: int
) -> None:
    bench = GatewayBench(connections=connections)
    page = bench.ask(f"/page/{parts}")
    bench.serve()
    assert bench.heard(page) == b"%d of %d" % (parts, parts)
    page = bench.ask(f"/page/{parts}")
    bench.advance(0.31)
    assert bench.heard(page) == b"0 of %d" % parts
    for path in ("/x", f"/page/{parts}", "/y"):
        client = bench.ask(path)
        bench.serve()
        assert bench.heard(client) == (b"ok" if "page" not in path else b"%d of %d" % (parts, parts))
    assert bench.add_up()
    assert bench.pool.statistics().in_flight == bench.pool.statistics().queued == 0


@pytest.mark.parametrize("parts", [64, 66])
def test_a_client_that_hangs_up_in_the_middle_of_its_page_takes_nothing_from_the_next(parts: int) -> None:
    bench = GatewayBench(connections=1)
    page = bench.ask(f"/page/{parts}")
    page.reset()
    bench.run()
    client = bench.ask("/x")
    bench.serve()
    assert bench.heard(client) == b"ok"
    assert bench.add_up()
    assert bench.loop.machines == 3  # the pool, the listener and the connection
