"""What a simulation says when something is wrong: with what is simulated, or with how it is simulated."""

from __future__ import annotations

__all__ = ["Broken", "RealityReached"]


class Broken(AssertionError):
    """An invariant does not hold. Raised by checks; it ends the run and is its failure."""


class RealityReached(RuntimeError):
    """The simulated program reached for a real clock, socket, thread or source of entropy."""
