"""`windlass proxy --workers`: what SIGHUP and SIGUSR1 do to it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.actors.workers_harness import Service

PROXY = ("-m", "windlass", "proxy", "--listen", "127.0.0.1:0", "--log-json", "--workers", "2")


def test_replaced_workers_open_the_log_anew(held_backend: Any, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Service(*PROXY, "--backend", held_backend.url, "--access-log", str(log)) as service:
        service.ready()
        for name in ("before.log", "after.log"):
            client = service.connect()
            client.request("GET", "/")
            held_backend.receive()
            held_backend.answer(b"yes")
            assert client.getresponse().read() == b"yes"
            client.close()
            held_backend.hang_up()
            log.rename(tmp_path / name)  # what was answered before is written there when its worker ends
            service.signal(signal.SIGHUP)
            service.event("worker ended")
            service.event("worker ended")
        told = service.statistics()
        assert (told["workers"], told["server.requests"], told["pool.succeeded"]) == (2, 2, 2)
        service.signal(signal.SIGTERM)
        assert service.event("stopped")["requests"] == 2
        assert service.wait() == 0
    for name in ("before.log", "after.log"):
        assert (tmp_path / name).read_text().count('"GET / HTTP/1.1" 200 3 ') == 1


def test_what_cannot_be_opened_any_more_replaces_nobody(held_backend: Any, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    command = (*PROXY, "--backend", held_backend.url, "--access-log", str(folder / "access.log"))
    with Service(*command) as service:
        service.ready()
        folder.rename(tmp_path / "elsewhere")
        service.signal(signal.SIGHUP)
        failed = service.event("replacement failed; the old worker continues")
        assert "change --access-log" in failed["reason"]
        assert service.statistics()["workers"] == 2
