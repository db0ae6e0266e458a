"""The smallest server: python -m examples.hello --listen 127.0.0.1:8080"""

from __future__ import annotations

import argparse

from actors import Loop
from protocols import http

__all__ = ["hello", "main"]

PLAIN = http.Headers({"Content-Type": "text/plain"})


def hello(request: http.Request) -> http.Response:
    """Answer every request alike."""
    return http.Response(200, PLAIN, b"Hello World!")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    arguments = parser.parse_args()
    with Loop() as loop:
        loop.spawn(http.server(arguments.listen, hello))
        loop.run()


if __name__ == "__main__":
    main()
