"""Sides: which side of each knob was taken, decision by decision.

That a knob was turned says little: the run may never have come to where it is read. So the functions that
decide by a knob are compiled once more, with each decision telling how it came out, and for as long as a
recording lasts they run with that code instead of their own. Who records nothing pays nothing.

Rules:
1. A decision is the smallest expression around a knob that has two outcomes: a comparison; `min` and `max`
   (is it the knob's?); `range` in a loop (did it come to its end?); a slice (was anything left out?).
2. What was set from a knob by arithmetic decides for it: `self.due = now + SECONDS`, compared in that class.
3. Where a knob is only handed on (a capacity, a pause), there is nothing to see here: `Recording.silent`.
"""

from __future__ import annotations

import ast
import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any, Final, NamedTuple, Self

from .knobs import knobs_of

__all__ = ["Decision", "Recording"]

HOOKS: Final = ("__decided__", "__chosen__", "__gone_through__", "__cut__")
SETTERS: Final = (ast.Assign, ast.AnnAssign)
NEITHER, NO, YES, BOTH = range(4)


class Decision(NamedTuple):
    """Where a knob decides."""

    knob: str
    place: str
    """The function's dotted name, and the expression."""


class Recording:
    """Which sides are taken while it is entered. `packages`: whose knobs (those of `actors` always)."""

    def __init__(self, packages: Sequence[str] = ()) -> None:
        knobs = knobs_of(tuple(packages))
        self.knobs = tuple(knobs)
        self.decisions: list[Decision] = []
        self._outcomes = bytearray()
        self._codes: list[tuple[FunctionType, CodeType, CodeType]] = []
        self._modules: list[ModuleType] = []
        places: dict[str, dict[str, str]] = defaultdict(dict)  # by module: constants, and whose knob they are
        for knob in knobs.values():
            for place in (knob.name, *knob.also):
                module, _, name = place.rpartition(".")
                places[module][name] = knob.name
        for name in sorted(places):
            self._compile(importlib.import_module(name), places[name])
        self._outcomes = bytearray(len(self.decisions))

    def __repr__(self) -> str:
        both = self._outcomes.count(BOTH)
        return f"<Recording {both} of {len(self.decisions)} decisions taken both ways>"

    def __enter__(self) -> Self:
        for module in self._modules:
            for hook in HOOKS:
                setattr(module, hook, getattr(self, hook.strip("_")))
        for function, _, told in self._codes:
            function.__code__ = told
        self._forget()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for function, own, _ in self._codes:
            function.__code__ = own
        for module in self._modules:
            for hook in HOOKS:
                delattr(module, hook)
        self._forget()

    def _forget(self) -> None:
        """What these modules remember may have been made by the other code: functions within functions."""
        for module in self._modules:
            for value in list(vars(module).values()):
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()

    # -- what was seen ---------------------------------------------------------------------------------------

    @property
    def taken(self) -> set[tuple[str, bool]]:
        """Places, and how they came out."""
        return {
            (decision.place, outcome)
            for decision, seen in zip(self.decisions, self._outcomes, strict=True)
            for outcome in (False, True)
            if seen & (YES if outcome else NO)
        }

    @property
    def silent(self) -> set[str]:
        """Knobs that are handed on, and decide nowhere that can be seen here."""
        return set(self.knobs) - {decision.knob for decision in self.decisions}

    def missing(self, taken: Iterable[tuple[str, bool]] = ()) -> list[tuple[str, bool]]:
        """The sides that were never taken, neither here nor among these."""
        known = self.taken.union(taken)
        return [
            (decision.place, outcome)
            for decision in self.decisions
            for outcome in (False, True)
            if (decision.place, outcome) not in known
        ]

    # -- what is called instead ------------------------------------------------------------------------------

    def decided(self, number: int, outcome: Any) -> Any:
        """A comparison."""
        self._outcomes[number] |= YES if outcome else NO
        return outcome

    def chosen(self, number: int, which: int, choose: Callable[..., Any], *among: Any) -> Any:
        """`min` or `max`: yes if it is the knob's."""
        found = choose(*among)
        self._outcomes[number] |= YES if found == among[which] else NO
        return found

    def gone_through(self, number: int, numbers: Iterable[int]) -> Iterator[int]:
        """A loop: yes if it comes to its end."""
        outcome = NO
        try:
            yield from numbers
            outcome = YES
        finally:
            self._outcomes[number] |= outcome

    def cut(self, number: int, whole: Any, part: slice) -> Any:
        """A slice: yes if something behind it is left out."""
        self._outcomes[number] |= YES if part.stop < len(whole) else NO
        return whole[part]

    # -- compiling -------------------------------------------------------------------------------------------

    def _compile(self, module: ModuleType, constants: dict[str, str]) -> None:
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text())
        teller = Teller(module.__name__, constants, len(self.decisions))
        told = ast.fix_missing_locations(teller.visit(tree))
        if not teller.decisions:
            return
        self.decisions += teller.decisions
        self._modules.append(module)
        codes = dict(functions_in(compile(told, module.__file__, "exec", dont_inherit=True)))
        for function in functions_of(module):
            own = function.__code__
            code = codes.get((own.co_qualname, own.co_firstlineno))
            if code is not None and tells(code) and code.co_freevars == own.co_freevars:
                self._codes.append((function, own, code))


def functions_in(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Every function that some code makes, by its name and first line."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from functions_in(constant)


def tells(code: CodeType) -> bool:
    """Whether there is a decision in it."""
    return not set(HOOKS).isdisjoint(code.co_names) or any(
        isinstance(constant, CodeType) and tells(constant) for constant in code.co_consts
    )


def functions_of(owner: object) -> Iterator[FunctionType]:
    """The functions of a module and of its classes."""
    module = getattr(owner, "__module__", None) or getattr(owner, "__name__", None)
    for thing in list(vars(owner).values()):
        if isinstance(thing, type) and thing.__module__ == module:
            yield from functions_of(thing)
        wraps = (thing, *(getattr(thing, name, None) for name in ("fget", "fset", "__func__", "__wrapped__")))
        for function in wraps:
            if isinstance(function, FunctionType) and function.__module__ == module:
                yield function


class Teller(ast.NodeTransformer):
    """Has each decision of a module tell how it comes out."""

    def __init__(self, module: str, constants: dict[str, str], first: int) -> None:
        self.decisions: list[Decision] = []
        self._constants = constants
        self._first = first
        self._names: list[str] = [module]
        self._set: list[dict[str, str]] = []  # by class: attributes that are set from a knob
        self._in_function = 0
        self._seen: Counter[str] = Counter()

    # -- where we are

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Its attributes first."""
        attributes = {
            target.attr: knob
            for inner in ast.walk(node)
            if isinstance(inner, SETTERS) and inner.value is not None and (knob := self._made_of(inner.value))
            for target in (inner.targets if isinstance(inner, ast.Assign) else [inner.target])
            if isinstance(target, ast.Attribute)
        }
        self._set.append(attributes)
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()
        self._set.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        """What it does is done while the program runs."""
        self._names.append(getattr(node, "name", "<lambda>"))
        self._in_function += 1
        self.generic_visit(node)
        self._in_function -= 1
        self._names.pop()
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - as the visitor calls it
    visit_Lambda = visit_FunctionDef  # noqa: N815

    # -- knobs

    def _made_of(self, node: ast.expr) -> str | None:
        """The knob of which a value is made by arithmetic."""
        if isinstance(node, ast.Name):
            return self._constants.get(node.id)
        if isinstance(node, ast.BinOp):
            return self._made_of(node.left) or self._made_of(node.right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "delay":
            return self._made_of(node.func.value)
        return None

    def _knob_in(self, node: ast.AST, *, by_attribute: bool = False) -> str | None:
        """The knob that is read in an expression, or in what was set from it."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in self._constants:
                return self._constants[inner.id]
            if by_attribute and isinstance(inner, ast.Attribute) and self._set:
                knob = self._set[-1].get(inner.attr)
                if knob is not None:
                    return knob
        return None

    def _tell(self, hook: str, knob: str, shown: str, *arguments: ast.expr) -> ast.Call:
        place = f"{'.'.join(self._names)}: {shown}"
        self._seen[place] += 1
        if self._seen[place] > 1:
            place += f" ({self._seen[place]})"
        number = ast.Constant(self._first + len(self.decisions))
        self.decisions.append(Decision(knob, place))
        return ast.Call(ast.Name(hook, ast.Load()), [number, *arguments], [])

    # -- decisions

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """The smallest that there is: what it is made of is not looked at. Whether something was set at all
        is no decision of the knob's."""
        ordered = not isinstance(node.ops[0], ast.Is | ast.IsNot | ast.In | ast.NotIn)
        never = any(isinstance(inner, ast.Name) and inner.id == "NEVER" for inner in ast.walk(node))
        knob = self._knob_in(node, by_attribute=not never) if self._in_function and ordered else None
        return self._tell("__decided__", knob, ast.unparse(node), node) if knob else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`min` and `max`."""
        if self._in_function and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            for which, argument in enumerate(node.args):
                knob = self._knob_in(argument)
                if knob and len(node.args) > 1 and not isinstance(argument, ast.Starred):
                    shown = ast.unparse(node)
                    self.generic_visit(node)
                    told = ast.Constant(which), node.func, *node.args
                    return self._tell("__chosen__", knob, shown, *told)
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        """Through a range."""
        call = node.iter
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range":
            knob = self._knob_in(call) if self._in_function else None
            if knob:
                node.iter = self._tell("__gone_through__", knob, f"for … in {ast.unparse(call)}", call)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Up to somewhere."""
        part = node.slice
        if self._in_function and isinstance(part, ast.Slice) and isinstance(node.ctx, ast.Load):
            knob = self._knob_in(part.upper) if part.upper is not None and part.step is None else None
            if knob:
                shown = ast.unparse(node)
                bounds: list[ast.expr] = [part.lower or ast.Constant(None), part.upper or ast.Constant(None)]
                upto = ast.Call(ast.Name("slice", ast.Load()), bounds, [])
                return self._tell("__cut__", knob, shown, node.value, upto)
        return self.generic_visit(node)
