"""Wire protocols and the machines that speak them. So far: `protocols.http`, `protocols.redis`."""

from __future__ import annotations

from actors._siblings import check_siblings

__all__ = ["http", "redis"]

check_siblings("protocols", __file__)
