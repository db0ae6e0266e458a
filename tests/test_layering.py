"""The house has five floors and imports only go down; what is not deterministic comes in by named doors.

`actors` imports nothing of ours, `pools` only `actors`, `protocols` only those two, `windlass` all three.
Clocks, sockets, random numbers, threads and other loops are used only by the modules named in `DOORS`, each
with its reason; naming a type (`socket.socket`) or a constant (`socket.IPPROTO_TCP`) is free. Importing never
needs a cycle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.modules import MODULES, imports, tree_of

MAY_IMPORT = {
    "actors": set(),
    "pools": {"actors"},
    "protocols": {"actors", "pools"},
    "windlass": {"actors", "pools", "protocols"},
}
OURS = {*MAY_IMPORT, "examples", "tests", "benchmarks"}
NOT_IMPORTED = {"asyncio", "trio", "threading", "_thread", "concurrent", "multiprocessing", "queue"}
NOT_USED = {"time", "random", "secrets", "socket", "select", "selectors"}
DOORS = {
    "actors.kernel*": (
        {"time", "random", "socket", "select", "selectors"},
        "the real kernel: the one way to the system",
    ),
    "actors.net.resolver*": ({"threading", "time", "socket"}, "getaddrinfo exists only as a blocking call"),
    "actors.lines*": ({"select"}, "its subject is whether a log's reader takes a line now"),
    "actors.notifier*": ({"threading"}, "its subject is waking a loop from another thread"),
    "actors.current*": ({"threading"}, "which loop is current is a fact about a thread"),
    "actors.callbacks*": ({"threading"}, "which callbacks wait for their turn is a fact about a thread"),
    "actors.embedding*": (
        {"asyncio", "trio", "threading", "queue"},
        "its subject is running beside other loops and threads",
    ),
    "actors.workers*": (
        {"socket", "threading"},
        "its subject is processes: sockets that are made before a fork, threads that must not be",
    ),
    "actors.simulation.guard*": (
        {"time", "random", "secrets", "socket", "select", "threading"},
        "it bars them from a simulated program",
    ),
    "actors.simulation.reality*": (
        {"time", "socket", "select"},
        "it runs scenarios on the real kernel: its subject is the system's own sockets and time",
    ),
    "actors.simulation.decisions*": ({"random"}, "every generator of a simulation, seeded"),
    "windlass.main*": ({"threading"}, "a program: signals come to the main thread only"),
    "windlass.proxy*": ({"time"}, "a program: its log has the time of the system"),
    "windlass.sim*": (
        {"time", "concurrent", "multiprocessing"},
        "a program: it runs simulations in as many processes as there are cores",
    ),
}


def outside_annotations(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that is there when the program runs, not only for the type checker."""
    for field, value in ast.iter_fields(tree):
        if field not in ("annotation", "returns"):
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, ast.AST):
                    yield node
                    yield from outside_annotations(node)


def used(path: Path) -> set[str]:
    """Modules of `NOT_USED` of which more is used than constants and types, or which are given away whole."""
    found, imported, constants = set(), set(), set()
    for node in outside_annotations(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.isupper():
            constants.add(node.value)
        elif isinstance(node, ast.Name) and node not in constants:
            found.add(node.id)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
            found |= {alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not all(alias.name.isupper() for alias in node.names):
            imported.add(node.module or "")
            found.add(node.module or "")
    return found & imported & NOT_USED


def doors_of(name: str) -> set[str]:
    return {
        module for pattern, (allowed, _) in DOORS.items() if fnmatchcase(name, pattern) for module in allowed
    }


def needed_by(name: str) -> set[str]:
    """What a module uses that is not deterministic."""
    imported = {imported.partition(".")[0] for imported in imports(name, MODULES[name])} & NOT_IMPORTED
    return imported | used(MODULES[name])


@pytest.mark.no_cover
@pytest.mark.parametrize("name", MODULES)
def test_imports_only_go_down(name: str) -> None:
    floor = name.partition(".")[0]
    reached = {imported.partition(".")[0] for imported in imports(name, MODULES[name])} & OURS
    assert reached <= {floor} | MAY_IMPORT[floor]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", MODULES)
def test_what_is_not_deterministic_comes_in_by_a_named_door(name: str) -> None:
    assert needed_by(name) <= doors_of(name), (
        "take it from the loop's kernel, or name the module and its reason in DOORS"
    )


@pytest.mark.no_cover
def test_importing_needs_no_cycle() -> None:
    def reached(name: str, path: Path) -> set[str]:
        # A package's `__init__` runs before its modules, so no module waits for the packages it lives in.
        return {
            other
            for other in imports(name, path, at_import_time=True)
            if not f"{name}.".startswith(f"{other}.")
        }

    graph = {name: reached(name, path) & MODULES.keys() for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules that import each other: " + " -> ".join(error.args[1]))


@pytest.mark.no_cover
@pytest.mark.parametrize("pattern", DOORS)
def test_every_door_is_needed(pattern: str) -> None:
    needed = [needed_by(name) for name in MODULES if fnmatchcase(name, pattern)]
    assert DOORS[pattern][0] == set().union(*needed) & DOORS[pattern][0], "close the doors that nothing uses"


def test_every_door_says_why() -> None:
    assert all(allowed <= NOT_IMPORTED | NOT_USED and reason for allowed, reason in DOORS.values())
