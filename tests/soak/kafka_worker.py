"""Consume, transform, produce, in transactions, until killed. Writes a line per transaction.

python -m tests.soak.kafka_worker BROKERS SOURCE TARGET NAME static|dynamic
"""

from __future__ import annotations

import sys

from actors import Loop
from protocols import kafka

AT_A_TIME = 3


async def work(loop: Loop, brokers: str, source: str, target: str, name: str, kind: str) -> None:
    """One worker. A static one takes the place of the one that was killed at once; of a dynamic one the
    others take the partitions when the group misses it.
    """
    producer = loop.spawn(kafka.pool(brokers, transactional_id=name))
    async with producer.transaction():
        pass  # rolls back what the one before has left open
    consumer = loop.spawn(
        kafka.consumer(
            brokers,
            source,
            group=f"{source}-workers",
            instance=name if kind == "static" else None,
            session_timeout=1.0 if kind == "dynamic" else 45.0,
            heartbeat=0.1,
            auto_offset_reset="earliest",
            auto_commit=None,
        )
    )
    while True:
        records = await consumer.receive_many(AT_A_TIME)
        try:
            async with producer.transaction() as tx:
                for record in records:
                    assert record.value is not None
                    tx.send(kafka.message(target, b"result of " + record.value, key=record.key))
                tx.commit_offsets(consumer.membership, consumer.positions())
        except kafka.TransactionAborted:
            consumer.rewind()
        else:
            print(len(records), flush=True)  # noqa: T201


if __name__ == "__main__":
    with Loop() as loop:
        loop.run_until(loop.spawn(work(loop, *sys.argv[1:])))
