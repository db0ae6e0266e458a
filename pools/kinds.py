"""What a unit is for, as the type checker sees it: a unit of one protocol is an error at a pool of another.

`Unit` and `Pool` have a second type argument, a class that stands for the protocol (`Http`, say). It exists
for the checker alone. Who writes a protocol may leave it out: then any pool takes the unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from typing_extensions import TypeVar
else:
    from typing import TypeVar as Plain

    def TypeVar(name: str, *, default: Any = None, covariant: bool = False) -> Any:  # noqa: N802
        """Defaults are what Python 3.13 brought."""
        return Plain(name, covariant=covariant)


__all__ = ["Answer", "Kind", "KindOf", "Answering", "For"]

Answer = TypeVar("Answer", covariant=True)
"""What a unit's answer is."""
Kind = TypeVar("Kind", default=Any)
"""The protocol of a pool's units."""
KindOf = TypeVar("KindOf", covariant=True, default=Any)
"""The protocol that a unit is of."""

if TYPE_CHECKING:

    class Answering(Generic[Answer, KindOf]):
        """Has the type arguments of a unit."""

    class For(Generic[Kind]):
        """Has the type argument of a pool."""

else:

    class Answering:
        """Takes type arguments of any number, and costs nothing."""

        __slots__ = ()

        def __class_getitem__(cls, arguments: Any) -> type:
            return cls

    For = Answering
