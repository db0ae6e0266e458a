"""The codec knows nobody: it runs where nothing else of Windlass is, and its heads carry nobody's notes."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.http import codec

FOLDER = Path(codec.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))

ALONE = r"""
import sys
import alone

data = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
head = alone.parse_request_head(data, 0, alone.Limits())
pieces = []
alone.body_decoder(head.length, alone.Limits(), alone.BadRequest).feed(data, head.end, pieces)
print(head.method, head.target, b"".join(pieces).decode())
print(alone.encode_response(alone.text_response("yes")).decode().splitlines()[-1])
ours = {"actors", "pools", "protocols", "windlass"} & {name.partition(".")[0] for name in sys.modules}
print(sorted(ours))
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_of_the_codec_imports_its_neighbours_and_libraries_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            assert node.level <= 1, f"{path.name} imports from above: {ast.unparse(node)}"
            if node.level == 1:
                assert (FOLDER / f"{name}.py").exists(), ast.unparse(node)
                continue
        elif isinstance(node, ast.Import):
            (name,) = [alias.name for alias in node.names]
        else:
            continue
        package = name.partition(".")[0]
        assert package == "msgspec" or package in sys.stdlib_module_names, ast.unparse(node)


def test_a_copy_of_the_folder_works_under_another_name(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "alone", ignore=shutil.ignore_patterns("__pycache__"))
    run = "import sys; sys.path.insert(0, sys.argv[1]); " + f"exec({ALONE!r})"
    # `-P` and another directory: neither this checkout nor an editable install of it is in reach by accident
    command = [sys.executable, "-P", "-c", run, str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["POST /x hi", "yes", "[]"]


def test_a_head_is_frozen_and_can_be_a_key() -> None:
    data = b"GET /x HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"
    head = codec.parse_request_head(data, 0, codec.DEFAULT_LIMITS)
    again = codec.parse_request_head(bytearray(data), 0, codec.DEFAULT_LIMITS)
    assert head is not None
    assert again is not None
    memo: codec.Memo[codec.RequestHead, str] = codec.Memo()
    memo.keep(head, "a note")
    assert memo.find(head) == "a note"
    assert memo.find(again) is None
    assert head.headers.get("b") == "c"
    assert head.headers is head.headers  # split once
    with pytest.raises(AttributeError):
        head.method = "PUT"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        head.note = 1  # type: ignore[attr-defined]


def test_a_memo_forgets_all_when_it_is_full_and_knows_the_last() -> None:
    memo: codec.Memo[bytes, int] = codec.Memo()
    assert not b"GET".startswith(memo.last)
    for number in range(600):
        memo.keep(b"%d" % number, number)
        assert memo.last_value == number
        assert (b"%d and more" % number).startswith(memo.last)
    assert 0 < len(memo) <= 512
    assert memo.find(b"0") is None
    assert memo.find(b"599") == 599
    assert memo.find(b"598") == memo.last_value == 598


def test_what_carries_a_secret_or_is_large_is_not_plain() -> None:
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert codec.is_plain_request(start + b"\r\n")
    for name in (b"Cookie", b"authorization", b"Proxy-Authorization", b"X-Api-Key", b"Session-Token"):
        assert not codec.is_plain_request(start + name + b": x\r\n\r\n")
    assert not codec.is_plain_request(start + b"A: " + b"x" * 1024 + b"\r\n\r\n")
    assert codec.is_plain_response(b"HTTP/1.1 200 OK\r\nX-Key: a\r\n\r\n")
    assert not codec.is_plain_response(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\n\r\n")


def test_limits_are_whole_numbers() -> None:
    assert codec.Limits(body_bytes=None).body_bytes is None
    with pytest.raises(ValueError, match=r"^trailers=-1; write 0 or more$"):
        codec.Limits(trailers=-1)
    with pytest.raises(TypeError, match=r"^headers='9'; write a whole number, 0 or more$"):
        codec.Limits(headers="9")  # type: ignore[arg-type]
