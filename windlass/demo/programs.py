"""The demo's programs, each a process of its own, so that none takes another's turn on a core. They are
started by the command itself: `python -m windlass.demo ROLE ...`.

Rules:
1. A program says in its first line of output where it listens, as JSON; a load then writes its samples, a
   list per line.
2. It ends when its standard input does. So none is left behind, whatever happened to the command.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from actors import READABLE, UNCHANGED, Loop, Machine, Outcome, Reply, Scope, Stop, sleep
from protocols import http
from windlass.logs import configure_logs

from .backends import backend
from .gateways import holding_gateway, windlass_gateway
from .load import Load

__all__ = ["run_program"]

REPORT_SECONDS = 0.25


class InputEnd(Machine["Reply[None]"]):
    """Tells the end of standard input, as a reply."""

    def __init__(self) -> None:
        self._reply: Reply[None] = Reply()

    def handle(self, scope: Scope) -> Reply[None]:
        """Settles at the end."""
        return self._reply

    def start(self, scope: Scope) -> Outcome:
        """Watch it."""
        scope.register(sys.stdin.fileno(), READABLE)
        return UNCHANGED

    def ready(self, scope: Scope, events: int) -> Outcome:
        """Nothing is ever written to it, so this is the end."""
        if os.read(sys.stdin.fileno(), 4096):
            return UNCHANGED
        self._reply.settle(None)
        return Stop()


def say(value: object) -> None:
    """One line of output."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(value) + b"\n")


async def report(loop: Loop, load: Load, end: Reply[None]) -> None:
    """Drive the load, and say every now and then what came of it."""
    say("started")
    driving = loop.spawn(load.drive(end))
    while not end.settled:
        await sleep(REPORT_SECONDS)
        say(load.take())
    await driving
    await load.finish()
    say(load.take())


async def serve(end: Reply[None]) -> None:
    """Servers need nothing but the time."""
    await end


def run_program(role: str, arguments: Sequence[str]) -> None:
    """Be one of the demo's programs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends this one
    configure_logs(level=logging.CRITICAL)
    with suppress(BrokenPipeError), Loop() as loop:  # nobody listens any more: the command has gone
        end = loop.spawn(InputEnd())
        if role == "load":
            url, rate = arguments
            task = report(loop, Load(loop, url, float(rate)), end)
        else:
            listen, *urls = arguments
            if role == "gateway-windlass":
                router = windlass_gateway(loop, *urls)
            elif role == "gateway-holding":
                router = holding_gateway(loop, *urls)
            else:
                router = backend(role)
            server = loop.spawn(http.server(listen, router))
            say(str(server.address))
            task = serve(end)
        gc.freeze()
        loop.run_until(loop.spawn(task))
