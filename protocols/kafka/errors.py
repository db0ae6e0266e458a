"""What can go wrong with Kafka, told apart by whose fault it is."""

from __future__ import annotations

from pools import BackendError

__all__ = ["BadMessage", "BrokerTooOld"]


class BadMessage(BackendError):
    """The other side sent what the protocol does not allow. The connection was closed.

    Check that host and port are those of a Kafka broker, and whether that listener wants TLS or SASL.
    """


class BrokerTooOld(BackendError):
    """The broker does not speak a request that is needed; the text says which. Kafka 2.1 is old enough."""
