"""A server that works for each request: python -m benchmarks.own.workers PORT WORKERS ROUNDS

One worker is this process alone, as with `windlass proxy`; several are minded by it.
"""

from __future__ import annotations

import sys

from actors import Loop, workers
from protocols import http

PORT, WORKERS, ROUNDS = map(int, sys.argv[1:])
ADDRESS = f"127.0.0.1:{PORT}"


def work(request: http.Request) -> http.Response:
    """Keep the core busy for a while."""
    return http.text_response(str(sum(range(ROUNDS))))


def main(loop: Loop) -> None:
    """What runs in each worker."""
    loop.spawn(http.server(ADDRESS, work))


if WORKERS > 1:
    workers.serve(main, workers=WORKERS, listen=[ADDRESS])
else:
    with Loop() as loop:
        main(loop)
        loop.run()
