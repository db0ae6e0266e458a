"""Descriptions of what can be spawned, apart from what runs.

A machine that is made before it is spawned has no loop yet: it is half made, and used too early it fails. A
`Spec` is only a description, frozen and checked. `Loop.spawn` takes a slot, calls `make` with the scope, and
what comes out is whole from its constructor. One description may be spawned twice, on two loops; it can be
compared and logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from .machine import Machine

if TYPE_CHECKING:
    from .scope import Scope

__all__ = ["Making", "Spec"]

H = TypeVar("H", covariant=True)


class Spec(msgspec.Struct, Generic[H], frozen=True):
    """Derive from this: fields are the options, `__post_init__` checks them. `H` is what `spawn` returns."""

    def make(self, scope: Scope) -> Machine[H]:
        """The machine, whole; its `start` is called next. What this raises, `spawn` raises."""
        raise NotImplementedError(f"{type(self).__name__}.make(scope) must return a machine")

    if not TYPE_CHECKING:  # a checker is to know that there is no such attribute

        def __getattr__(self, name: str) -> Any:
            """What only the running thing has. Raises `AttributeError` with what to do."""
            raise AttributeError(
                f"{type(self).__name__} is a description and has no {name!r}; "
                "loop.spawn(description) returns the running thing",
                name=name,
                obj=self,
            )


class Making(Machine[Any]):
    """Has the slot while a description is made into its machine."""

    __slots__ = ("spec",)

    def __init__(self, spec: Spec[Any]) -> None:
        self.spec = spec

    def __repr__(self) -> str:
        return f"<making {type(self.spec).__name__}>"
