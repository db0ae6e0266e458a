"""The entry of the `windlass` command.

It stands beside the packages, and not in `protocols.command`, because importing that imports all the others:
half a second in which Ctrl-C must end the process as it ends any other, without a traceback.
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
    from protocols.command import main as run

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
