"""What the documentation says is run and held against the code, so that it cannot come apart from it.

How a page is read:

1. Its `python` blocks run from top to bottom in one namespace, on a network of the page's own: whoever
   listens on a port gets a free one, whoever connects to it is led there, a port that nobody listens on
   refuses.
2. `loop.run()` returns when the `curl` commands of the `console` blocks that follow (up to the next `python`
   block) have been answered, each as it is printed there. The loop stays in the background of the page, as a
   program left running in another terminal would, so that later blocks find their backends. Time in which
   nothing happens is skipped: a backend that sleeps for ten seconds costs none.
3. A block that begins with a comment `# NAME.py` is that file; what it prints is what follows `$ python
   NAME.py`. Other commands must exist: targets of the Makefile, modules, options of `windlass`.
4. A table after a comment such as `<!-- defaults: pools.Pool -->` is held against the code: see `CHECKS`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import errno
import http.client
import importlib
import importlib.util
import inspect
import io
import re
import select
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import structlog

from actors import Loop, SystemKernel, TcpAddress, UnixAddress, workers
from pools import ConnectionLost, DeadlineExceeded, QueueFull, Work
from pools.testing import Ask, Bench
from pools.units import QUEUED, SENT
from protocols.command import main as command_line
from protocols.command.proxy import proxy_parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TURNS_MAX = 2000  # of all loops of a page, until a visitor has its answer
SKIP_SECONDS_MAX = 100.0  # at a time
QUIET_SECONDS = 0.005  # without anything to read, before time is skipped; a busy machine may be late
SERVERS = {  # pages that need real ones: their fixtures, and the port the page writes for each
    "redis": {"redis_server": 6379, "redis_cluster": 7000},
    "kafka": {"kafka_broker": 9092},
}
SERVER_SECONDS = 1.0  # in which it answers: no time is skipped before
UNITS = {"": 1, "s": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ELSEWHERE = {".", "kill"}  # commands that are not ours

_fence = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_check = re.compile(
    r"^<!-- (defaults|fields|errors|constants|options|events)(?:: (\S+))? -->\n\n?((?:\|.*\n)+)", re.MULTILINE
)
_link = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_option = re.compile(r"--[a-z][a-z-]*")
_heading = re.compile(r"^#+ (.*)$", re.MULTILINE)


def load_generator() -> Any:
    """`docs/generate.py`, which is a program and not a part of a package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Block(NamedTuple):
    """One fenced block and the line it begins at."""

    kind: str
    text: str
    line: int


class Command(NamedTuple):
    """One `$ …` of a console block, with the output that is shown below it."""

    words: list[str]
    output: list[str]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in _fence.finditer(text)
    ]


def commands_of(block: Block) -> list[Command]:
    commands: list[Command] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            words = shlex.split(line[2:], comments=True)
            background = words[-1:] == ["&"]
            commands.append(Command(words[:-1] if background else words, []))
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


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
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


def named(block: Block) -> str | None:
    """The file that a block is, by its first line."""
    found = re.match(r"# (\S+\.py)\b", block.text)
    return found[1] if found else None


WITH_CODE = [page for page in PAGES if any(block.kind == "python" for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=page_name)
def test_code_runs_as_it_stands(page: Path, stage: Stage, request: pytest.FixtureRequest) -> None:
    for fixture, port in SERVERS.get(page.stem, {}).items():
        server = request.getfixturevalue(fixture)
        stage.ports[port] = server.port
        stage.ports[server.port] = server.port  # where a broker says that it can be reached
        stage.ports |= {own: own for own in getattr(server, "ports", ())}  # as a cluster's nodes name them
        stage.quiet_seconds = SERVER_SECONDS
    namespace: dict[str, Any] = {"__name__": page.stem.replace("-", "_")}
    module = type(sys)(namespace["__name__"])
    module.__dict__.update(namespace)
    curls = 0
    for block, commands in sections(page):
        stage.visits = commands
        curls += sum(command.words[0] == "curl" for command in commands)
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, module.__dict__)
        name = named(block)
        for command in commands:
            if command.words[0] == "python" and command.words[1] == name and command.output:
                assert printed.getvalue().splitlines() == command.output, f"what {name} prints"
    assert stage.visited == curls, "a curl whose server does not run: loop.run() belongs before it"


CONSOLE = [
    (page, command)
    for page in PAGES
    for block in blocks_of(page)
    if block.kind == "console"
    for command in commands_of(block)
]
MAKE_TARGETS = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("page", "command"), CONSOLE, ids=lambda value: getattr(value, "name", None))
def test_commands_exist(page: Path, command: Command) -> None:
    words = [word for word in command.words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        assert set(words[1:]) <= MAKE_TARGETS
    elif program == "windlass":
        parse_windlass(words[1:])
    elif program == "curl":
        curl_parser().parse_args(words[1:])
    elif program == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None
    elif program == "python":
        blocks = [named(block) for block in blocks_of(page)]
        assert words[1] in blocks or (ROOT / words[1]).is_file(), f"no block of this page is {words[1]}"
    else:
        assert words[0] in ELSEWHERE, f"{words[0]} is not a command of ours"


def help_of(*words: str) -> str:
    """What `windlass … --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command_line([*words, "--help"]) == 0
    return printed.getvalue()


def parse_windlass(words: list[str]) -> None:
    """The subcommand exists, and every option that is written is one of its own."""
    subcommand = words[:1] if words and not words[0].startswith("-") else []
    known = set(_option.findall(help_of(*subcommand)))
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
    if subcommand == ["proxy"]:
        proxy_parser().parse(words[1:])


# -- tables -------------------------------------------------------------------------------------------------


def rows_of(table: str) -> list[list[str]]:
    """The cells of each row, without the head and the rule below it."""
    lines = table.strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def lookup(dotted: str) -> Any:
    """The object that a dotted name names."""
    first, *rest = dotted.split(".")
    thing: Any = importlib.import_module(first)
    for name in rest:
        if not hasattr(thing, name):
            importlib.import_module(f"{thing.__name__}.{name}")
        thing = getattr(thing, name)
    return thing


def plain(cell: str) -> str:
    return cell.replace("`", "").strip()


def same(cell: str, value: Any) -> bool:
    """Whether a cell such as `5 s`, `64 MiB`, `none` says this value."""
    text = plain(cell)
    if value is None:
        return text == "none"
    if isinstance(value, bool):
        return text == ("yes" if value else "no")
    if isinstance(value, int | float):
        found = re.fullmatch(r"([\d,.]+) ?([A-Za-z]*)", text)
        return found is not None and float(found[1].replace(",", "")) * UNITS.get(found[2], -1) == value
    if callable(value):
        return text == value.__name__
    if isinstance(value, msgspec.Struct):
        usual = all(getattr(value, field.name) == field.default for field in msgspec.structs.fields(value))
        fields = "" if usual else ", ".join(repr(field) for field in msgspec.structs.astuple(value))
        return text == f"{type(value).__name__}({fields})"
    return text == (value if isinstance(value, str) and value else repr(value))


def defaults_of(thing: Any) -> dict[str, Any]:
    """The options of a function, a class or a struct, with their defaults."""
    if isinstance(thing, type) and issubclass(thing, msgspec.Struct):
        return {field.name: field.default for field in msgspec.structs.fields(thing)}
    parameters = inspect.signature(thing).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def check_defaults(name: str, rows: list[list[str]]) -> None:
    """First column: every option there is. Second: its default."""
    defaults = defaults_of(lookup(name))
    assert [plain(row[0]) for row in rows] == list(defaults)
    wrong = {plain(row[0]): (row[1], defaults[plain(row[0])]) for row in rows
             if not same(row[1], defaults[plain(row[0])])}  # fmt: skip
    assert not wrong


def check_fields(name: str, rows: list[list[str]]) -> None:
    """First column: every field of a struct."""
    assert [plain(row[0]) for row in rows] == [field.name for field in msgspec.structs.fields(lookup(name))]


def check_errors(name: str, rows: list[list[str]]) -> None:
    """First column: every exception that a module makes public, in any order."""
    module = lookup(name)
    errors = {n for n in module.__all__ if inspect.isclass(getattr(module, n))
              and issubclass(getattr(module, n), BaseException)}  # fmt: skip
    assert {plain(row[0]) for row in rows} == errors


def check_constants(name: str | None, rows: list[list[str]]) -> None:
    """First column: a dotted name. Second: its value."""
    assert not {row[0]: lookup(plain(row[0])) for row in rows if not same(row[1], lookup(plain(row[0])))}


def check_options(name: str, rows: list[list[str]]) -> None:
    """First column: every option of `windlass proxy`. Second: its default."""
    actions = {action.option_strings[-1]: action.default for action in proxy_parser()._actions}
    del actions["--help"]
    told = {plain(row[0]).split()[0]: row[1] for row in rows}
    assert list(told) == list(actions)
    nothing = ("none", "off", "required")
    wrong = {
        option: (cell, actions[option])
        for option, cell in told.items()
        if not (same(cell, actions[option]) or (not actions[option] and plain(cell) in nothing))
        and plain(cell) != str(actions[option])
    }
    assert not wrong


def check_events(name: str | None, rows: list[list[str]]) -> None:
    """First column: what a program logs, as the code has it."""
    modules = [
        path.read_text()
        for package in ("actors", "pools", "protocols")
        for path in (ROOT / package).rglob("*.py")
    ]
    calls = [
        node
        for text in modules
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and node.args
    ]
    logged = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("info", "warning", "error")
        and isinstance(call.args[0], ast.Constant)
    }
    assert {plain(row[0]) for row in rows} <= logged


def check_faults(name: str, rows: list[list[str]]) -> None:
    """Every kind of fault there is, with what it hits and what it says of itself."""
    assert [plain(row[0]) for row in rows] == list(lookup(name))
    for row, kind in zip(rows, lookup(name).values(), strict=True):
        assert row[1:] == [kind.target.replace("crashing", "host"), kind.says]


CHECKS: dict[str, Callable[[Any, list[list[str]]], None]] = {
    "defaults": check_defaults,
    "fields": check_fields,
    "errors": check_errors,
    "constants": check_constants,
    "options": check_options,
    "events": check_events,
    "faults": check_faults,
}
TABLES = [(page, *found.groups()) for page in PAGES for found in _check.finditer(page.read_text())]


@pytest.mark.parametrize(("page", "kind", "name", "table"), TABLES, ids=[str(table[2]) for table in TABLES])
def test_tables_say_what_the_code_says(page: Path, kind: str, name: str, table: str) -> None:
    CHECKS[kind](name, rows_of(table))


# -- links, and what is generated ---------------------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _fence.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _heading.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link, image in _link.findall(_fence.sub("", page.read_text())):
        target, _, anchor = (link or image).partition("#")
        if target.startswith(("http://", "https://")):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors_of(path)):
            broken.append(link or image)
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [link.partition("#")[0] for link, _ in _link.findall(page.read_text())]
        ahead += [(page.parent / link).resolve() for link in links if link and "://" not in link]
    assert not set(PAGES) - seen


def is_new(name: str) -> bool:
    """Whether git is there and does not know the file."""
    listed = subprocess.run(["git", "ls-files", "--others", name], cwd=ROOT, capture_output=True, check=False)
    return bool(listed.stdout)


GENERATED = load_generator().generated()


@pytest.mark.parametrize("path", sorted(GENERATED), ids=page_name)
def test_what_is_generated_is_current(path: Path) -> None:
    if path.name == "README.md" and is_new("docs/benchmarks/results.json"):
        pytest.skip("new figures: commit results.json with the README.md that docs/generate.py makes of it")
    assert path.exists(), "run: .venv/bin/python docs/generate.py"
    assert path.read_text() == GENERATED[path], "run: .venv/bin/python docs/generate.py"


def test_pictures_are_of_the_current_graphs() -> None:
    generator = load_generator()
    stale = {name for name, source in generator.graphs().items() if not generator.is_drawn(name, source)}
    assert not stale, "apt-get install graphviz, then run: .venv/bin/python docs/generate.py"


# -- the picture that is no table in the code --------------------------------------------------------------


def sent(unit: Ask, **options: Any) -> tuple[Bench, Work[bytes]]:
    """A unit that is on its way, on the only connection."""
    bench = Bench(connections=1, **options)
    reply = bench.submit(unit)
    bench.accept()
    assert isinstance(reply, Work)
    assert reply.stage == SENT
    return bench, reply


def walk_refused() -> bool:
    bench = Bench(queue=1)
    bench.submit("one")
    return isinstance(bench.submit("two").error, QueueFull)


def walk_queued() -> bool:
    bench = Bench()
    bench.submit("one")
    return bench.pool.statistics().queued == 1


def walk_answered() -> bool:
    bench, reply = sent(Ask("one"))
    bench.answer("ONE")
    return reply.result() == b"ONE"


def walk_late_in_queue() -> bool:
    bench = Bench()
    reply = bench.submit("one", timeout=1)
    bench.advance(1)
    return isinstance(reply.error, DeadlineExceeded)


def walk_back() -> bool:
    bench, reply = sent(Ask("one", idempotent=True))
    bench.reset()
    return reply.stage == QUEUED and not reply.settled


def walk_lost() -> bool:
    bench, reply = sent(Ask("one"))
    bench.reset()
    return isinstance(reply.error, ConnectionLost)


def walk_orphan() -> bool:
    bench, reply = sent(Ask("one"))
    reply.cancel()
    return bench.pool.statistics().orphans == 1


def walk_dropped() -> bool:
    bench, reply = sent(Ask("one"))
    reply.cancel()
    bench.answer("ONE")
    return bench.pool.statistics().orphans == 0


WALKS = {
    ("submitted", "refused"): walk_refused,
    ("submitted", "queued"): walk_queued,
    ("queued", "sent"): lambda: sent(Ask("one"))[1].stage == SENT,
    ("queued", "failed"): walk_late_in_queue,
    ("sent", "answered"): walk_answered,
    ("sent", "queued"): walk_back,
    ("sent", "failed"): walk_lost,
    ("sent", "orphan"): walk_orphan,
    ("orphan", "dropped"): walk_dropped,
}


@pytest.mark.parametrize("edge", load_generator().UNIT_LIFE, ids=lambda edge: f"{edge[0]}-{edge[1]}")
def test_a_unit_can_go_every_way_that_is_drawn(edge: tuple[str, str, str]) -> None:
    assert WALKS[edge[:2]]()


def test_nothing_is_shown_that_is_not_there() -> None:
    """Protocols that have no module yet are made by no block of any page."""
    text = "".join(block.text for page in PAGES for block in blocks_of(page))
    there = {path.stem for path in (ROOT / "protocols").iterdir()}
    shown = {name for name in ("redis", "postgres", "kafka", "nats", "dns") if f"{name}.pool(" in text}
    assert shown <= there
