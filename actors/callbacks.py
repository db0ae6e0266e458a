"""How callbacks are called: one after the other, and whatever they raise.

Rules:
1. A callback that causes another (by settling a reply) has returned before that one is called: a chain of any
   length takes no depth of stack.
2. All that were caused have been called when the outermost settling returns.
3. What a callback raises is logged. What is no failure of its own (Ctrl-C, `SystemExit`) is raised by the
   loop's `tick` when no handler is on, so that it never ends the machine that happened to settle; without a
   loop it is raised when all have been called.
4. Who owes something to several, or more after a callback (`cancel`, a machine's end), pays it in `one_turn`:
   then all is paid before anything is raised.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .current import loop_here
from .errors import FAILURES
from .events import EventLog
from .kernel import SystemKernel
from .telling import told

__all__ = ["call_in_turn", "one_turn"]


class _Turns(threading.local):
    """This thread's callbacks."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.running = False


_turns = _Turns()


def call_in_turn(callback: Callable[..., object], *arguments: Any) -> None:
    """Call it, and those that it causes; from inside another one, after that."""
    turns = _turns
    if turns.running:
        turns.waiting.append((callback, arguments))
        return
    interrupt: BaseException | None = None
    waiting = turns.waiting
    turns.running = True
    try:
        while True:
            try:
                callback(*arguments)
            except FAILURES as error:
                _tell(callback, error)
            except BaseException as error:
                interrupt = interrupt or error
            if not waiting:
                break
            callback, arguments = waiting.popleft()
    finally:
        turns.running = False
    if interrupt is not None:
        _pass_on(interrupt)


class one_turn:  # noqa: N801 - reads as a statement: `with one_turn():`
    """Callbacks that are caused inside are called at the end of it, every one."""

    __slots__ = ("_outermost",)

    def __enter__(self) -> None:
        self._outermost = not _turns.running
        _turns.running = True

    def __exit__(self, *exception: object) -> None:
        if self._outermost:
            turns = _turns
            turns.running = False
            if turns.waiting:
                callback, arguments = turns.waiting.popleft()
                call_in_turn(callback, *arguments)


def _tell(callback: Callable[..., object], error: BaseException) -> None:
    loop = loop_here()
    log = EventLog(SystemKernel.monotonic) if loop is None else loop.log
    log.error(
        "callback failed",
        cause=f"callback {type(error).__name__}",
        callback=told(callback),
        error=told(error),
        exc_info=error,
    )


def _pass_on(interrupt: BaseException) -> None:
    loop = loop_here()
    if loop is None or not loop.ticking:
        raise interrupt
    loop.notifier.interrupt(interrupt)
