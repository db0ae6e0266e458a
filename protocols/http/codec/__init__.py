"""HTTP/1.1 as bytes and values (RFC 9110, RFC 9112): heads, fields, bodies, and what they may be.

Knows no loop, no pool and no connection, so it can be read, tested and used alone. `grammar` holds the
productions of the RFCs by name.
"""

from __future__ import annotations

__all__ = ()
