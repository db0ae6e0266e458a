"""What can go wrong with Kafka, told apart by whose fault it is.

`KafkaError` is a broker's own answer; its table below says what each code means for who sent the request:
whether asking again can help, whether somebody else must be asked. `BadMessage` is what no broker says: that
connection is closed. `BrokerTooOld`, `AuthenticationFailed` and `ProducerFenced` stay until a person acts.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

from pools import BackendError

from .codes import Code

__all__ = [
    "AuthenticationFailed",
    "BadMessage",
    "BrokerTooOld",
    "CODES",
    "KafkaError",
    "Meaning",
    "MessageTooLarge",
    "NoSuchTopic",
    "ProducerFenced",
    "TransactionAborted",
    "error_of",
    "twin",
]

E = TypeVar("E", bound=BaseException)


class KafkaError(BackendError):
    """A broker's answer was an error. `code` is its number, `name` what the protocol calls it (protocol
    guide, "Error Codes"), `retriable` whether the same may go well later.
    """

    def __init__(self, code: int, message: str | None = None, *, about: str = "") -> None:
        known = CODES.get(code) or UNKNOWN
        self.code = code
        self.name = Code(code).name if code in CODES else f"ERROR_{code}"
        self.retriable = known.retriable
        self.about = about
        advice = message or known.advice
        super().__init__(f"{about}{': ' if about else ''}{self.name}{f' ({advice})' if advice else ''}")


class MessageTooLarge(KafkaError):
    """A message is larger than the pool (`message_bytes=`) or the topic (`max.message.bytes`) allows; it was
    not written. Raise the limit, or send less at a time.
    """


class NoSuchTopic(KafkaError):
    """The topic, or that partition of it, does not exist, or this user may not know of it; nothing was
    written. Create it, or look for a slip in its name.
    """


class ProducerFenced(KafkaError):
    """Another producer has begun with the same `transactional_id`: this one can write no more.

    Give each process an id of its own; if it is the process that took this one's place, let this one end.
    """


class AuthenticationFailed(BackendError):
    """The broker does not accept who we say we are, or not this way of proving it; the text says which."""


class TransactionAborted(BackendError):
    """The transaction was rolled back: nothing of it will be seen by those who read committed records. Run
    it again from its beginning.
    """


class BadMessage(BackendError):
    """The other side sent what the protocol does not allow. The connection was closed.

    Check that host and port are those of a Kafka broker, and whether that listener wants TLS or SASL.
    """


class BrokerTooOld(BackendError):
    """The broker does not speak a request that is needed; the text says which. Kafka 2.1 is new enough."""


class Meaning(NamedTuple):
    """What an error code means for the sender of the request. `stale`: who leads or coordinates has changed,
    ask for it again. `unknown_fate`: a batch may have been written all the same; a broker that loses the
    leadership while the replicas follow says 6, though the new leader may have it.
    """

    retriable: bool = False
    stale: bool = False
    unknown_fate: bool = False
    advice: str = ""
    error: type[KafkaError] = KafkaError


UNKNOWN: Final = Meaning()


def _again(advice: str = "") -> Meaning:
    return Meaning(retriable=True, advice=advice)


def _stale(advice: str = "") -> Meaning:
    return Meaning(retriable=True, stale=True, advice=advice)


CODES: Final[dict[int, Meaning]] = {
    Code.UNKNOWN_SERVER_ERROR: Meaning(advice="look into the broker's log"),
    Code.OFFSET_OUT_OF_RANGE: Meaning(),
    Code.CORRUPT_MESSAGE: _again("the batch was damaged on its way"),
    Code.UNKNOWN_TOPIC_OR_PARTITION: Meaning(
        retriable=True,
        stale=True,
        unknown_fate=True,
        advice="create the topic, or check its name",
        error=NoSuchTopic,
    ),
    Code.LEADER_NOT_AVAILABLE: _stale("an election is under way, or the replicas' brokers are down"),
    Code.NOT_LEADER_OR_FOLLOWER: Meaning(retriable=True, stale=True, unknown_fate=True),
    Code.REQUEST_TIMED_OUT: Meaning(
        retriable=True, unknown_fate=True, advice="replicas did not follow in time"
    ),
    Code.BROKER_NOT_AVAILABLE: _again(),
    Code.REPLICA_NOT_AVAILABLE: _stale(),
    Code.MESSAGE_TOO_LARGE: Meaning(
        advice="raise the topic's max.message.bytes, or send less at a time",
        error=MessageTooLarge,
    ),
    Code.NETWORK_EXCEPTION: _stale(),
    Code.COORDINATOR_LOAD_IN_PROGRESS: _again(),
    Code.COORDINATOR_NOT_AVAILABLE: _stale(),
    Code.NOT_COORDINATOR: _stale(),
    Code.INVALID_TOPIC_EXCEPTION: Meaning(advice="letters, digits, '.', '_' and '-', 249 at most"),
    Code.RECORD_LIST_TOO_LARGE: Meaning(advice="raise the topic's segment.bytes, or send less at a time"),
    Code.NOT_ENOUGH_REPLICAS: _again("fewer replicas in sync than the topic's min.insync.replicas"),
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Meaning(
        retriable=True,
        unknown_fate=True,
        advice="fewer replicas in sync than the topic's min.insync.replicas",
    ),
    Code.INVALID_REQUIRED_ACKS: Meaning(advice="acks is 0, 1 or 'all'"),
    Code.ILLEGAL_GENERATION: Meaning(),
    Code.INCONSISTENT_GROUP_PROTOCOL: Meaning(advice="the group's other members assign in another way"),
    Code.INVALID_GROUP_ID: Meaning(),
    Code.UNKNOWN_MEMBER_ID: Meaning(),
    Code.INVALID_SESSION_TIMEOUT: Meaning(advice="see the broker's group.min/max.session.timeout.ms"),
    Code.REBALANCE_IN_PROGRESS: Meaning(),
    Code.INVALID_COMMIT_OFFSET_SIZE: Meaning(advice="offset.metadata.max.bytes"),
    Code.TOPIC_AUTHORIZATION_FAILED: Meaning(advice="give this user an ACL for the topic"),
    Code.GROUP_AUTHORIZATION_FAILED: Meaning(advice="give this user an ACL for the group"),
    Code.CLUSTER_AUTHORIZATION_FAILED: Meaning(advice="give this user an ACL for IdempotentWrite"),
    Code.INVALID_TIMESTAMP: Meaning(advice="see the topic's message.timestamp.type and its limits"),
    Code.UNSUPPORTED_SASL_MECHANISM: Meaning(),
    Code.ILLEGAL_SASL_STATE: Meaning(),
    Code.UNSUPPORTED_VERSION: Meaning(),
    Code.INVALID_REPLICATION_FACTOR: Meaning(advice="there are fewer brokers than that"),
    Code.INVALID_REPLICA_ASSIGNMENT: Meaning(),
    Code.INVALID_CONFIG: Meaning(),
    Code.NOT_CONTROLLER: _stale(),
    Code.INVALID_REQUEST: Meaning(),
    Code.UNSUPPORTED_FOR_MESSAGE_FORMAT: Meaning(advice="the topic keeps a format older than Kafka 0.11"),
    Code.POLICY_VIOLATION: Meaning(),
    Code.OUT_OF_ORDER_SEQUENCE_NUMBER: Meaning(
        advice="messages that were acknowledged are gone on the broker"
    ),
    Code.DUPLICATE_SEQUENCE_NUMBER: Meaning(),
    Code.INVALID_PRODUCER_EPOCH: Meaning(
        advice="the transaction took longer than its timeout, or another producer has begun with its id",
    ),
    Code.INVALID_TXN_STATE: Meaning(),
    Code.INVALID_PRODUCER_ID_MAPPING: Meaning(),
    Code.INVALID_TRANSACTION_TIMEOUT: Meaning(advice="at most the broker's transaction.max.timeout.ms"),
    Code.CONCURRENT_TRANSACTIONS: _again("the transaction before is still being completed"),
    Code.TRANSACTION_COORDINATOR_FENCED: Meaning(),
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Meaning(
        advice="give this user an ACL for the transactional id"
    ),
    Code.SECURITY_DISABLED: Meaning(),
    Code.OPERATION_NOT_ATTEMPTED: Meaning(advice="another partition of the same request was refused"),
    Code.KAFKA_STORAGE_ERROR: Meaning(
        retriable=True,
        stale=True,
        unknown_fate=True,
        advice="the broker's disk has failed",
    ),
    Code.SASL_AUTHENTICATION_FAILED: Meaning(),
    Code.UNKNOWN_PRODUCER_ID: Meaning(advice="the broker has forgotten this producer"),
    Code.REASSIGNMENT_IN_PROGRESS: _again(),
    Code.TRANSACTIONAL_ID_NOT_FOUND: Meaning(),
    Code.NON_EMPTY_GROUP: Meaning(),
    Code.GROUP_ID_NOT_FOUND: Meaning(),
    Code.FETCH_SESSION_ID_NOT_FOUND: _again(),
    Code.INVALID_FETCH_SESSION_EPOCH: _again(),
    Code.LISTENER_NOT_FOUND: _stale("the leader has no such listener"),
    Code.FENCED_LEADER_EPOCH: _stale(),
    Code.UNKNOWN_LEADER_EPOCH: _again(),
    Code.UNSUPPORTED_COMPRESSION_TYPE: Meaning(advice="the broker is too old for it; choose another one"),
    Code.STALE_BROKER_EPOCH: Meaning(),
    Code.OFFSET_NOT_AVAILABLE: _again(),
    Code.MEMBER_ID_REQUIRED: Meaning(),
    Code.PREFERRED_LEADER_NOT_AVAILABLE: _stale(),
    Code.GROUP_MAX_SIZE_REACHED: Meaning(advice="see the broker's group.max.size"),
    Code.FENCED_INSTANCE_ID: Meaning(advice="another member has the same group_instance"),
    Code.INVALID_RECORD: Meaning(advice="the topic refuses it; a compacted topic needs a key"),
    Code.UNSTABLE_OFFSET_COMMIT: _again("a transaction has still to be completed"),
    Code.THROTTLING_QUOTA_EXCEEDED: _again(),
    Code.PRODUCER_FENCED: Meaning(error=ProducerFenced),
    Code.UNKNOWN_TOPIC_ID: _stale(),
    Code.INCONSISTENT_TOPIC_ID: _stale(),
    Code.TRANSACTION_ABORTABLE: Meaning(),
}


def error_of(code: int, message: str | None = None, *, about: str = "") -> KafkaError:
    """The error that a code stands for. `message` is the broker's own word, `about` what it is about."""
    known = CODES.get(code)
    return (KafkaError if known is None else known.error)(code, message, about=about)


def twin(error: E, more: str = "") -> E:
    """The same error once more, with a word added: each reply has its own, for raising one leaves traces."""
    made = error.__class__.__new__(error.__class__)
    made.__dict__.update(error.__dict__)
    made.args = (f"{error}{more}",)
    made.__cause__ = error.__cause__
    return made
