"""`python -m protocols.command`: the `windlass` command where it is not installed."""

from __future__ import annotations

import sys

from . import main

__all__: list[str] = []

if __name__ == "__main__":  # and not in the processes that it starts
    sys.exit(main())
