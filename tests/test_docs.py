"""What the documentation says is run and held against the code, so that it cannot come apart from it.

How a page is read:

1. Its `python` blocks run from top to bottom, each file in a namespace of its own (see `pages`), on a network
   of the page's own: whoever listens on a port gets a free one, whoever connects to it is led there, a port
   that nobody listens on refuses. Tests that a block defines are run.
2. `loop.run()` returns when the `curl` commands of the `console` blocks that follow (up to the next `python`
   block) have been answered, each as it is printed there. The loop stays in the background of the page, as a
   program left running in another terminal would, so that later blocks find their backends. Time in which
   nothing happens is skipped: a backend that sleeps for ten seconds costs none.
3. What a file prints is what follows `$ python NAME.py`. On the pages about other event loops, whose programs
   cannot be stepped from outside, a program that is left running (`$ python NAME.py &`) has a thread. Other
   commands must exist: targets of the Makefile, modules, options of `windlass`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pools import ConnectionLost, DeadlineExceeded, QueueFull, Work
from pools.testing import Ask, Bench
from pools.units import QUEUED, SENT
from tests.pages import PAGES, ROOT, blocks_of, page_name, prose_of
from tests.stage import Command, Programs, Stage, commands_of, curl_parser, sections, staged
from windlass.main import main as command_line
from windlass.proxy.command import proxy_parser

SERVERS = {  # pages that need real ones: their fixtures, and the port the page writes for each
    "redis": {"redis_server": 6379, "redis_cluster": 7000},
    "kafka": {"kafka_broker": 9092},
}
SERVER_SECONDS = 1.0  # in which it answers: no time is skipped before
ELSEWHERE = {".", "kill"}  # commands that are not ours

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


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(monkeypatch) as stage:
        yield stage


WITH_CODE = [page for page in PAGES if any(block.kind == "python" for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=page_name)
def test_code_runs_as_it_stands(
    page: Path, stage: Stage, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fixture, port in SERVERS.get(page.stem, {}).items():
        server = request.getfixturevalue(fixture)
        stage.ports[port] = server.port
        stage.ports[server.port] = server.port  # where a broker says that it can be reached
        stage.ports |= {own: own for own in getattr(server, "ports", ())}  # as a cluster's nodes name them
        stage.quiet_seconds = SERVER_SECONDS
    programs = Programs(page, stage, monkeypatch)
    curls = 0
    for block, commands in sections(page):
        stage.visits = commands
        curls += sum(command.words[0] == "curl" for command in commands)
        printed = programs.run(block, commands)
        for command in commands:
            if command.words[:2] == ["python", block.file] and command.output:
                assert printed.splitlines() == command.output, f"what {block.file} prints"
    programs.end()
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
        blocks = [block.file for block in blocks_of(page)]
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


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = prose_of(page)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _heading.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link, image in _link.findall(prose_of(page)):
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
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--others", name], cwd=ROOT, capture_output=True, check=False
        )
    except OSError:
        return False
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
