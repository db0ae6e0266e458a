"""Which process runs which tests, and which files begin first.

`make test` runs a file's tests in one process, several processes at a time (pytest-xdist). Two things are
said here, or the last minutes belong to a single process:

1. Files that take long begin first. What takes long, with real servers or type checkers, has few tests, and
   xdist would leave it for the end.
2. Files with a real Kafka go to the same process, one after the other: each broker is a process of Java, and
   its start is several seconds of a core's time. Those with a cluster are one share, the others one too.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ["BROKER", "CLUSTER", "FIRST", "Shares", "in_order", "process_count", "share_of"]

ROOT = Path(__file__).parent.parent
CLUSTER, BROKER = "a real Kafka of three brokers", "a real Kafka of one broker"
FIRST = (  # the longest first; each the beginning of a share's name
    CLUSTER,
    BROKER,
    "tests/test_docs_types.py",
    "tests/windlass/test_scenarios.py",
    "tests/windlass/test_planted_protocol_bugs.py",
    "tests/windlass/test_undone_mends.py",
    "tests/windlass/test_both_sides.py",
    "tests/windlass/test_kept_seeds.py",
    "tests/soak/",
    "tests/actors/test_workers_processes.py",
    "tests/protocols/postgres/",
    "tests/protocols/redis/test_redis_cluster",
    "tests/windlass/",
    "tests/examples/",
    "tests/actors/test_simulated_worlds.py",
)
SERVERS = {CLUSTER: re.compile(r"\bkafka_cluster\b"), BROKER: re.compile(r"\b(?:kafka_broker|any_kafka)\b")}


@cache
def share_of(path: str) -> str:
    """The name of the tests that a file's are run with: the file's own, or that of the servers it uses."""
    text = (ROOT / path).read_text()
    return next((share for share, fixtures in SERVERS.items() if fixtures.search(text)), path)


def share_of_test(nodeid: str) -> str:
    return share_of(nodeid.partition("::")[0])


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Shares that take long first, then those with many tests; within one, as they stand."""
    sizes = Counter(share_of_test(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int, str]:
        share = share_of_test(item.nodeid)
        first = (number for number, name in enumerate(FIRST) if share.startswith(name))
        return next(first, len(FIRST)), -sizes[share], share

    return sorted(items, key=place)


def process_count() -> int:
    """One more than there are cores: one process or another always waits, for a server or for a clock."""
    return len(os.sched_getaffinity(0)) + 1


class Shares(LoadScopeScheduling):
    """A share is given out as a whole, in the order of `in_order`."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return share_of_test(nodeid)
