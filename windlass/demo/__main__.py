"""Starts one of the demo's programs: `python -m windlass.demo ROLE ...`."""

from __future__ import annotations

import sys

from .programs import run_program

__all__: list[str] = []

if __name__ == "__main__":
    run_program(sys.argv[1], sys.argv[2:])
