"""Output that nobody takes: a reader that has gone, a full disk; and Ctrl-C at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors import Loop
from protocols import http

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "windlass.__main__"]
SECONDS_MAX = 30.0


def gone() -> int:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def run(*arguments: str, stdout: int) -> tuple[int, str]:
    with os.fdopen(stdout, "w"):
        told = subprocess.run(
            [*COMMAND, *arguments], check=False, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, text=True,
            timeout=SECONDS_MAX,
        )  # fmt: skip
    return told.returncode, told.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["proxy", "--help"], ["sim", "pool", "--runs", "1"], ["sim", "--list"]]
)
def test_a_reader_that_has_gone_ends_it_quietly(arguments):
    status, said = run(*arguments, stdout=gone())
    assert said == ""
    assert status in (0, 1)


def test_the_demo_ends_quietly_and_leaves_no_process_behind(tmp_path):
    status, said = run("demo", "--seconds", "0.5", "--chart", str(tmp_path / "x.svg"), stdout=gone())
    assert (status, said) == (1, "")


@pytest.mark.parametrize("asked", [["--help"], ["proxy", "--help"], ["sim", "--help"], ["demo", "--help"]])
def test_a_full_disk_is_named(asked):
    status, said = run(*asked, stdout=os.open("/dev/full", os.O_WRONLY))
    assert (status, said) == (1, "windlass: cannot write to standard output: No space left on device\n")


PROXY = """
import sys
from windlass.main import main
sys.exit(main(["proxy", "--listen", "unix:" + sys.argv[1], "--backend", sys.argv[2]]))
"""


@pytest.mark.parametrize("stderr", ["reader gone", "disk full"])
def test_a_proxy_whose_log_fails_goes_on(stderr, tmp_path):
    path = tmp_path / "proxy.sock"
    with Loop() as loop:
        backend = loop.spawn(http.server("127.0.0.1:0", lambda request: http.text_response("hello")))
        url = f"http://127.0.0.1:{backend.address.port}"
        fd = gone() if stderr == "reader gone" else os.open("/dev/full", os.O_WRONLY)
        proxy = subprocess.Popen([sys.executable, "-c", PROXY, str(path), url], stderr=fd, cwd=ROOT)
        os.close(fd)
        try:
            while not path.exists():
                assert proxy.poll() is None
                loop.tick(0.01)
            pool = loop.spawn(http.pool(f"unix:{path}"))
            assert loop.run_until(pool.submit(http.get("/"), timeout=SECONDS_MAX)).text() == "hello"
            proxy.send_signal(signal.SIGTERM)
            while proxy.poll() is None:
                loop.tick(0.01)
            assert proxy.returncode == 0
        finally:
            proxy.kill()
            proxy.wait()


IMPORTING = """
import signal, sys, os
MODULE = sys.argv[1]
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
import windlass.__main__
sys.argv = ["windlass", "sim", "--list"]
sys.exit(windlass.__main__.main())
"""


@pytest.mark.parametrize("module", ["actors.loop", "windlass.arguments", "rich.progress"])
def test_an_interrupt_while_modules_are_imported_shows_no_traceback(module):
    told = subprocess.run(
        [sys.executable, "-c", IMPORTING, module],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert (told.returncode, told.stderr) == (-signal.SIGINT, "")
