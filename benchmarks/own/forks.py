"""Runs programs in forks of one process that has imported Windlass already, for `benchmarks.counting`.

    python -m benchmarks.own.forks

Each line that it reads is a JSON list: a module, and the arguments that it takes as a program. The number of
the process in which that runs is printed when it begins, its exit status when it has ended.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - so that no program has to
import json
import os
import runpy
import sys

import actors  # noqa: F401
import pools  # noqa: F401
from protocols import http, kafka, postgres, redis  # noqa: F401


def main() -> None:
    """Until there are no more lines."""
    os.set_inheritable(0, False)
    while line := sys.stdin.readline():
        sys.argv = json.loads(line)
        if pid := os.fork():
            print(pid, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            os.dup2(2, 1)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
            sys.stdout.flush()
            os._exit(0)  # what the end of an interpreter costs is nobody's


if __name__ == "__main__":
    main()
