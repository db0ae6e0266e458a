"""Kafka: messages as units of work, gathered into batches for the partitions' leaders; and topics as streams
of messages, read alone or in a group.

`pool(brokers)` makes a producer for `loop.spawn`, `message(topic, value)` a unit for it; `consumer(brokers,
topic, group=…)` makes a reader.
"""

from __future__ import annotations

from .consumer.consumer import Consumer, ConsumerOptions, ConsumerStatistics
from .consumer.fetcher import NoOffset
from .consumer.options import consumer
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
from .group.assignors import TopicPartition
from .group.membership import Rebalance
from .group.state import Membership
from .offsets import Offset
from .producer.messages import Push, RecordMetadata, message
from .producer.options import pool, settings_of
from .producer.producer import KafkaPool, ProducerOptions, ProducerStatistics
from .producer.transactions import Transaction, TransactionalOptions, TransactionalPool
from .records.batch import Record

__all__ = [
    "AuthenticationFailed",
    "BadMessage",
    "BrokerTooOld",
    "Consumer",
    "ConsumerOptions",
    "ConsumerStatistics",
    "KafkaError",
    "KafkaPool",
    "Membership",
    "MessageTooLarge",
    "NoOffset",
    "NoSuchTopic",
    "Offset",
    "ProducerFenced",
    "ProducerOptions",
    "ProducerStatistics",
    "Push",
    "Rebalance",
    "Record",
    "RecordMetadata",
    "TopicPartition",
    "Transaction",
    "TransactionAborted",
    "TransactionalOptions",
    "TransactionalPool",
    "consumer",
    "message",
    "pool",
    "settings_of",
]
