"""Wire protocols and the machines that speak them: `http`, `redis`, `postgres`, `kafka`."""

from __future__ import annotations

import sys

try:
    from actors._siblings import check_siblings
except ModuleNotFoundError as error:  # the check itself stands in `actors`
    if error.name not in ("actors", "actors._siblings"):
        raise
    found = getattr(sys.modules.get("actors"), "__file__", "nothing")
    raise ImportError(
        f"protocols of Windlass needs its `actors`, but `import actors` finds {found}; rename or remove that "
        "(a file or another package), then install Windlass (the distribution windlass-runtime) again"
    ) from error
else:
    check_siblings("protocols", __file__)

__all__ = ["http", "kafka", "postgres", "redis"]
