"""Every program of the documentation passes the type checkers as it stands, strictly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, page_name, programs_of

AWAITING = ROOT / "tests" / "actors" / "typed_awaiting.py"
MISTAKES = """\
from actors import Loop, settle_all, gather
from protocols import http, kafka, postgres, redis

loop = Loop()
web = loop.spawn(http.pool("http://127.0.0.1:9001"))
cache = loop.spawn(redis.pool("redis://127.0.0.1"))
database = loop.spawn(postgres.pool("postgresql://127.0.0.1/test"))

web.submit(redis.get("key"))
cache.submit(http.get("/"))
database.submit(redis.get("key"))
loop.spawn(http.server("127.0.0.1:0", lambda request: "text"))
"""
FINE = """\
from typing import assert_type

from actors import Loop, Reply, gather, settle_all
from protocols import http, kafka, postgres, redis

loop = Loop()
web = loop.spawn(http.pool("http://127.0.0.1:9001"))
cache = loop.spawn(redis.pool("redis://127.0.0.1"))
database = loop.spawn(postgres.pool("postgresql://127.0.0.1/test"))
server = loop.spawn(http.server("127.0.0.1:0", lambda request: http.text_response("hello")))
assert_type(server, http.Server)
assert_type(web.submit(http.get("/")), Reply[http.Response])
assert_type(cache.submit(redis.get("key")), Reply[bytes | None])
assert_type(loop.spawn(kafka.pool("127.0.0.1:9092", transactional_id="a")), kafka.TransactionalPool)


async def both() -> None:
    page, value = await gather(web.submit(http.get("/")), cache.submit(redis.get("key")))
    assert_type(page, http.Response)
    assert_type(value, bytes | None)
    first, second = await settle_all(web.submit(http.get("/")), cache.submit(redis.get("key")))
    assert_type(first, http.Response | BaseException)
    assert_type(second, bytes | None | BaseException)
"""


def lines_of(source: str, part: str) -> set[int]:
    return {number for number, line in enumerate(source.splitlines(), 1) if part in line}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All programs, a package per page."""
    folder = tmp_path_factory.mktemp("programs")
    for page in PAGES:
        package = folder / ("page_" + re.sub(r"\W", "_", page_name(page)))
        programs = programs_of(page)
        for name, versions in programs.items():
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
            for number, text in enumerate(versions):
                for other in programs:
                    stem = other.removesuffix(".py")
                    text = re.sub(rf"^from {stem} import", f"from .{stem} import", text, flags=re.MULTILINE)
                last = number == len(versions) - 1
                (package / (name if last else f"{name.removesuffix('.py')}_{number}.py")).write_text(text)
    (folder / "mistakes.py").write_text(MISTAKES)
    (folder / "fine.py").write_text(FINE)
    return folder


@pytest.mark.timeout(600)
def test_mypy_accepts_every_program_and_finds_every_mistake(folder: Path) -> None:
    done = subprocess.run(
        [
            # With the settings and so with the cache of `make check`, which knows the packages already.
            *(sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--no-error-summary"),
            *(str(folder), str(AWAITING)),
        ],
        cwd=ROOT,
        env={"MYPYPATH": f"{ROOT}:{folder}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines()
    assert not done.stderr
    mistakes = {line for line in said if line.partition(":")[0].endswith("mistakes.py")}
    assert not [line for line in said if line not in mistakes], done.stdout
    found = {int(line.split(":")[1]) for line in mistakes if " error: " in line}
    assert found == lines_of(MISTAKES, ".submit(") | lines_of(MISTAKES, "lambda"), done.stdout


@pytest.mark.timeout(600)
def test_pyright_accepts_every_program_and_finds_every_mistake(folder: Path) -> None:
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"extraPaths": [str(ROOT)], "typeCheckingMode": "standard", "pythonVersion": "3.11"})
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(folder)),
            *("--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [
        (Path(found["file"]).relative_to(folder), found["range"]["start"]["line"] + 1, found["message"])
        for found in json.loads(done.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]
    mistakes = {line for path, line, _ in said if path.name == "mistakes.py"}
    assert not [entry for entry in said if entry[0].name != "mistakes.py"]
    assert mistakes == lines_of(MISTAKES, ".submit(") | lines_of(MISTAKES, "lambda")
