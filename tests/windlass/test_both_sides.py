"""Each side of each decision by a knob is taken by the scenarios, or it is said here why it is not.

Each scenario runs with all of its knobs small, smaller still, large, and at their own values, from a few
seeds, until everything was taken; runs known to take what few others do come first. What freely drawn
ones have covered, `windlass sim all --decisions` tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from actors.simulation import Recording, Scenario, load_scenario, simulate
from actors.simulation.knobs import knobs_of
from tests.test_knobs import PACKAGES
from windlass.scenarios import SCENARIOS

pytestmark = pytest.mark.no_cover
SEEDS = range(1, 5)  # at most
STORIES = {name: load_scenario(name, SCENARIOS) for name in SCENARIOS}
SIZES = ("small", "smallest", "large", "own")
KNOWN = ((4, "gateway", "small"), (2, "proxy", "small"), (2, "flows", "small"))
"""Only a shorter way: which they are is not checked, and another one is found by the search, in a minute."""

NOT_REACHED = {
    "actors.loop.Loop._wait": "a simulated world waits for its loops, which are only ever asked for a tick",
    "actors.mailboxes.Mailbox.ask": "no scenario asks by mailbox; tests/actors/test_mailboxes.py does",
    "actors.notifier.Notifier.call_later": "only a flow that fails and that nobody hears calls later",
    "pools.backends.Backend.doubtful: doubts == DOUBTS_MAX": "takes just so many, and no power of two",
    "pools.exchanges.Driver": "no scenario has more than 16 exchanges of one unit under way",
    "pools.routers.Router": "there is no simulated Redis cluster; tests/pools/test_routers.py has routers",
    "pools.suspects.leave": "no simulated server says that it is not the primary",
    "protocols.http.server.connection.ServerConnection._after": "an early answer, not all of it sent at once",
    "protocols.http.client.wire.seconds_kept": "no backend keeps connections for a second only",
    "protocols.http.client.wire.HttpWire._gather": "an unwanted answer, just larger than is skipped",
    "protocols.http.client.wire.HttpWire._unwanted": "likewise",
    "protocols.kafka.consumer.consumer.Consumer": "takes a group that is out of reach for long",
    "protocols.kafka.producer.sender.Delivery._identify": "takes a broker that refuses to number a producer",
    "protocols.kafka.consumer.fetcher.Fetcher._fetch": "takes a wait that is shorter than brief",
    "protocols.kafka.producer.producer.KafkaPool._not_there": "takes a topic that is missing for long",
    "protocols.kafka.producer.producer.KafkaPool._remember_missing": "takes many topics that are not there",
    "protocols.kafka.producer.producer.KafkaPool._route": "takes messages for partitions not there yet",
    "protocols.kafka.producer.producer.KafkaPool.wakeup": "takes so many messages that a sweep is put off",
    "protocols.postgres.copy.units": "the simulated PostgreSQL knows no COPY",
    "protocols.postgres.copy.transfer": "likewise",
    "protocols.postgres.orphans": "takes a cancelled statement that does not end",
    "protocols.postgres.preparing": "the scenarios' types are all built in",
    "protocols.postgres.statements.Statements": "takes statements that a pooler loses, or whose types change",
    "protocols.postgres.types.scalars": "no scenario has numerics",
    "protocols.postgres.wire.PostgresWire._doubt_types": "takes types that are not built in",
    "protocols.postgres.wire.PostgresWire._put_back": "takes statements that a pooler loses, again and again",
    "protocols.redis.cluster": "there is no simulated Redis cluster",
    "protocols.redis.slots": "likewise: keys have no slots",
}
"""Where a decision is, as its place begins, and why no scenario takes both of its sides in a few runs."""

SILENT = {
    "actors.flows.UNHEARD_SECONDS": "a pause",
    "actors.loop.DEAD_LETTERS_KEPT": "a capacity",
    "actors.net.streams.FLUSH_SECONDS": "a deadline of the state that flushes",
    "actors.net.streams.LINGER_SECONDS_MAX": "a deadline of the state that lingers",
    "actors.net.streams.READ_SIZE": "asked of a socket: who reads less or all of it is the system's business",
    "pools.assignment.SHARING_LOOKED_AT": "a capacity: how many connections are looked at",
    "pools.backends.CONNECT_PAUSE_MIN": "a pause",
    "pools.backends.PAUSE_UNASKED": "a pause",
    "pools.pool.BACKOFF_ALONE": "a pause",
    "pools.pool.BACKOFF_SEVERAL": "a pause",
    "pools.dialling.LIFETIME_JITTER": "a part of a time",
    "pools.suspects.PROBE_SECONDS": "a deadline",
    "protocols.http.server.request.STREAM_CAPACITY": "a capacity",
    "protocols.http.client.wire.READER_SECONDS": "a deadline of the wire",
    "protocols.http.client.wire.STREAM_CAPACITY": "a capacity",
    "protocols.kafka.cluster.PAUSE": "a pause",
    "protocols.kafka.cluster.PIPELINE": "an option of a pool",
    "protocols.kafka.producer.transactions.PAUSE": "a pause",
    "protocols.postgres.cancel.CANCEL_SECONDS": "a deadline",
    "protocols.postgres.copy.units.STREAM_CAPACITY": "a capacity",
    "protocols.postgres.copy.transfer.SKIP_SECONDS": "a deadline",
    "protocols.postgres.orphans.CANCEL_AFTER": "a deadline",
    "protocols.postgres.statements.GUESSES_MAX": "a capacity",
    "protocols.redis.cluster.PAUSES": "a pause",
    "protocols.redis.cluster.REFRESH_SECONDS": "a deadline",
    "protocols.redis.cluster.SUSPICION_PAUSE": "a pause",
}
"""Knobs that are handed on and compared nowhere that can be seen, and what they are."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Made once: it compiles every module that reads a knob."""
    return Recording(PACKAGES)


def test_a_knob_decides_or_it_is_said_what_it_is(recording: Recording) -> None:
    assert recording.silent == SILENT.keys(), "name what is new, and drop what decides now"


def test_what_is_not_reached_is_there(recording: Recording) -> None:
    places = [decision.place for decision in recording.decisions]
    assert [prefix for prefix in NOT_REACHED if not any(place.startswith(prefix) for place in places)] == []


def turned(story: Scenario, size: str) -> dict[str, Any]:
    """All of a scenario's knobs at once."""
    knobs = knobs_of(story.packages).values()
    return {
        "small": {knob.name: knob.small[0] for knob in knobs if knob.small},
        "smallest": {knob.name: knob.small[-1] for knob in knobs if knob.small},
        "large": {knob.name: knob.large[0] for knob in knobs if knob.large},
        "own": {},
    }[size]


def runs() -> Iterator[tuple[int, str, str]]:
    yield from KNOWN
    yield from (run for run in product(SEEDS, STORIES, SIZES) if run not in KNOWN)


@pytest.mark.timeout(600)
def test_both_sides_of_each_decision_are_taken(recording: Recording) -> None:
    for seed, name, size in runs():
        story = STORIES[name]
        values = turned(story, size)
        with recording:
            report = simulate(story, seed, knobs=values)
        assert report.failure is None, f"{name}, seed {seed}, {values}: {report.failure}"
        missing = [side for side in recording.missing() if not side[0].startswith(tuple(NOT_REACHED))]
        if not missing:
            return
    assert missing == [], "no run has come out so: turn a knob further, extend a scenario, or say why not"
