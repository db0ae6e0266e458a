"""Stories made by hypothesis, and what they are made of."""

from __future__ import annotations

import builtins
import importlib
import sys
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from actors import ANYTHING, Outcome, Stop, StreamProtocol, Timeout, Transport
from actors.testing import Driver
from actors.testing.events import DRAIN, END, Event, chain, do
from actors.testing.strategies import events, inputs


class Echo(StreamProtocol):
    def connected(self, transport: Transport) -> Outcome:
        return Timeout(self, transport.scope.now + 10, ANYTHING)

    def received(self, transport: Transport) -> Outcome:
        transport.write(transport.take(len(transport.input)))
        return self.connected(transport)

    def timeout(self, transport: Transport) -> Outcome:
        return Stop()


@given(events([b"hello"]))
@settings(max_examples=50, deadline=None)
def test_any_story_can_be_told(story: list[Event]) -> None:
    driver = Driver(Echo())
    for event in story:
        event.happen(driver)
    assert driver.stops == (not driver.alive)
    assert driver.clean_up_error is None


@given(inputs([b"abcdef"], noise=False))
@settings(max_examples=50, deadline=None)
def test_a_message_is_cut_and_nothing_is_lost(parts: list[Event]) -> None:
    assert b"".join(part.arguments[0] for part in parts) == b"abcdef"
    assert 1 <= len(parts) <= 3


@given(events(peer=False, others=[do(print)]))
@settings(max_examples=50, deadline=None)
def test_a_machine_without_a_connection_hears_of_no_peer(story: list[Event]) -> None:
    assert {event.method for event in story} <= {"wake", "expire", "drain", "stop", "advance", "do"}


def test_a_failing_story_shrinks_to_the_line_of_a_test() -> None:
    def ends_well(story: list[Event]) -> bool:
        driver = Driver(Echo())
        for event in story:
            event.happen(driver)
        return not driver.alive and DRAIN not in story

    assert len(find(events([b"hi"]), ends_well)) == 1
    assert chain([END, do(ends_well)]) == ".end().do(ends_well)"
    assert isinstance(events(), st.SearchStrategy)


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name == "hypothesis":
            raise ModuleNotFoundError("No module named 'hypothesis'")
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "actors.testing.strategies")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"'windlass-runtime\[testing\]'"):
        importlib.import_module("actors.testing.strategies")
