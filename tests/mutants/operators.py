"""What a mutant is: one small change to one statement inside a function, made in the syntax tree.

Rules:
1. A change keeps every line where it is, so that a mutated function can be told by its place.
2. Words are left alone: strings, f-strings, docstrings, annotations, and what is handed to a log.
3. Where two changes would say the same, one is made: what decides an `if` is made to say always and never,
   and is not negated besides.
4. A deleted statement becomes dead code instead of going away: names stay local, generators stay generators,
   and a function keeps its free variables, without which its code could not be put in place.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Change", "Module", "Mutant"]

BOUNDARIES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITES = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
LEFT_ALONE = {"strict", "stacklevel"}  # arguments: checks of ourselves
LOG_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
OTHERS: dict[type, Callable[[Any], tuple[object, ...]]] = {
    bool: lambda value: (not value,),
    int: lambda value: (value + 1, value - 1) if value > 0 else (value + 1,),
    float: lambda value: (value + 1.0,),
    bytes: lambda value: (value + b"!",),
}
"""What else a constant could be."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


class Change(NamedTuple):
    """Put `new` into a field of `holder`, at `index` where the field is a list."""

    operator: str
    holder: ast.AST
    field: str
    index: int | None
    new: Any

    def make(self) -> Change:
        """Make it, and give the change that undoes it."""
        if self.index is None:
            old = getattr(self.holder, self.field)
            setattr(self.holder, self.field, self.new)
        else:
            items = getattr(self.holder, self.field)
            old, items[self.index] = items[self.index], self.new
        return self._replace(new=old)


class Site(NamedTuple):
    """A change, the function that it is in, and the statement."""

    function: str
    statement: ast.stmt
    change: Change


@dataclass(frozen=True)
class Mutant:
    """One change, in words. `number` finds it in its module, `lines` are those of its statement's head."""

    path: str
    number: int
    function: str
    operator: str
    lines: tuple[int, int]
    before: str
    after: str

    @property
    def key(self) -> str:
        """What it is told by when lines have moved."""
        return f"{self.path} {self.function}: {self.before} -> {self.after}"

    def __str__(self) -> str:
        place = f"{self.path}:{self.lines[0]} {self.function} [{self.operator}]"
        return f"{place}\n  - {self.before}\n  + {self.after}"


class Module:
    """A source file and all changes that can be made to it."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(root))
        self.tree = ast.parse(path.read_text())
        self.changes = list(outside(self.tree.body, ""))

    def code(self, number: int | None = None) -> CodeType:
        """The module compiled, with one change made or with none."""
        undo = None if number is None else self.changes[number].change.make()
        try:
            return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec", dont_inherit=True)
        finally:
            if undo is not None:
                undo.make()

    def mutants(self) -> Iterator[Mutant]:
        """All of them, in the order of the file."""
        for number, (function, statement, change) in enumerate(self.changes):
            before, after = head(statement), "(deleted)"
            if change.operator in ("break", "continue"):
                after = head(change.new)
            elif change.operator != "delete":
                undo = change.make()
                after = head(statement)
                undo.make()
            lines = statement.lineno, last_line_of_head(statement)
            yield Mutant(self.name, number, function, change.operator, lines, before, after)


# -- statements ----------------------------------------------------------------------------------------------


def outside(statements: list[ast.stmt], scope: str) -> Iterator[Site]:
    """Outside of functions only these are looked for: what runs at import cannot be put in place later."""
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield from outside(statement.body, f"{scope}{statement.name}.")
        elif isinstance(statement, FUNCTIONS):
            if not any(ast.unparse(each).endswith("overload") for each in statement.decorator_list):
                yield from inside(statement, "body", f"{scope}{statement.name}")
        elif isinstance(statement, ast.If | ast.Try):
            yield from outside([*statement.body, *statement.orelse], scope)


def inside(holder: ast.AST, block: str, function: str) -> Iterator[Site]:
    """All changes to the statements of a block, and to those within them."""
    for index, statement in enumerate(getattr(holder, block)):
        if isinstance(statement, ast.Assert | ast.Import | ast.ImportFrom | ast.ClassDef):
            continue
        if isinstance(statement, ast.stmt) and not isinstance(statement, FUNCTIONS):
            for change in [*of_statement(holder, block, index, statement), *of_expressions(statement)]:
                yield Site(function, statement, change)
        for field in BLOCKS:
            if getattr(statement, field, None):
                yield from inside(statement, field, function)


def of_statement(holder: ast.AST, block: str, index: int, statement: ast.stmt) -> Iterator[Change]:
    match statement:
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom()):
            yield deleted(holder, block, index, statement)
        case ast.Raise() | ast.Delete() | ast.AugAssign():
            yield deleted(holder, block, index, statement)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield deleted(holder, block, index, statement)
        case ast.AnnAssign(target=ast.Attribute() | ast.Subscript(), value=ast.expr()):
            yield deleted(holder, block, index, statement)
        case ast.Break():
            yield Change("break", holder, block, index, ast.copy_location(ast.Continue(), statement))
        case ast.Continue():
            yield Change("continue", holder, block, index, ast.copy_location(ast.Break(), statement))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield Change("return", statement, "value", None, constant(None, value))
        case ast.While(test=test) if not isinstance(test, ast.Constant):
            yield Change("never", statement, "test", None, joined(ast.And(), test, False))
    if (
        isinstance(statement, ast.AugAssign)
        and type(statement.op) in ARITHMETIC
        and not is_words(statement.value)
    ):
        yield Change("arithmetic", statement, "op", None, ARITHMETIC[type(statement.op)]())


def of_expressions(statement: ast.stmt) -> Iterator[Change]:
    """All changes to what a statement itself computes."""
    for field, value in ast.iter_fields(statement):
        if field not in (*BLOCKS, "annotation"):
            for index, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(item, ast.withitem):
                    yield from of_expression(item, "context_expr", None, item.context_expr)
                elif isinstance(item, ast.expr):
                    yield from of_expression(statement, field, index, item)


# -- expressions ---------------------------------------------------------------------------------------------


def of_expression(holder: ast.AST, field: str, index: int | None, node: ast.expr) -> Iterator[Change]:
    decides = field == "test" and isinstance(holder, ast.If | ast.IfExp)
    if decides:
        yield Change("always", holder, field, index, joined(ast.Or(), node, True))
        yield Change("never", holder, field, index, joined(ast.And(), node, False))
    elif field == "ifs":
        yield Change("always", holder, field, index, joined(ast.Or(), node, True))
    match node:
        case ast.JoinedStr():
            return
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="log"), attr=level)) if level in LOG_LEVELS:
            return
        case ast.Compare(ops=[op]):
            if type(op) in BOUNDARIES:
                yield swapped("boundary", holder, field, index, node, BOUNDARIES[type(op)]())
            if not decides and field != "ifs":
                yield swapped("negated", holder, field, index, node, OPPOSITES[type(op)]())
        case ast.BoolOp(op=ast.And()):
            yield swapped("boolean", holder, field, index, node, ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield swapped("boolean", holder, field, index, node, ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            if not decides:
                yield Change("not", holder, field, index, operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield Change("minus", holder, field, index, operand)
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not (is_words(node.left) or is_words(node.right)):
            yield swapped("arithmetic", holder, field, index, node, ARITHMETIC[type(op)]())
        case ast.Constant(value=value):
            for other in OTHERS.get(type(value), lambda _: ())(value):
                yield Change("constant", holder, field, index, constant(other, node))
    yield from of_parts(node)


def of_parts(node: ast.AST) -> Iterator[Change]:
    for field, value in ast.iter_fields(node):
        if field == "args" and isinstance(value, ast.arguments):
            continue
        for index, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, ast.expr):
                yield from of_expression(node, field, index, item)
            elif (
                isinstance(item, ast.comprehension | ast.keyword)
                and getattr(item, "arg", "") not in LEFT_ALONE
            ):
                yield from of_parts(item)


# -- making --------------------------------------------------------------------------------------------------


def deleted(holder: ast.AST, block: str, index: int, statement: ast.stmt) -> Change:
    dead = ast.If(test=constant(False, statement), body=[statement], orelse=[])
    return Change("delete", holder, block, index, ast.copy_location(dead, statement))


def constant(value: object, place: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Constant(value), place)  # type: ignore[arg-type]


def joined(op: ast.boolop, test: ast.expr, value: bool) -> ast.expr:
    """What the test does is done all the same."""
    return ast.copy_location(ast.BoolOp(op, [test, constant(value, test)]), test)


def swapped(
    operator: str, holder: ast.AST, field: str, index: int | None, node: ast.expr, op: ast.AST
) -> Change:
    other = copy.copy(node)
    other.__dict__.update({"ops": [op]} if isinstance(node, ast.Compare) else {"op": op})
    return Change(operator, holder, field, index, other)


def is_words(node: ast.expr) -> bool:
    """What is put together with `+` that is no number."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return is_text or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple)


# -- telling -------------------------------------------------------------------------------------------------


def blocks(statement: ast.AST) -> list[ast.AST]:
    return [inner for field in BLOCKS for inner in getattr(statement, field, ())]


def head(statement: ast.stmt) -> str:
    """A statement in one line, of a compound one without what is in it."""
    if blocks(statement):
        statement = copy.copy(statement)
        for field in BLOCKS:
            if hasattr(statement, field):
                setattr(statement, field, [ast.Pass()] if field == "body" else [])
        return " ".join(ast.unparse(statement).removesuffix("pass").split())
    return " ".join(ast.unparse(statement).split())


def last_line_of_head(statement: ast.stmt) -> int:
    inner = blocks(statement)
    last = statement.end_lineno or statement.lineno
    return max(statement.lineno, inner[0].lineno - 1) if inner and hasattr(inner[0], "lineno") else last
