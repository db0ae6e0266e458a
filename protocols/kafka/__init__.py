"""Kafka: messages as units of work, gathered into batches for the partitions' leaders.

`pool(brokers)` makes a producer for `loop.spawn`, `message(topic, value)` a unit for it.
"""

from __future__ import annotations

from .client import pool, settings_of
from .errors import (
    AuthenticationFailed,
    BadMessage,
    BrokerTooOld,
    KafkaError,
    MessageTooLarge,
    NoSuchTopic,
    ProducerFenced,
    TransactionAborted,
)
from .messages import Push, RecordMetadata, message
from .producer import KafkaPool, ProducerStatistics
from .transactions import Transaction, TransactionalPool

__all__ = [
    "AuthenticationFailed",
    "BadMessage",
    "BrokerTooOld",
    "KafkaError",
    "KafkaPool",
    "MessageTooLarge",
    "NoSuchTopic",
    "ProducerFenced",
    "ProducerStatistics",
    "Push",
    "RecordMetadata",
    "Transaction",
    "TransactionAborted",
    "TransactionalPool",
    "message",
    "pool",
    "settings_of",
]
