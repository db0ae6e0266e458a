"""The `windlass` command: what a person runs. One module per subcommand.

Rules:
1. A mistake in the arguments is answered with what to write instead, on standard error, with status 2; what
   the system refuses (a port in use, say) with status 1. Neither shows a traceback, nor does Ctrl-C.
2. What a program was asked for goes to standard output, what it has to say about itself to standard error.
   Neither must be read: a reader that has gone ends what only writes, and does not touch what serves.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["main"]

COMMANDS: Final = {
    "proxy": "forward HTTP requests to one or several backends",
    "sim": "run a scenario of the deterministic simulation, once or many thousand times",
    "demo": "see what a slow backend does to the others, with pools that hold connections and without",
}
NOT_TAKEN: Final = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of output
HELP: Final = """\
usage: windlass COMMAND [OPTION ...]

An actor runtime for services that talk to many backends.

commands:
{commands}

options:
  --help     show this and exit; `windlass COMMAND --help` shows a command's options
  --version  show the version and exit
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the program's own) and return its exit status."""
    try:
        status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in NOT_TAKEN:
            raise
        hush()
        if error.errno != errno.EPIPE:  # `windlass proxy --help | head`: who reads has seen enough
            from .logs import tell

            tell(f"windlass: cannot write to standard output: {error.strerror}")
        return 1
    return status


def run(arguments: list[str]) -> int:
    """The exit status of the command that is named first. A subcommand's module is imported when it is asked
    for."""
    with dying_of_interrupts():
        from .arguments import ArgumentsError
        from .logs import tell
    first = arguments.pop(0) if arguments else "--help"
    try:
        if first in ("--help", "-h", "help"):
            listed = "\n".join(f"  {name:<9}{purpose}" for name, purpose in COMMANDS.items())
            sys.stdout.write(HELP.format(commands=listed))
            return 0
        if first == "--version":
            sys.stdout.write(f"windlass {installed_version()}\n")
            return 0
        if first not in COMMANDS:
            raise ArgumentsError(unknown(first), "windlass")
        return subcommand(first)(arguments)
    except ArgumentsError as error:
        tell(f"{error.program}: {error}\ntry: {error.program} --help")
        return 2


def subcommand(name: str) -> Callable[[Sequence[str]], int]:
    """What runs one of `COMMANDS`."""
    with dying_of_interrupts():
        if name == "proxy":
            from .proxy.command import run_proxy

            return run_proxy
        if name == "sim":
            from .sim import run_sim

            return run_sim
        from .demo import run_demo

        return run_demo


@contextmanager
def dying_of_interrupts() -> Iterator[None]:
    """Ctrl-C while modules are imported ends the process as the system does it, without a traceback."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def hush() -> None:
    """Let Python's own end, which empties the buffers, meet no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def unknown(word: str) -> str:
    """The message for a first word that is not a command."""
    from .arguments import closest

    if word.startswith("-"):
        near = closest(word, ["--help", "--version"])
        if near:
            return f"there is no option {word}; did you mean {near}?"
        return f"there is no option {word} before a command; write for example: windlass proxy {word}"
    near = closest(word, COMMANDS)
    if near:
        return f"there is no command {word!r}; did you mean: windlass {near}"
    return f"there is no command {word!r}; there are: {', '.join(COMMANDS)}"


def installed_version() -> str:
    """The distribution's version."""
    try:
        return version("windlass-runtime")
    except PackageNotFoundError:
        return "(not installed)"
