"""What stands in the source of the four packages: their modules, read once, and what each of them imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["FLOORS", "MODULES", "ROOT", "import_statements", "imports", "is_type_checking", "tree_of"]

ROOT = Path(__file__).parent.parent
FLOORS = ("actors", "pools", "protocols", "windlass")


def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    found = {}
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module, parsed once for all tests that ask."""
    return ast.parse(path.read_text())


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_statements(
    tree: ast.AST, *, at_import_time: bool, typed: bool = False
) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run. Those inside functions are left out for `at_import_time`; those that only a
    type checker reads come in for `typed`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif is_type_checking(node) and not typed:
            for branch in node.orelse:  # type: ignore[attr-defined]
                yield from import_statements(branch, at_import_time=at_import_time)
        elif not isinstance(node, ast.expr) and not (
            at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            yield from import_statements(node, at_import_time=at_import_time, typed=typed)


@cache
def imports(name: str, path: Path, *, at_import_time: bool = False, typed: bool = False) -> tuple[str, ...]:
    """Dotted names that a module imports, made absolute; `from a import b` is `a.b` if that is a module."""
    found: list[str] = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in import_statements(tree_of(path), at_import_time=at_import_time, typed=typed):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
            continue
        source = source_of(node, package)
        for alias in node.names:
            found.append(f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source)
    return tuple(found)


def source_of(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of what a `from … import` inside `package` reads."""
    source = node.module or ""
    if node.level:
        base = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*base, source]) if source else ".".join(base)
    return source
