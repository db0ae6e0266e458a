"""Kafka: messages as units of work, gathered into batches for the partitions' leaders; and topics as streams
of messages, read alone or in a group.

`pool(brokers)` makes a producer for `loop.spawn`, `message(topic, value)` a unit for it; `consumer(brokers,
topic, group=…)` makes a reader.
"""

from __future__ import annotations

from .assignors import TopicPartition
from .client import pool, settings_of
from .consumer import Consumer, ConsumerStatistics
from .consuming import consumer
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
from .fetching import NoOffset
from .group import Membership
from .member import Rebalance
from .messages import Push, RecordMetadata, message
from .offsets import Offset
from .producer import KafkaPool, ProducerStatistics
from .records import Record
from .transactions import Transaction, TransactionalPool

__all__ = [
    "AuthenticationFailed",
    "BadMessage",
    "BrokerTooOld",
    "Consumer",
    "ConsumerStatistics",
    "KafkaError",
    "KafkaPool",
    "Membership",
    "MessageTooLarge",
    "NoOffset",
    "NoSuchTopic",
    "Offset",
    "ProducerFenced",
    "ProducerStatistics",
    "Push",
    "Rebalance",
    "Record",
    "RecordMetadata",
    "TopicPartition",
    "Transaction",
    "TransactionAborted",
    "TransactionalPool",
    "consumer",
    "message",
    "pool",
    "settings_of",
]
