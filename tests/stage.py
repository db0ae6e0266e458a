"""Where the programs of a page run: a network of their own, loops that are stepped, a visitor."""

from __future__ import annotations

import argparse
import contextlib
import errno
import http.client
import inspect
import io
import re
import select
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest
import structlog

from actors import Loop, SystemKernel, TcpAddress, UnixAddress, workers
from actors.testing.simulated import Simulation
from tests.pages import Block, blocks_of

TURNS_MAX = 2000  # of all loops of a page, until a visitor has its answer
SKIP_SECONDS_MAX = 100.0  # at a time
QUIET_SECONDS = 0.005  # without anything to read, before time is skipped; a busy machine may be late
SERVER_START_SECONDS_MAX = 30.0


class Command(NamedTuple):
    """One `$ …` of a console block, with the output that is shown below it."""

    words: list[str]
    output: list[str]
    background: bool = False


def commands_of(block: Block) -> list[Command]:
    commands: list[Command] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:], comments=True)
            background = words[-1:] == ["&"]
            commands.append(Command(words[:-1] if background else words, [], background))
        elif commands:
            commands[-1].output.append(line)
    return commands


def sections(page: Path) -> Iterator[tuple[Block, list[Command]]]:
    """Each python block, with the commands up to the next one."""
    current: Block | None = None
    commands: list[Command] = []
    for block in blocks_of(page):
        if block.kind == "console":
            commands += commands_of(block)
        elif block.kind == "python":
            if current is not None:
                yield current, commands
            current, commands = block, []
    if current is not None:
        yield current, commands


class Stage:
    """Where a page's programs run: its network, its loops, and the visitor."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}  # as the page names them -> as they are
        self.loops: list[Loop] = []
        self.made: list[Loop] = []
        self.visits: list[Command] = []
        self.visited = 0
        self.skipped = 0.0  # seconds
        self.quiet_seconds = QUIET_SECONDS
        self.over = threading.Event()
        self.clock = SystemKernel.monotonic

    def monotonic(self) -> float:
        """The system's clock, and what was skipped."""
        return self.clock() + self.skipped

    def turn(self, waiting: list[socket.socket], reply: Any = None) -> None:
        """Let every loop do what there is to do; with nothing to do, skip to the next deadline.

        What is sent over loopback arrives at once, so all can only wait for a deadline then.
        """
        living = [loop for loop in self.loops if not loop.closed]
        for loop in living:
            loop.tick(0)
        if reply is not None and reply.settled:
            return
        readers: list[Any] = [*living, *waiting]
        if not select.select(readers, [], [], self.quiet_seconds)[0]:
            due = min((loop.next_deadline for loop in living), default=0.0)
            self.skipped += min(max(0.0, due - self.monotonic()), SKIP_SECONDS_MAX)

    def run(self, loop: Loop, **options: Any) -> None:
        """In place of `Loop.run`: until the page's visitor has been answered."""
        self.add(loop)
        for command in self.visits:
            if command.words[0] == "curl":
                self.visit(command)
        while loop.draining and loop.machines:
            self.turn([])

    def run_until(self, loop: Loop, reply: Any) -> Any:
        """In place of `Loop.run_until`: the programs in the background go on too."""
        self.add(loop)
        for _ in range(TURNS_MAX):
            if reply.settled:
                return reply.result()
            self.turn([], reply)
        raise AssertionError(f"{reply!r} does not settle")

    def serve(self, main: Callable[[Loop], Any], **options: Any) -> None:
        """In place of `workers.serve`: one worker, in this process."""
        loop = Loop()
        main(loop)
        self.run(loop)

    def add(self, loop: Loop) -> None:
        if loop not in self.loops:
            self.loops.append(loop)

    def visit(self, command: Command) -> None:
        """What curl would do; what it would print must be what the page shows."""
        options = curl_parser().parse_args(command.words[1:])
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.*)?", options.url)
        assert found, f"{options.url}: write http://127.0.0.1:PORT/PATH"
        port = self.ports.get(int(found[1]))
        assert port, f"nobody on this page listens on {found[1]}"
        body = (options.data or "").encode()
        lines = [f"{options.request or ('POST' if body else 'GET')} {found[2] or '/'} HTTP/1.1"]
        lines += [f"Host: 127.0.0.1:{found[1]}", "Connection: close", *options.header]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        received = b""
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            sock.setblocking(False)
            for _ in range(TURNS_MAX):
                self.turn([sock])
                with contextlib.suppress(BlockingIOError):
                    data = sock.recv(1 << 16)
                    if not data:
                        break
                    received += data
            else:
                raise AssertionError(f"{shlex.join(command.words)} is not answered")
        self.visited += 1
        self.compare(command, received, options.include)

    def compare(self, command: Command, received: bytes, with_head: bool) -> None:
        response = http.client.HTTPResponse(Received(received))  # type: ignore[arg-type]
        response.begin()
        body = response.read().decode().splitlines()
        if not with_head:
            assert body == command.output, shlex.join(command.words)
            return
        got = [f"HTTP/1.1 {response.status} {response.reason}"]
        got += [f"{name}: {value}" for name, value in response.getheaders()] + ["", *body]
        missing = [line for line in command.output if line not in got and line != "…"]
        assert not missing, f"{shlex.join(command.words)} gives {got}"


class Received:
    """A socket for `http.client` to read from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def curl_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="curl", exit_on_error=False)
    parser.add_argument("url")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-X", "--request")
    parser.add_argument("-d", "--data")
    parser.add_argument("-H", "--header", action="append", default=[])
    return parser


@contextlib.contextmanager
def staged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage in place of the network and of loops that run for ever."""
    stage = Stage()
    listen, connect, make = SystemKernel.listen, SystemKernel.connect, Loop.__init__
    run, run_until = Loop.run, Loop.run_until

    def listen_here(kernel: Any, address: Any, **options: Any) -> socket.socket:
        if isinstance(address, UnixAddress):
            return listen(kernel, address, **options)
        sock = listen(kernel, TcpAddress("127.0.0.1", 0), **options)
        stage.ports[address.port] = sock.getsockname()[1]
        return sock

    def connect_here(kernel: Any, address: Any) -> tuple[socket.socket, bool]:
        if isinstance(address, UnixAddress):
            return connect(kernel, address)
        if address.port not in stage.ports:
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: Connection refused")
        return connect(kernel, TcpAddress("127.0.0.1", stage.ports[address.port]))

    def made(loop: Loop, **options: Any) -> None:
        make(loop, **options)
        stage.made.append(loop)

    monkeypatch.setattr(SystemKernel, "monotonic", staticmethod(stage.monotonic))
    monkeypatch.setattr(SystemKernel, "listen", listen_here)
    monkeypatch.setattr(SystemKernel, "connect", connect_here)
    monkeypatch.setattr(Loop, "__init__", made)
    monkeypatch.setattr(workers, "serve", stage.serve)
    monkeypatch.setattr(Loop, "run", here(stage.run, run))
    monkeypatch.setattr(Loop, "run_until", here(stage.run_until, run_until))
    with structlog.testing.capture_logs():
        try:
            yield stage
        finally:
            for loop in stage.made:
                loop.close()


def here(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Ours in this thread; a loop that has a thread of its own runs there as ever."""
    thread = threading.current_thread()

    def method(loop: Loop, *arguments: Any, **options: Any) -> Any:
        chosen = ours if threading.current_thread() is thread else theirs
        return chosen(loop, *arguments, **options)

    return method


class Programs:
    """The files of one page, each a module while the page is read."""

    def __init__(self, page: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.page = page
        self.stage = stage
        self.monkeypatch = monkeypatch
        self.modules: dict[str, ModuleType] = {}
        self.in_background: list[threading.Thread] = []

    def run(self, block: Block, commands: list[Command]) -> str:
        """Run a block, and the tests that it defines; what it prints."""
        module = self.module_of(block, commands)
        before = set(module.__dict__)
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if (
                self.page.parent.name == "embedding"
                and commands
                and all(command.background for command in commands)
            ):
                self.leave_running(code, module)
            else:
                exec(code, module.__dict__)
                for name in set(module.__dict__) - before:
                    if name.startswith("test_"):
                        run_test(module.__dict__[name])
        return printed.getvalue()

    def module_of(self, block: Block, commands: list[Command]) -> ModuleType:
        name = block.file or "page.py"
        if name not in self.modules or (block.file and not block.continues):
            stem = name.removesuffix(".py")
            module = self.modules[name] = ModuleType(stem)
            if any(command.words[:2] == ["python", name] for command in commands):
                module.__name__ = "__main__"
            self.monkeypatch.setitem(sys.modules, stem, module)
            self.monkeypatch.setitem(sys.modules, module.__name__, module)
        return self.modules[name]

    def leave_running(self, code: CodeType, module: ModuleType) -> None:
        """In a thread, until the page has been read; go on when it listens."""
        listening = threading.Event()

        def run(loop: Loop, **options: Any) -> None:
            listening.set()
            while not self.stage.over.is_set():
                loop.tick(0.01)

        with self.monkeypatch.context() as patch:
            patch.setattr(Loop, "run", run)
            thread = threading.Thread(target=exec, args=(code, module.__dict__), daemon=True)
            thread.start()
            assert listening.wait(SERVER_START_SECONDS_MAX), f"{module} does not come to loop.run()"
        self.in_background.append(thread)

    def end(self) -> None:
        self.stage.over.set()
        for thread in self.in_background:
            thread.join()


def run_test(function: Callable[..., Any]) -> None:
    """As pytest would, with the plugin's fixture."""
    if "simulation" in inspect.signature(function).parameters:
        simulation = Simulation(seed=1)
        function(simulation)
        simulation.close()
    else:
        function()
