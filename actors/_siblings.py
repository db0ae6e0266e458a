"""The packages are called `actors`, `pools` and `protocols`; another installed thing may be called so too.

Each package's `__init__` calls `check_siblings`, so that a mix of ours and somebody else's fails at once and
says which folder is in the way, instead of failing later in a way that nobody understands.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["check_siblings"]

SIBLINGS = ("actors", "pools", "protocols")


def check_siblings(package: str, file: str) -> None:
    """Raise `ImportError` if a sibling of `package`, whose `__init__` is `file`, would come from another
    folder.

    Nothing is imported. A sibling that is not there is no error: whoever imports it will be told so.
    """
    home = Path(file).resolve().parent.parent
    for name in SIBLINGS:
        folder = None if name == package else where(name)
        if folder is not None and folder.resolve().parent != home:
            raise ImportError(
                f"{package} of Windlass is in {home}, but `import {name}` finds {folder}, which is not "
                "Windlass's; rename or remove that folder, or put Windlass before it in sys.path"
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
