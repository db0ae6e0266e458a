"""The pages of the documentation as programs: their blocks, and the files that these are.

1. A `python` block whose first line is a comment `# NAME.py` is that file, whole: it runs by itself, and a
   later block of the same name on the page replaces it. After `# NAME.py, continued` it goes on.
2. The other `python` blocks of a page are pieces of one program, which are read from top to bottom.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

_fence = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_name = re.compile(r"# (\w+)\.py\b(, continued)?")


class Block(NamedTuple):
    """One fenced block and the line it begins at."""

    kind: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that this block is, by its first line."""
        found = _name.match(self.text)
        return f"{found[1]}.py" if found else None

    @property
    def continues(self) -> bool:
        """Whether it is appended to the file of this name that stands further up."""
        found = _name.match(self.text)
        return found is not None and found[2] is not None


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in _fence.finditer(text)
    ]


def prose_of(page: Path) -> str:
    """The page without its blocks."""
    return _fence.sub("", page.read_text())


def programs_of(page: Path) -> dict[str, list[str]]:
    """The programs of a page by the names of their files, each as all that it is in turn. The pieces without
    a name make `page.py`.
    """
    programs: dict[str, list[str]] = {}
    pieces = ""
    for block in blocks_of(page):
        if block.kind != "python":
            continue
        if block.file is None:
            pieces += block.text + "\n\n"
        elif block.continues:
            programs[block.file][-1] += "\n\n" + block.text
        else:
            programs.setdefault(block.file, []).append(block.text)
    if pieces:
        programs["page.py"] = [pieces]
    return programs
