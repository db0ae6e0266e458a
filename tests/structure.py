"""Counts what makes a house hard to change, prints it as a table, and says what is above its limit.

    python -m tests.structure             the table, and what is worse than the ratchet allows
    python -m tests.structure --all       with every place
    python -m tests.structure --tighten   the ratchet takes the numbers of today where they are smaller

What is counted, in `actors`, `pools`, `protocols` and `windlass`:

attributes   what an object of a class keeps: names in `__slots__` and those that the class's own methods
             assign to `self`; the fields of a struct that may change. At most 16. Inherited ones are counted
             where they are defined.
complexity   of each function: 1, and 1 for each `if`, `for`, `while`, `except`, `case`, conditional
             expression, comprehension and its conditions, and for each `and` and `or`. Nested functions are
             counted by themselves. At most 15.
foreign      assignments to an attribute of an object whose class stands in another module
             (`tests/inference.py` finds out what an object is). At most 2.5 for each 1,000 lines, blank ones
             and comments included, of all four packages together.
half made    fields that are declared as something and begin as None (`x: T = None  # type: ignore`), other
             ignored complaints that something may be None, and `assert x is not None` where `x` is an
             attribute of an object of ours, or a local copy of one: of each package, none at all.
cycles       modules that import each other, imports for the type checker and inside functions included; a
             package does not count as importing its own modules, nor the reverse. Only those in `CYCLES`.

An exception to the first two stands in a comment directly above the class or the function, with the number it
may have and the reason:

    # structure: 20 attributes: a parser's registers, all set by the one loop below
    # structure: complexity 24: hot loop; benchmarks job "hello", 6 % with the branches in functions

`structure.json` beside this file is the ratchet: what was above a limit when the table was made. A number in
it may shrink and never grow.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from tests.inference import (
    CLASSES,
    Function,
    assigned_in,
    attributes_of,
    functions_of,
    is_foreign,
    is_own,
    known_in,
    nodes_in,
)
from tests.inference import attributes_of_ours as ours
from tests.modules import MODULES, imports, tree_of

__all__ = ["CYCLES", "KINDS", "RATCHET", "Found", "above", "exceptions", "measure", "needless", "worse"]

RATCHET: Final = Path(__file__).with_name("structure.json")
ATTRIBUTES_MAX: Final = 16
COMPLEXITY_MAX: Final = 15
FOREIGN_MAX: Final = 2.5
"""For each 1,000 lines of the four packages."""
CORE: Final = (
    "callbacks current deadlines descriptors draining flows loop machine net.transports notifier replies"
    " scope signals spec timers tokens embedding.asyncio_host embedding.hosted embedding.hosting"
    " embedding.offload embedding.thread_host embedding.trio_host"
)
POOL: Final = "backends blame connections dialling exchanges pool queues suspects tunnels units wires"
CYCLES: Final[dict[frozenset[str], str]] = {
    frozenset(f"actors.{name}" for name in CORE.split()): (
        "a machine's scope names its loop, and the loop names all that it drives and what can drive it; "
        "most of this is for the type checker, and no import needs it"
    ),
    frozenset(f"pools.{name}" for name in POOL.split()): (
        "a pool, its connections and wires tell each other what happened; upwards they import types"
    ),
}
"""Modules that may import each other, or some of them, with the reason."""

_comment = re.compile(r"# structure: (?:(\d+) (attributes)|(complexity) (\d+)): (\S.{10,})")
_half_made = re.compile(r"^\s*\S+: .* = None  # type: ignore\[assignment\]|# type: ignore\[[^\]]*union-attr")
_branches = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)


class Found(NamedTuple):
    """One number: of what kind, where, how much, and each place that adds to it."""

    kind: str
    name: str
    count: int
    places: tuple[str, ...] = ()


@cache
def lines_of(module: str) -> list[str]:
    """The lines of a module."""
    return MODULES[module].read_text().splitlines()


def comment_above(module: str, node: ast.ClassDef | Function, kind: str) -> tuple[int, int]:
    """The line of the comment above a class or a function, and how much it allows; zeros without one."""
    number = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    lines = lines_of(module)
    while number and lines[number - 1].lstrip().startswith("#"):
        found = _comment.search(lines[number - 1])
        if found is not None and kind in (found[2], found[3]):
            return number, int(found[1] or found[4])
        number -= 1
    return 0, 0


@cache
def exceptions() -> dict[str, tuple[str, str, int]]:
    """Every `# structure:` comment by its place: the kind, the name and the number that it allows. A name
    that is empty: nothing reads it."""
    found = {
        f"{module}:{number}": ("", "", 0)
        for module in MODULES
        for number, line in enumerate(lines_of(module), 1)
        if "# structure:" in line
    }
    for name, owner in CLASSES.items():
        number, count = comment_above(owner.module, owner.node, "attributes")
        if number:
            found[f"{owner.module}:{number}"] = ("attributes", name, count)
    for module, path in MODULES.items():
        for name, function, _ in functions_of(tree_of(path)):
            number, count = comment_above(module, function, "complexity")
            if number:
                found[f"{module}:{number}"] = ("complexity", f"{module}.{name}", count)
    return found


def attributes() -> Iterator[Found]:
    """Of each class."""
    for name, owner in CLASSES.items():
        found = sorted(attributes_of(owner))
        yield Found("attributes", name, len(found), tuple(found))


def complexity_of(function: Function) -> int:
    """How many ways there are through a function, as the module's text counts them."""
    total, nodes = 1, list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, Function):
            continue
        if isinstance(node, _branches):
            total += 1 + (len(node.ifs) if isinstance(node, ast.comprehension) else 0)
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        nodes += ast.iter_child_nodes(node)
    return total


def complexities() -> Iterator[Found]:
    """Of each function."""
    for module, path in MODULES.items():
        for name, function, _ in functions_of(tree_of(path)):
            yield Found("complexity", f"{module}.{name}", complexity_of(function))


def by_package(kind: str, places_in: Callable[[str], Iterable[tuple[int, str]]]) -> Iterator[Found]:
    """What is found in each module, for whole packages: what only moves inside one changes nothing."""
    gathered: dict[str, list[str]] = {}
    for module in MODULES:
        floor, *rest = module.split(".")
        package = ".".join([floor, *rest[:1]]) if floor == "protocols" else floor
        places = gathered.setdefault(package, [])
        places += [f"{module}:{line}: {text}" for line, text in sorted(set(places_in(module)))]
    for package, places in gathered.items():
        if places:
            yield Found(kind, package, len(places), tuple(places))


def foreign_in(module: str) -> Iterator[tuple[int, str]]:
    """A module's assignments to attributes of others' objects."""
    for _, function, owner in functions_of(tree_of(MODULES[module])):
        targets = [target for target in assigned_in(function) if not is_own(target)]
        if targets:
            known = known_in(function, CLASSES.get(f"{module}.{owner.name}") if owner else None, module)
            for target in targets:
                if is_foreign(target, known, module):
                    yield target.lineno, ast.unparse(target)


def half_made_in(module: str) -> Iterator[tuple[int, str]]:
    """What begins as None in a module and is declared as something else, and what relies on it."""
    tree = tree_of(MODULES[module])
    lines = lines_of(module)
    for number, line in enumerate(lines, 1):
        if _half_made.search(line):
            yield number, line.strip()
    for _, function, _owner in functions_of(tree):
        copies = {
            target.id
            for node in nodes_in(function)
            if isinstance(node, ast.Assign | ast.NamedExpr) and is_kept(node.value)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for node in nodes_in(function):
            asserted = not_none(node)
            if asserted is not None and (
                is_kept(asserted) or (isinstance(asserted, ast.Name) and asserted.id in copies)
            ):
                yield asserted.lineno, lines[asserted.lineno - 1].strip()


def is_kept(node: ast.expr) -> bool:
    """Whether this is an attribute of an object of ours."""
    return isinstance(node, ast.Attribute) and node.attr in ours()


def not_none(node: ast.AST) -> ast.expr | None:
    """What is asserted not to be None."""
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
        test = node.test
        right = test.comparators[0]
        if isinstance(test.ops[0], ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
            return test.left
    return None


def cycles() -> Iterator[Found]:
    """The groups of modules that import each other, directly or by way of others."""
    graph = {name: reached(name) for name in MODULES}
    for group in strongly_connected(graph):
        if len(group) > 1 and not any(group <= named for named in CYCLES):
            yield Found("cycles", " ".join(sorted(group)), len(group))


def reached(name: str) -> list[str]:
    """The modules that one imports, without the packages it lives in and without what lives in it."""
    return [
        other
        for other in imports(name, MODULES[name], typed=True)
        if other in MODULES
        and not f"{name}.".startswith(f"{other}.")
        and not f"{other}.".startswith(f"{name}.")
    ]


def strongly_connected(graph: dict[str, list[str]]) -> list[frozenset[str]]:
    """Tarjan's algorithm (SIAM J. Comput. 1972), without recursion."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[frozenset[str]] = []
    for root, others in graph.items():
        work = [] if root in number else [(root, iter(others))]
        if work:
            number[root] = low[root] = len(number)
            stack.append(root)
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    work.append((other, iter(graph[other])))
                    break
                if other in stack:
                    low[node] = min(low[node], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    start = stack.index(node)
                    groups.append(frozenset(stack[start:]))
                    del stack[start:]
    return groups


KINDS: Final[dict[str, tuple[Callable[[], Iterator[Found]], int]]] = {
    "attributes": (attributes, ATTRIBUTES_MAX),
    "complexity": (complexities, COMPLEXITY_MAX),
    "foreign": (lambda: by_package("foreign", foreign_in), 0),
    "half made": (lambda: by_package("half made", half_made_in), 0),
    "cycles": (cycles, 0),
}
"""How each kind is counted, and the limit of one entry."""


@cache
def measure() -> dict[str, dict[str, Found]]:
    """Everything that is counted, by kind and by name."""
    return {kind: {found.name: found for found in count()} for kind, (count, _) in KINDS.items()}


def above() -> dict[str, dict[str, int]]:
    """What is above its limit, by kind and by name. All that is foreign is, while the whole is."""
    excepted = {(kind, name): count for kind, name, count in exceptions().values()}
    within = foreign_rate() <= FOREIGN_MAX
    return {
        kind: {
            name: found.count
            for name, found in sorted(measure()[kind].items())
            if found.count > excepted.get((kind, name), limit) and not (kind == "foreign" and within)
        }
        for kind, (_, limit) in KINDS.items()
    }


def foreign_rate() -> float:
    """Assignments to attributes of others' objects, for each 1,000 lines."""
    lines = sum(len(lines_of(module)) for module in MODULES)
    return 1000 * sum(found.count for found in measure()["foreign"].values()) / lines


def ratchet() -> dict[str, dict[str, int]]:
    """What may be above its limit for now. A cycle is named by its modules."""
    kept: dict[str, dict[str, int]] = json.loads(RATCHET.read_text())
    return {kind: kept.get(kind, {}) for kind in KINDS}


def allowed(kind: str, name: str) -> int:
    """How much the ratchet allows. A part of a cycle is allowed what the cycle is."""
    kept = ratchet()[kind]
    if kind == "cycles":
        return max((count for group, count in kept.items() if {*name.split()} <= {*group.split()}), default=0)
    return kept.get(name, 0)


def worse() -> list[str]:
    """What is above its limit and above the ratchet."""
    return [
        f"{kind} of {name}: {count}, allowed {max(allowed(kind, name), KINDS[kind][1])}"
        + "".join(f"\n    {place}" for place in measure()[kind][name].places)
        for kind, found in above().items()
        for name, count in found.items()
        if count > allowed(kind, name)
    ]


def needless() -> list[str]:
    """Entries of the ratchet that nothing needs any more."""
    today = above()
    return [
        f"{kind} of {name}" for kind, names in ratchet().items() for name in names if name not in today[kind]
    ]


def tighten() -> None:
    """Let the ratchet keep what is still needed of it, with the numbers of today where they are smaller."""
    kept = {
        kind: {name: min(count, allowed(kind, name)) for name, count in names.items() if allowed(kind, name)}
        for kind, names in above().items()
    }
    RATCHET.write_text(json.dumps(kept, indent=1) + "\n")


def table(everything: bool) -> str:
    """What a reader wants to see."""
    lines = ["kind         above the limit   the worst"]
    for kind, found in above().items():
        worst = sorted(found.items(), key=lambda one: -one[1])
        told = ", ".join(f"{name.partition(' ')[0]} {count}" for name, count in worst[:3])
        lines.append(f"{kind:12} {len(found):15}   {told}")
        for name, count in worst if everything else ():
            lines.append(f"    {count:3}  {name}")
            lines += [f"         {place}" for place in measure()[kind][name].places if ":" in place]
    lines.append(f"foreign assignments for each 1,000 lines: {foreign_rate():.2f} (at most {FOREIGN_MAX})")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--begin" in sys.argv:
        RATCHET.write_text(json.dumps(above(), indent=1) + "\n")
    if "--tighten" in sys.argv:
        tighten()
    sys.stdout.write(table("--all" in sys.argv) + "\n")
    sys.stdout.write("".join(f"WORSE: {one}\n" for one in worse()))
