"""Putting a mutant in place: functions keep their identity and get other code.

Whoever holds a function already, by `from ... import`, in a table, as a property or bound to an object, has
the mutant from then on; nothing is imported anew.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType

__all__ = ["Functions", "load"]

Place = tuple[str, int, int]


class Functions:
    """Those that are alive now, by their file."""

    def __init__(self) -> None:
        self.of_file: dict[str, list[FunctionType]] = defaultdict(list)
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType):
                self.of_file[thing.__code__.co_filename].append(thing)

    def put(self, module: CodeType) -> int:
        """Give all functions of this module's file their code in `module`; says how many have changed."""
        new = dict(codes(module))
        changed = 0
        for function in self.of_file[module.co_filename]:
            code = new.get(place_of(function.__code__))
            if code is not None and code != function.__code__:
                function.__code__ = code
                changed += 1
        return changed


def load(path: Path) -> bool:
    """Import a source file, so that its functions are there to be changed: some are imported only when they
    are needed. False if what it needs is not installed."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    try:
        import_module(".".join(parts))
    except ImportError:
        return False
    return True


def codes(module: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """All code in a module, and where it stands."""
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            yield place_of(constant), constant
            yield from codes(constant)


def place_of(code: CodeType) -> Place:
    """Its name and line, and for lambdas that share a line the column of what they give."""
    columns = [position[2] for position in code.co_positions() if position[2]]
    column = min(columns) if code.co_name == "<lambda>" and columns else 0
    return code.co_qualname, code.co_firstlineno, column
