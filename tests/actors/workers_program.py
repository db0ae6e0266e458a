"""A service on several processes, for tests: `python workers_program.py '{"listen": ["127.0.0.1:0"], …}'`.

Events go to standard error as JSON lines, the statistics at the end to standard output. `broken` names a
file: as long as it exists, `main` fails.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from actors import Backoff, Loop, workers
from protocols import http
from windlass.logs import configure_logs

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
SPIN = OPTIONS.pop("spin", 0)  # rounds of work per request
BROKEN = OPTIONS.pop("broken", "")
SPAWNED = OPTIONS.pop("spawned", None) or OPTIONS.get("listen", [])
HANGS = OPTIONS.pop("hangs", False)
GATE = OPTIONS.pop("gate", "")  # a named pipe; if there is one, `main` waits until somebody writes to it
THREAD = OPTIONS.pop("thread", False)


def answer(request: http.Request) -> http.Response:
    """Say which process answers, or have it die."""
    if request.path == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.path == "/exit":
        sys.exit(7)
    sum(range(SPIN))
    return http.text_response(str(os.getpid()))


def main(loop: Loop) -> object:
    """What runs in each worker."""
    if HANGS:
        signal.pause()
    if GATE and Path(GATE).exists():
        Path(GATE).read_bytes()
    if BROKEN and Path(BROKEN).exists():
        raise RuntimeError("the configuration is broken")
    servers = [loop.spawn(http.server(address, answer)) for address in SPAWNED]
    return {
        "server": servers[0],
        "twice": lambda: {"pids": 1, "requests": 2 * servers[0].statistics().requests},
    }


if __name__ == "__main__":
    configure_logs(json=True)
    if THREAD:
        threading.Thread(target=signal.pause, daemon=True, name="a-thread").start()
    told = workers.serve(main, backoff=Backoff(0.0, 0.0), **OPTIONS)
    sys.stdout.write(msgspec.json.encode(told).decode())
