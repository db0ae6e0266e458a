"""The machines' way to the network: addresses and names, listeners and connectors, the streams between.

`addresses` and `resolver` say where; `connectors` and `listeners` make connections; `transports` is what a
protocol writes to, `streams` and `tls` the two machines that drive one.
"""

from __future__ import annotations

__all__ = ()
