"""The `windlass` command: what a person runs. One module per subcommand.

Rules:
1. A mistake in the arguments is answered with what to write instead, on standard error, with status 2; what
   the system refuses (a port in use, say) with status 1. Neither shows a traceback.
2. What a program was asked for goes to standard output, what it has to say about itself to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from .arguments import ArgumentsError, closest

__all__ = ["main"]

COMMANDS: Final = {
    "proxy": "forward HTTP requests to one or several backends",
    "sim": "run a scenario of the deterministic simulation, once or many thousand times",
    "demo": "see what a slow backend does to the others, with pools that hold connections and without",
}
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments.pop(0) if arguments else "--help"
    try:
        if first in ("--help", "-h", "help"):
            listed = "\n".join(f"  {name:<9}{purpose}" for name, purpose in COMMANDS.items())
            sys.stdout.write(HELP.format(commands=listed))
        elif first == "--version":
            sys.stdout.write(f"windlass {installed_version()}\n")
        elif first == "proxy":
            from .proxy import run_proxy

            return run_proxy(arguments)
        elif first == "sim":
            from .sim import run_sim

            return run_sim(arguments)
        elif first == "demo":
            from .demo import run_demo

            return run_demo(arguments)
        else:
            raise ArgumentsError(unknown(first), "windlass")
    except ArgumentsError as error:
        sys.stderr.write(f"{error.program}: {error}\ntry: {error.program} --help\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `windlass proxy --help | head`
        sys.stderr.close()
        return 1
    return 0


def unknown(word: str) -> str:
    """What to say of a first word that is no command."""
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
