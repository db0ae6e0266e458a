"""Wire protocols and the machines that speak them: `http`, `redis`, `postgres`."""

from __future__ import annotations

from actors._siblings import check_siblings

__all__ = ["http", "postgres", "redis"]

check_siblings("protocols", __file__)
