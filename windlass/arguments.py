"""Arguments: argparse, with messages that say what to write instead.

A type here is a function from text to value that raises `argparse.ArgumentTypeError`; its message is what the
user reads after the option's name.
"""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from actors import Address, parse_address
from protocols.http.client.units import authority_of, discreet, parse_url

__all__ = [
    "ArgumentsError",
    "Parser",
    "address",
    "backend",
    "closest",
    "integer",
    "network",
    "seconds",
    "tls_version",
]

T = TypeVar("T")

_is_authority = re.compile(r"[\w.\-]+:[0-9]{1,5}").fullmatch
_expected = re.compile(r"(?:argument )?(-[^:]*): expected .*argument").fullmatch


class ArgumentsError(Exception):
    """The user's mistake, and what to write instead. `program` is the command to name."""

    def __init__(self, message: str, program: str) -> None:
        super().__init__(message)
        self.program = program


class Parser(argparse.ArgumentParser):
    """Raises `ArgumentsError`, and suggests what was meant. It never guesses abbreviations."""

    def __init__(self, program: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace | None:
        """The options; None if help was asked for and shown. Raises `ArgumentsError`."""
        try:
            known, rest = self.parse_known_args(list(argv))
        except SystemExit:  # --help has been printed
            return None
        if rest:
            raise ArgumentsError(self._unexpected(rest[0]), self.prog)
        return known

    def print_help(self, file: Any = None) -> None:
        """Called by argparse, whose own message does not name the argument."""
        (file or sys.stdout).write(self.format_help())

    def error(self, message: str) -> NoReturn:
        """Called by argparse. It words a missing value without saying which kind is meant; we do."""
        if found := _expected(message):
            option = found[1].split("/")[0]
            message = f"{option} needs a value; write {option} {self._metavar(option)}"
        raise ArgumentsError(message.removeprefix("argument "), self.prog)

    def fail(self, message: str) -> NoReturn:
        """Refuse a combination of options."""
        raise ArgumentsError(message, self.prog)

    def _metavar(self, option: str) -> str:
        found = next((action for action in self._actions if option in action.option_strings), None)
        return str(found.metavar) if found is not None else "VALUE"

    def _unexpected(self, word: str) -> str:
        if word.startswith("-"):
            name = word.partition("=")[0]
            near = closest(name, [option for action in self._actions for option in action.option_strings])
            return f"there is no option {name}" + (f"; did you mean {near}?" if near else "")
        if word.startswith(("http://", "https://", "unix:")):
            return f"{discreet(word)!r} stands alone; write --backend {discreet(word)}"
        if _is_authority(word):
            return f"{word!r} stands alone; write --backend http://{word}, or --listen {word}"
        return f"{discreet(word)!r} stands alone; every value follows its option"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, 0.6)), None)


def integer(least: int, most: int) -> Callable[[str], int]:
    """A whole number in a range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not possible; write a number from {least} to {most}"
            )
        return value

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A duration in seconds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:  # false for nan, too
            raise argparse.ArgumentTypeError(
                f"{text!r} is not possible; write seconds from {least:g} to {most:g}"
            )
        return value

    return parse


def address(text: str) -> Address:
    """Where to listen."""
    if text.isdigit():
        raise argparse.ArgumentTypeError(
            f"{text!r} is only a port; write 127.0.0.1:{text}, or 0.0.0.0:{text} to be reached from outside"
        )
    if "://" in text:
        meant = authority_of(text) or "HOST:PORT"
        raise argparse.ArgumentTypeError(f"{discreet(text)!r} is a URL; write {meant}")
    return told(parse_address, text)


def backend(text: str) -> str:
    """A backend's URL, checked."""
    if "://" not in text and not text.startswith("unix:"):
        suggestion = f"127.0.0.1:{text}" if text.isdigit() else authority_of(text) or "HOST:PORT"
        raise argparse.ArgumentTypeError(f"{discreet(text)!r} has no scheme; write http://{suggestion}")
    told(parse_url, text)
    return text


def network(text: str) -> str:
    """A network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a network; write one as in 10.0.0.0/8, or an address as in 10.1.2.3"
            ) from error
        raise argparse.ArgumentTypeError(f"{text!r} has bits beyond its mask; write {meant}") from None


def tls_version(text: str) -> str:
    """A version of TLS."""
    if text not in ("1.2", "1.3"):
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; write 1.2 or 1.3")
    return text


def told(parse: Callable[[str], T], text: str) -> T:
    """Parse, with the error's own words for the user."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("backend ")) from None
