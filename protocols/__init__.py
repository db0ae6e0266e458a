"""Wire protocols and the machines that speak them. So far: `protocols.http`, `protocols.postgres`."""

from __future__ import annotations

from actors._siblings import check_siblings

__all__ = ["http", "postgres"]

check_siblings("protocols", __file__)
