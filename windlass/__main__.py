"""The `windlass` command, and `python -m windlass`.

`main` imports the command, because that imports everything: half a second in which Ctrl-C must end the
process as it ends any other, without a traceback.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Import the command, then run it; returns the exit status."""
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # and not ignored, as by nohup
    if asked:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from windlass.main import main as run

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":  # and not in the processes that it starts
    sys.exit(main())
