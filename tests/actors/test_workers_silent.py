"""Workers that say nothing any more: stopped, or computing without end."""

from __future__ import annotations

import os
import signal

import pytest

from actors import Backoff, workers
from actors.workers.slots import Limits, Process, Slot
from tests.actors.workers_harness import Service, Upload, ask

SILENCE = 2.5  # seconds


def process_of(slot: Slot) -> Process:
    slot.current = process = Process(slot, 4711, 100.0, 160.0)
    process.state = "ready"
    return process


def test_what_silence_means():
    slot = Slot(1, {})
    process = process_of(slot)
    assert process.verdict(109.9, 10.0) == "fine"
    assert process.verdict(110.0, 10.0) == "replace"
    process.suspected, process.reason = True, "it has said nothing for 10 s"
    assert process.verdict(119.9, 10.0) == "fine"
    assert process.verdict(120.0, 10.0) == "kill"
    slot.successor = Process(slot, 4712, 110.0, 170.0)
    assert process.verdict(120.0, 10.0) == "fine"
    process.hears(120.0)
    assert (process.suspected, process.reason) == (False, "")
    assert process.verdict(121.0, 10.0) == "fine"
    assert process.verdict(1e9, float("inf")) == "fine"


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_only_who_serves_is_watched_for_silence(state):
    process = process_of(Slot(1, {}))
    process.state = state
    assert process.verdict(1e9, 10.0) == "fine"


def test_a_silence_that_is_shorter_than_a_sign_of_life_is_refused():
    with pytest.raises(ValueError, match="write more than 1 seconds"):
        Limits(5, 30.0, Backoff(0.1, 5.0), 1.0)
    with pytest.raises(ValueError, match="silence=0"):
        workers.serve(lambda loop: None, workers=1, silence=0)


def test_what_waits_for_a_stopped_worker_goes_to_its_successor():
    with Service(silence=SILENCE, drain=0.1) as two:
        two.ready()
        victim = Upload(two).pid
        os.kill(victim, signal.SIGSTOP)
        waiting = [two.connect() for _ in range(20)]  # about half of them in its queue
        for connection in waiting:
            connection.request("GET", "/")
        silent = two.event("worker silent; it gets a successor", pid=victim)
        assert silent["reason"].startswith("it has said nothing for ")
        successor = two.event("worker ready", worker=silent["worker"])["pid"]
        answered = {int(connection.getresponse().read()) for connection in waiting}
        assert victim not in answered
        assert successor in answered or len(answered) == 1
        two.event("worker killed: it is late", pid=victim)
        ended = two.event("worker ended before its work was done", pid=victim)
        assert ended["reason"] == silent["reason"]
        two.signal(signal.SIGTERM)
        assert two.wait() == 0
        told = two.report()
        assert told["replaced"] >= 1
        assert told["died"] == 0


def test_a_worker_that_goes_on_finishes_what_it_has_begun():
    with Service(workers=1, silence=SILENCE, drain=20.0) as one:
        one.ready(1)
        upload = Upload(one)
        os.kill(upload.pid, signal.SIGSTOP)
        one.event("worker silent; it gets a successor", pid=upload.pid)
        successor = one.event("worker ready")["pid"]
        assert ask(one.connect()) == successor
        os.kill(upload.pid, signal.SIGCONT)
        response = upload.finish()
        assert (response.status, int(response.read())) == (200, upload.pid)
        one.event("worker ended", pid=upload.pid)
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
        assert one.report()["cut_off"] == 0


def test_one_that_stays_silent_is_killed_where_it_can_have_no_successor(tmp_path):
    broken = tmp_path / "broken"
    with Service(workers=1, silence=SILENCE, broken=str(broken)) as one:
        one.ready(1)
        victim = ask(one.connect())
        broken.touch()
        os.kill(victim, signal.SIGSTOP)
        one.event("replacement failed; the old worker continues")
        broken.unlink()
        one.event("worker killed: it is silent", pid=victim)
        died = one.event("worker died", pid=victim)
        assert died["reason"].startswith("it has said nothing for ")
        successor = one.event("worker ready")["pid"]
        assert ask(one.connect()) == successor
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
