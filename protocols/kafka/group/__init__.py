"""Membership in a consumer group: its states, its member, what it stores, who reads what."""

from __future__ import annotations

__all__ = ()
