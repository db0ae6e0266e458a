"""The packages are called `actors`, `pools`, `protocols` and `windlass`; something else may be called so too.

Each package's `__init__` calls `check_siblings`, so that a mix of ours and somebody else's fails at once and
says what is in the way, instead of failing later in a way that nobody understands. Two things happen:

1. Another folder or module of that name comes first in `sys.path`.
2. Another distribution of that name was installed over ours, so that its `__init__` stands in our folder.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["check_siblings"]

SIBLINGS = ("actors", "pools", "protocols", "windlass")
PROGRAM = "windlass"
"""Nothing below imports it, so a program that uses Windlass may be called so."""
MARK = b"check_siblings("
"""What each of our packages calls in its `__init__`, and nobody else's does."""


def check_siblings(package: str, file: str) -> None:
    """Raise `ImportError` if a sibling of `package`, whose `__init__` is `file`, is not Windlass's.

    Nothing is imported. A missing sibling is no error here: the import that needs it fails by itself.
    """
    home = Path(file).resolve().parent.parent
    for name in SIBLINGS:
        found = None if name == package else where(name)
        if found is None:
            continue
        if found.resolve().parent != home:
            if name == PROGRAM:
                continue
            raise ImportError(
                f"{package} of Windlass is in {home}, but `import {name}` finds {found}, which is not "
                "Windlass's; rename or remove it, or put Windlass before it in sys.path"
            )
        if not is_ours(found):
            raise ImportError(
                f"{found / '__init__.py'} is not Windlass's: {owners(name)} was installed over it; uninstall "
                "that, then install Windlass (the distribution windlass-runtime) again"
            )


def where(name: str) -> Path | None:
    """The folder (or the module's file) that `import name` would use, without importing it."""
    loaded = sys.modules.get(name)
    spec = PathFinder.find_spec(name) if loaded is None else loaded.__spec__
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


def is_ours(folder: Path) -> bool:
    """Whether the package in `folder` is one of ours. One that cannot be read, in a zip file say, counts."""
    try:
        return MARK in (folder / "__init__.py").read_bytes()
    except OSError:
        return True


def owners(name: str) -> str:
    """The distributions, other than ours, that have installed a package of this name."""
    from importlib.metadata import packages_distributions

    others = {owner for owner in packages_distributions().get(name, ()) if owner != "windlass-runtime"}
    return ", ".join(sorted(others)) or "another package of that name"
