"""Tables of the documentation that follow a comment such as `<!-- defaults: pools.pool -->` are held against
the code: see `CHECKS`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pages import PAGES, ROOT
from windlass.proxy.command import proxy_parser

UNITS = {"": 1, "s": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_check = re.compile(
    r"^<!-- (?!figures)(\w+)(?:: (\S+))? -->\n\n?((?:\|.*\n)+)",
    re.MULTILINE,
)


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
        home = thing.__module__.partition(".")[0]  # what a package below has declared, its own page tells
        own = [base for base in reversed(thing.__mro__) if base.__module__.partition(".")[0] == home]
        fields = {field.name: field for field in msgspec.structs.fields(thing)}
        declared = [
            fields[name] for base in own for name in vars(base).get("__annotations__", {}) if name in fields
        ]
        return {field.name: field.default for field in declared if not field.required}
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
        for package in ("actors", "pools", "protocols", "windlass")
        for path in (ROOT / package).rglob("*.py")
    ]
    calls = [
        node
        for text in modules
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and node.args
    ]
    logged = {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("info", "warning", "error", "warn", "_say")
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant)
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


def test_every_kind_of_table_is_on_some_page() -> None:
    assert {kind for _, kind, _, _ in TABLES} == CHECKS.keys()
