"""An answer is never another request's, whatever the client remembers and wherever its thresholds are: many
answers that are alike and not, in pieces of every size, over connections that come and go."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from actors.simulation.knobs import turned
from protocols import http
from tests.protocols.http.benches import HttpBench, body_of

KNOBS: list[dict[str, int | float]] = [
    {},
    *({"protocols.http.codec.memo.HEADS_KEPT": count} for count in (1, 2)),
    *({"protocols.http.codec.memo.HEAD_KEPT_BYTES": size} for size in (0, 60)),
    *({"protocols.http.client.wire.STREAM_CAPACITY": size} for size in (1, 1000)),
    {"protocols.http.client.wire.SKIP_MAX": 0},
    {"actors.net.transports.HIGH_WATERMARK": 4},
    {
        "protocols.http.codec.memo.HEADS_KEPT": 1,
        "protocols.http.client.wire.STREAM_CAPACITY": 1,
        "protocols.http.client.wire.SKIP_MAX": 0,
        "actors.net.transports.HIGH_WATERMARK": 4,
    },
]
HEADS = [
    b"",
    b"X: 1\r\n",
    b"X: 2\r\n",
    b"Set-Cookie: a\r\n",
    b"Keep-Alive: timeout=9\r\n",
    b"Y: %b\r\n" % (b"y" * 80),
]


def answer_to(number: int, rng: Random, method: str) -> tuple[bytes, bytes]:
    """An answer that names its request, in one of many framings; and its body."""
    body = b"%d-" % number + b"x" * rng.choice((0, 0, 1, 5, 300))
    interim = rng.choice((b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"))
    line = rng.choice((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 201 \r\n")) + rng.choice(HEADS)
    if rng.random() < 0.7:
        framed = b"Content-Length: %d\r\n\r\n" % len(body), body
    else:
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
        framed = b"Transfer-Encoding: chunked\r\n\r\n", chunks + b"0\r\n\r\n"
    if method == "HEAD":
        return interim + line + framed[0], b""
    return interim + line + framed[0] + framed[1], body


def unit_of(rng: Random, number: int) -> Any:
    kind = rng.randrange(4)
    if kind == 0:
        return http.stream("GET", f"/{number}")
    if kind == 1:
        return http.head(f"/{number}")
    return http.get(f"/{number}")


def taken_from(reply: Any) -> bytes:
    """What has come of a body since the last time."""
    if not reply.settled or reply.error is not None:
        return b""
    response = reply.result()
    if isinstance(response, http.StreamedResponse):
        return body_of(response.body)
    body, response.body = bytes(response.body), b""
    return body


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_every_answer_is_that_of_its_request(knobs: dict[str, int | float], seed: int) -> None:
    rng = Random(seed)
    with turned(knobs, ("protocols.http",)):
        bench = HttpBench(connections=1, pipeline=8, timeout=1000.0, idle_timeout=1000.0)
        number = 0
        for _ in range(6):
            asked = []
            heard: dict[Any, bytes] = {}
            for _ in range(rng.randrange(1, 9)):
                unit = unit_of(rng, number)
                asked.append((unit, bench.open(unit), *answer_to(number, rng, unit.method)))
                number += 1
            cancelled = {index for index in range(len(asked)) if rng.random() < 0.1}
            for index in cancelled:
                asked[index][1].cancel()
            said = b"".join(answer for _, _, answer, _ in asked)
            step = rng.choice((3, 64, len(said)))
            start = 0
            connection = bench.sockets[-1]
            while start < len(said):
                bench.say(said[start : start + step])
                start += step
                if connection.closed:
                    break  # over a long answer that nobody wanted: the others go elsewhere
                for _, reply, _, _ in asked:
                    heard[reply] = heard.get(reply, b"") + taken_from(reply)
            if connection.closed:
                bench.accept()
                assert cancelled
                break
            for index, (unit, reply, _, body) in enumerate(asked):
                if index not in cancelled:
                    assert heard[reply] == body, unit
        assert bench.add_up()
