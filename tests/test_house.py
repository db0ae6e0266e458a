"""Rules of the house that a reader would have to check otherwise: docstrings, `__all__`, sizes, leftovers and
plain English."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_MAX = 700
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
# Put together from halves, so that this file passes its own test.
FORBIDDEN = [
    first + second
    for first, second in [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("sha", "red/"),
        ("DES", "IGN.md"),
        ("LES", "SONS.md"),
        ("BASE", "LINES.md"),
        ("STY", "LE.md"),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
    ]
]
SPOKEN = [*PACKAGES, "examples"]  # what users read in them is in plain English
BINARY = {".png", ".ico", ".gz", ".pem"}


def tracked() -> list[Path]:
    """The files of the project: those git knows, or all outside of hidden folders where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        paths = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part[0] == "." for part in path.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


FILES = tracked()
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


CHARACTER = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL
)  # escaped, or a set of them: one like another
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+|\(\?>")  # `(…)*+` and the like, and `(?>…)`


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    """What a module is, read once for all that is asked about it."""
    return ast.parse(path.read_text())


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_there_and_typed(package: str) -> None:
    folder = ROOT / package
    assert (folder / "__init__.py").is_file()
    assert (folder / "py.typed").is_file()


@pytest.mark.no_cover
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_open_with_their_theory_and_name_what_is_public(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "say in a few lines what the module is for and which rules it keeps"
    assigned = {
        ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
    }
    assert path.name == "__main__.py" or "__all__" in assigned


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".py"], ids=name_of)
def test_files_are_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def patterns_of(value: object, depth: int = 2) -> list[re.Pattern[str] | re.Pattern[bytes]]:
    """Compiled patterns, and those whose methods these are."""
    if isinstance(value, dict | list | tuple | set | frozenset) and depth:
        items = value.values() if isinstance(value, dict) else value
        return [pattern for item in items for pattern in patterns_of(item, depth - 1)]
    owner = value if isinstance(value, re.Pattern) else getattr(value, "__self__", None)
    return [owner] if isinstance(owner, re.Pattern) else []


def repeats_a_group_possessively(pattern: str) -> bool:
    return POSSESSIVE_GROUP.search(CHARACTER.sub("x", pattern)) is not None


@pytest.mark.no_cover
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_pattern_repeats_a_group_possessively(path: Path) -> None:
    # Python before 3.11.5 keeps half an item of such a repeat, and takes what it should refuse.
    literals = [
        node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    ]
    if path.name != "__main__.py":  # and put together from parts
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        compiled = [pattern for value in vars(module).values() for pattern in patterns_of(value)]
        texts = [pattern.pattern for pattern in compiled]
        literals += [text if isinstance(text, str) else text.decode("latin-1") for text in texts]
    assert not [text for text in literals if repeats_a_group_possessively(text)]


def test_what_repeats_a_group_possessively_is_recognised() -> None:
    forbidden = ["(a)*+", "(?:a)++", "(a)?+", "(a){2,}+", "(?>a)", "\\\\(a)*+", "([)])*+"]
    assert all(map(repeats_a_group_possessively, forbidden))
    assert not any(
        map(repeats_a_group_possessively, ["(a)*", "a*+", "[(a)*+]", "[^]()*+]", "(a)* +", r"\)++"])
    )


def test_nothing_is_left_behind() -> None:
    found = [
        f"{name_of(path)}:{number}: {word}"
        for path in FILES
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for word in FORBIDDEN
        if word in line
    ]
    assert not found, "\n".join(found)


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in FILES if path.parts[-1].startswith("test_")]
    assert len(names) == len(set(names))


def test_the_source_distribution_is_whole() -> None:
    included = {
        *PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"],
        "pyproject.toml",
        ".gitignore",
    }
    missing = {path.relative_to(ROOT).parts[0] for path in FILES} - included
    assert not missing, f"name them under [tool.hatch.build.targets.sdist]: {sorted(missing)}"


# -- plain English -------------------------------------------------------------------------------------------

DIALECT = re.compile(
    # Words that a native technical writer would not use here: name the caller, the client, the server.
    r"\b(?i:anew|whoever|nobody|somebody|everybody|meanwhile|for ever|(?:in|out)side of|mends?|mended)\b"
    r"|\b(?:an|each|every|its|the|their|whose) askers?\b"
    r"|\bturns slow\b"
    # "a name that is none", "what is no number": write "not a valid name", "is not a number".
    r"|(?<![Tt]here )\b(?:is|are|was|were) (?:none|no (?!longer\b|more than\b|[a-z]+er than\b)[a-z]+)\b"
    # "Who reads slowly …": write "A slow reader …". Questions are left alone.
    r"|(?:^|(?<=[.:;] ))[Ww]ho (?![^.:;]*\?)"
)
# Public docstrings that are still to be rewritten, by package. These numbers may only shrink.
DIALECT_LEFT: dict[str, int] = {
    "actors": 126,
    "pools": 48,
    "protocols/http": 15,
    "protocols/kafka": 83,
    "protocols/postgres": 48,
    "protocols/redis": 38,
}
_code = re.compile(r"^```\w*\n.*?^```$|^    .*?$|`[^`]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)
PROSE = [path for path in FILES if path.suffix == ".md"]
PROGRAMS = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in SPOKEN]


def dialect_in(text: str) -> list[str]:
    """What of it is on the list, each with a few words around."""
    flat = " ".join(text.split())
    return [flat[max(0, found.start() - 40) : found.end() + 30] for found in DIALECT.finditer(flat)]


def prose_of(path: Path) -> str:
    """A page without its code; of the changelog what is not released yet."""
    text = path.read_text()
    return _code.sub("", text.partition("\n## [0.")[0] if path.name == "CHANGELOG.md" else text)


def docstrings_of(path: Path) -> list[str]:
    """Those that a user can come to see: of the module, of public classes, functions and methods."""
    found: list[str] = []

    def read(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        found.append(ast.get_docstring(node) or "")
        inner = [] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else node.body
        for each in inner:
            if (
                isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and each.name[0] != "_"
            ):
                read(each)

    read(tree_of(path))
    return found


def messages_of(path: Path) -> list[str]:
    """The texts of a module other than docstrings: of errors, of helps, of the log."""
    tree = tree_of(path)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if " " in node.value and id(node) not in alone
    ]


def package_of(path: Path) -> str:
    """`pools`, `protocols/kafka`: what the numbers are kept by, so that files can be moved."""
    parts = path.relative_to(ROOT).parts[:-1]
    return "/".join(parts[:2]) if parts[0] == "protocols" else parts[0]


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_pages_are_in_plain_english(path: Path) -> None:
    assert not dialect_in(prose_of(path))


@pytest.mark.no_cover
@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_messages_are_in_plain_english(path: Path) -> None:
    assert not [words for message in messages_of(path) for words in dialect_in(message)]


@pytest.mark.no_cover
@pytest.mark.parametrize("package", sorted({package_of(path) for path in PROGRAMS}))
def test_docstrings_come_to_plain_english(package: str) -> None:
    found = [
        f"{name_of(path)}: … {words} …"
        for path in PROGRAMS
        if package_of(path) == package
        for docstring in docstrings_of(path)
        for words in dialect_in(docstring)
    ]
    assert len(found) <= DIALECT_LEFT.get(package, 0), "\n".join(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "Nobody waits.",
        "The body is run anew.",
        "Raises `ValueError` for what is no number.",
        "An inet that is none.",
        "It stops. Who reads slowly slows the connection down.",
        "A lock, held for\never.",
    ],
)
def test_the_dialect_is_recognised(sentence: str) -> None:
    assert len(dialect_in(sentence)) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "There is no other event loop.",
        "The connection is no longer used.",
        "Who gets what?",
        "The caller, who waits, is told.",
        "A forever loop.",
    ],
)
def test_plain_english_is_left_alone(sentence: str) -> None:
    assert not dialect_in(sentence)
