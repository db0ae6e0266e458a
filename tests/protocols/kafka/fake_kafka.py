"""A cluster of fake brokers on a kernel without sockets: it decodes what is sent, answers as real brokers do
(leaders, sequences, a log per partition), and does what a test tells it instead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from actors import Loop, Reply
from actors.testing import FakeSocket, ManualKernel
from protocols import kafka
from protocols.kafka.protocol import api, primitives
from protocols.kafka.protocol.schema import Message, Request, reader, writer
from protocols.kafka.records.batch import Record, batches, read_records

TICKS_MAX = 2000
HANG = "no answer"
RESET = "the connection is reset"
LOSE = "done, but the connection is reset before the answer"
REQUESTS: dict[int, type[Request[Any]]] = {
    kind.api.key: kind
    for kind in vars(api).values()
    if isinstance(kind, type) and issubclass(kind, Request) and kind is not Request
}

Answer = Message | bytes | str | None
Script = Callable[[int, Any], Answer]


class Connection:
    """One client's connection to a broker."""

    def __init__(self, sock: FakeSocket) -> None:
        self.socket = sock
        self.node = int(str(sock.address).split(":")[0].rpartition(".")[2])
        self.input = b""
        self.accepted = False

    def requests(self) -> list[tuple[type[Request[Any]], int, int, Any]]:
        """Kind, version, correlation id and content of what has come."""
        self.input += self.socket.delivered()
        found = []
        while len(self.input) >= 4:
            size = struct.unpack_from(">i", self.input)[0]
            if len(self.input) < 4 + size:
                break
            frame, self.input = self.input[4 : 4 + size], self.input[4 + size :]
            key, version, correlation = struct.unpack_from(">hhi", frame)
            kind = REQUESTS[key]
            _, at = primitives.read_string(frame, 8)
            flexible = version >= kind.api.flexible
            request, at = reader(kind, version, flexible)(frame, at + flexible)
            assert at == len(frame)
            found.append((kind, version, correlation, request))
        return found

    def answer(self, kind: type[Request[Any]], version: int, correlation: int, answer: Message) -> bytes:
        """An answer's frame."""
        flexible = version >= kind.api.flexible
        out = bytearray(struct.pack(">ii", 0, correlation))
        if flexible and not kind.api.plain_header:
            out.append(0)
        writer(type(answer), version, flexible)(out, answer)
        struct.pack_into(">i", out, 0, len(out) - 4)
        return bytes(out)


class FakeKafka:
    """`nodes` brokers at 192.0.2.N:9092. `topics` maps names to the leaders of their partitions."""

    def __init__(self, nodes: int = 1, topics: dict[str, list[int]] | None = None, **options: Any) -> None:
        self.kernel = ManualKernel()
        self.loop = Loop(kernel=self.kernel)
        self.nodes = {node: f"192.0.2.{node}" for node in range(1, nodes + 1)}
        self.topics = {"t": [1]} if topics is None else topics
        self.down: set[int] = set()
        self.versions = {key: (kind.api.oldest, kind.api.newest) for key, kind in REQUESTS.items()}
        self.scripts: dict[type[Request[Any]], list[Answer | Script]] = {}
        self.seen: list[tuple[int, Any]] = []
        self.log: dict[tuple[str, int], list[Record]] = {}
        self.sequences: dict[tuple[int, str, int], tuple[int, int, int]] = {}
        self.identities = 0
        self.epoch = -1  # of the transactional producer
        self.pool: Any = self.loop.spawn(kafka.pool("192.0.2.1:9092", **options))
        self._connections: dict[FakeSocket, Connection] = {}

    # -- for the test --------------------------------------------------------------------------------

    def script(self, kind: type[Request[Any]], *answers: Answer | Script) -> None:
        """What the next requests of a kind are answered with, instead of what a broker would."""
        self.scripts.setdefault(kind, []).extend(answers)

    def send(self, *values: bytes, topic: str = "t", **options: Any) -> list[Reply[kafka.RecordMetadata]]:
        """Submit messages."""
        timeout = options.pop("timeout", None)
        return [self.pool.submit(kafka.message(topic, value, **options), timeout) for value in values]

    def values(self, topic: str = "t", partition: int = 0) -> list[bytes | None]:
        """What was written."""
        return [record.value for record in self.log.get((topic, partition), [])]

    def asked(self, kind: type[Request[Any]]) -> list[Any]:
        """The requests of a kind so far."""
        return [request for _, request in self.seen if isinstance(request, kind)]

    def run(self) -> FakeKafka:
        """Until there is nothing to do at this time."""
        for _ in range(TICKS_MAX):
            self.loop.tick(0)
            busy = self._serve()
            late = self.loop.timers.next_deadline() <= self.kernel.clock.now
            if not (busy or self.loop.woken or self.loop.dirty or late or self.loop.poller.poll(0)):
                return self
        raise AssertionError("the client does not come to rest")

    def advance(self, seconds: float) -> FakeKafka:
        """Let time pass; deadlines on the way come up in their order."""
        self.run()
        until = self.kernel.clock.now + seconds
        while self.loop.next_deadline <= until:
            self.kernel.clock.now = max(self.kernel.clock.now, self.loop.next_deadline)
            self.run()
        self.kernel.clock.now = until
        return self.run()

    def reset(self, node: int) -> None:
        """Every connection to a broker is reset."""
        for connection in list(self._connections.values()):
            if connection.node == node and not connection.socket.closed:
                connection.socket.reset()

    def add_up(self) -> bool:
        """Whether every message that was submitted is accounted for."""
        now = self.pool.statistics()
        settled = now.succeeded + sum(now.failed.values())
        return now.submitted == settled + now.waiting and (now.waiting > 0 or now.held_bytes == 0)

    # -- brokers -------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        busy = False
        for sock in self.kernel.sockets:
            if sock.closed:
                self._connections.pop(sock, None)
                continue
            connection = self._connections.get(sock)
            if connection is None:
                connection = self._connections[sock] = Connection(sock)
                busy = True
                if connection.node in self.down:
                    sock.refuse()
                else:
                    sock.accept_connection()
            for kind, version, correlation, request in connection.requests():
                busy = True
                self.seen.append((connection.node, request))
                answer = self._answer(connection.node, kind, request)
                if answer in (RESET, LOSE):
                    sock.reset()
                elif isinstance(answer, bytes):
                    sock.arrive(answer)
                elif isinstance(answer, Message):
                    sock.arrive(connection.answer(kind, version, correlation, answer))
        return busy

    def _answer(self, node: int, kind: type[Request[Any]], request: Any) -> Answer:
        scripted = self.scripts.get(kind)
        if scripted:
            answer = scripted.pop(0)
            if answer == LOSE:
                self.usual(node, kind, request)
            if answer is not None:
                return answer(node, request) if callable(answer) else answer
        return self.usual(node, kind, request)

    def usual(self, node: int, kind: type[Request[Any]], request: Any) -> Answer:
        """What a broker answers."""
        if kind is api.ApiVersions:
            ranges = [api.ApiRange(key, *versions) for key, versions in self.versions.items()]
            return api.ApiVersionsResponse(0, ranges, 0)
        if kind is api.Metadata:
            return self.metadata([topic.name for topic in request.topics])
        if kind is api.InitProducerId:
            if request.transactional is not None:
                self.epoch += 1
                return api.InitProducerIdResponse(0, 0, 8000, self.epoch)
            self.identities += 1
            return api.InitProducerIdResponse(0, 0, 7000 + self.identities, 0)
        if kind is api.FindCoordinator:
            return api.FindCoordinatorResponse(0, 0, None, 1, self.nodes[1], 9092)
        if kind is api.AddPartitionsToTxn:
            return api.AddPartitionsToTxnResponse(0, txn_errors(request.topics))
        if kind is api.AddOffsetsToTxn:
            return api.AddOffsetsToTxnResponse(0, 0)
        if kind is api.TxnOffsetCommit:
            return api.TxnOffsetCommitResponse(0, txn_errors(request.topics))
        if kind is api.EndTxn:
            return api.EndTxnResponse(0, 0)
        if kind is api.Produce:
            return self.produce(node, request)
        raise AssertionError(f"no script for {request!r}")

    def metadata(self, names: list[str]) -> api.MetadataResponse:
        """Brokers and leaders."""
        topics = []
        for name in names:
            leaders = self.topics.get(name)
            if leaders is None:
                topics.append(api.TopicMetadata(3, name, bytes(16), False, [], 0))
                continue
            parts = [
                api.PartitionMetadata(0 if leader > 0 else 5, index, leader, -1, [], [], [])
                for index, leader in enumerate(leaders)
            ]
            topics.append(api.TopicMetadata(0, name, bytes(16), False, parts, 0))
        brokers = [api.BrokerAddress(node, host, 9092, None) for node, host in self.nodes.items()]
        return api.MetadataResponse(0, brokers, "fake", 1, topics, 0)

    def produce(self, node: int, request: api.Produce) -> api.ProduceResponse | None:
        """Write what belongs here."""
        topics = [
            api.ProduceTopicResponse(
                topic.topic,
                [
                    self._write(node, topic.topic, part.partition, part.records or b"")
                    for part in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        return api.ProduceResponse(topics, 0) if request.acks else None

    def _write(self, node: int, topic: str, partition: int, data: bytes) -> api.ProducePartitionResponse:
        leaders = self.topics.get(topic, [])
        log = self.log.setdefault((topic, partition), [])
        if partition >= len(leaders):
            return written(partition, 3)
        if leaders[partition] != node:
            return written(partition, 6)
        (batch,) = batches(data)
        if batch.producer_id >= 0:
            known = (batch.producer_id, topic, partition)
            epoch, sequence, offset = self.sequences.get(known, (-1, 0, -1))
            if batch.producer_epoch < epoch:
                return written(partition, 47)
            if batch.producer_epoch == epoch and batch.base_sequence + batch.count == sequence:
                return written(partition, 0, offset)
            if batch.base_sequence != (sequence if batch.producer_epoch == epoch else 0):
                return written(partition, 45)
            self.sequences[known] = (
                batch.producer_epoch,
                batch.base_sequence + batch.count,
                len(log),
            )
        offset = len(log)
        log.extend(read_records(batch, topic, partition))
        return written(partition, 0, offset)


def written(partition: int, error: int, offset: int = -1, **fields: Any) -> api.ProducePartitionResponse:
    """What a broker says of a batch."""
    given = {"timestamp_ms": -1, "log_start": 0, "records": [], "message": None, **fields}
    return api.ProducePartitionResponse(partition=partition, error=error, offset=offset, **given)


def txn_errors(topics: list[Any], code: int = 0) -> list[api.TxnTopicErrors]:
    """What a coordinator says of partitions."""
    return [
        api.TxnTopicErrors(
            topic.topic,
            [
                api.TxnPartitionError(part if isinstance(part, int) else part.partition, code)
                for part in topic.partitions
            ],
        )
        for topic in topics
    ]


def refusing(code: int, **fields: Any) -> Script:
    """A script: every batch of a produce request has this error."""

    def answer(node: int, request: api.Produce) -> api.ProduceResponse:
        topics = [
            api.ProduceTopicResponse(
                topic.topic, [written(part.partition, code, **fields) for part in topic.partitions]
            )
            for topic in request.topics
        ]
        return api.ProduceResponse(topics, 0)

    return answer
