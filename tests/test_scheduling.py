"""What begins first and what is run together is said of files that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scheduling import BROKER, CLUSTER, FIRST, in_order, share_of

ROOT = Path(__file__).parent.parent
FILES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py"))]


@pytest.mark.parametrize("name", FIRST)
def test_what_begins_first_is_there(name: str) -> None:
    assert any(share_of(path).startswith(name) for path in FILES)


def test_brokers_are_shared() -> None:
    assert share_of("tests/protocols/kafka/test_kafka_brokers.py") == CLUSTER
    assert share_of("tests/protocols/kafka/test_kafka_transactions.py") == BROKER
    assert share_of("tests/pools/test_pool.py") == "tests/pools/test_pool.py"


def test_the_order_is_by_length_then_by_number_then_as_it_was() -> None:
    class Item:
        def __init__(self, nodeid: str) -> None:
            self.nodeid = nodeid

        def __repr__(self) -> str:
            return self.nodeid.partition("tests/")[2]

    few, many, long = (
        "tests/pools/test_pool.py",
        "tests/pools/test_wires.py",
        "tests/soak/test_churn.py",
    )
    items = [
        Item(f"{path}::{name}") for path, names in [(few, "b"), (many, "ba"), (long, "c")] for name in names
    ]
    assert [repr(item) for item in in_order(items)] == [  # type: ignore[arg-type]
        "soak/test_churn.py::c",
        "pools/test_wires.py::b",
        "pools/test_wires.py::a",
        "pools/test_pool.py::b",
    ]
