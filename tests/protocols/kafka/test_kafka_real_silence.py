"""Connections that lead nowhere: a real broker behind what forgets connections, as a NAT does."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Reply
from protocols import kafka
from tests.kafka_server import KafkaCluster, kcat
from tests.relay import Relay
from tests.still_time import StillLoop

REQUEST_SECONDS = 2.0
BOUND_SECONDS = 5 * REQUEST_SECONDS  # a request in vain, a look at the cluster, a new connection, some pauses
STEP = 0.01


def outcome(loop: StillLoop, reply: Reply[Any], step: float = STEP) -> Any:
    """What it settles with; time passes."""
    loop.until(lambda: reply.settled, step)
    return reply.error or reply.result()


def test_a_producer_whose_connection_is_forgotten_loses_nothing(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic("silent-producer", 1)
    with Relay(kafka_broker.port) as relay, StillLoop(relay) as loop:
        pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), timeout=60.0, request_timeout=REQUEST_SECONDS))
        assert outcome(loop, pool.submit(kafka.message(topic, b"0"))).offset == 0
        relay.silence()
        loop.advance(60.0)
        began = loop.now
        replies = [pool.submit(kafka.message(topic, b"%d" % n)) for n in range(1, 9)]
        assert [outcome(loop, reply).offset for reply in replies] == [*range(1, 9)]
        assert loop.now - began < BOUND_SECONDS


def test_a_message_fails_at_its_deadline_when_nothing_leads_anywhere(kafka_broker: KafkaCluster) -> None:
    topic = kafka_broker.create_topic("silent-broker", 1)
    with Relay(kafka_broker.port) as relay, StillLoop(relay) as loop:
        pool = loop.spawn(kafka.pool(kafka_broker.bootstrap(), timeout=20.0, request_timeout=REQUEST_SECONDS))
        assert outcome(loop, pool.submit(kafka.message(topic, b"0"))).offset == 0
        relay.mute = True
        relay.silence()
        began = loop.now
        assert isinstance(outcome(loop, pool.submit(kafka.message(topic, b"1")), step=0.2), Exception)
        assert loop.now - began < 21.0
        relay.mute = False
        relay.silence()
        loop.advance(60.0)
        assert outcome(loop, pool.submit(kafka.message(topic, b"2"))).offset >= 1


@pytest.mark.parametrize("group", [None, "silent"])
def test_a_consumer_whose_connections_are_forgotten_goes_on(
    kafka_broker: KafkaCluster, group: str | None
) -> None:
    topic = kafka_broker.create_topic(f"silent-{group}", 1)
    with Relay(kafka_broker.port) as relay, StillLoop(relay) as loop:
        consumer = loop.spawn(
            kafka.consumer(
                kafka_broker.bootstrap(),
                topic,
                group=group,
                auto_offset_reset="earliest",
                request_timeout=REQUEST_SECONDS,
            )
        )
        for number in range(2):
            kcat("-b", kafka_broker.bootstrap(), "-P", "-t", topic, data=b"%d\n" % number)
            began = loop.now
            assert outcome(loop, loop.spawn(consumer.receive())).value == b"%d" % number
            assert loop.now - began < 45.0 + BOUND_SECONDS  # and a session, where it was lost by that
            relay.silence()
        relay.silence()
