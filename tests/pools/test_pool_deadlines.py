"""What `DeadlineExceeded` says: whose unit, where, how far it was, and how long it has waited."""

from __future__ import annotations

import pytest

from pools import DeadlineExceeded, Exchanges, Held
from pools.testing import Ask, Bench, LineWire


def late(bench: Bench, reply: object) -> DeadlineExceeded:
    error = reply.error  # type: ignore[attr-defined]
    assert isinstance(error, DeadlineExceeded)
    assert bench.add_up()
    for part in (error.pool, error.unit, error.stage, f"{error.seconds:.3g} s"):
        assert part in str(error)
    return error


@pytest.mark.parametrize("stage", ["queued", "connecting", "handshake", "sent"])
def test_it_names_pool_backend_unit_stage_and_seconds(stage: str) -> None:
    bench = Bench(lambda: LineWire(b"hello" if stage == "handshake" else b""), connections=1, name="cache")
    bench.advance(100.0)
    if stage == "queued":
        bench.submit("busy", timeout=9.0)
        bench.accept()
    reply = bench.submit("mine", timeout=2.0)
    bench.run()
    if stage in ("sent", "handshake"):
        bench.accept()
    bench.advance(2.5)
    error = late(bench, reply)
    assert error.stage == ("connecting" if stage == "handshake" else stage)
    assert (error.pool, error.backend, error.unit) == ("cache", "192.0.2.7:7000", "Ask('mine')")
    assert error.seconds == pytest.approx(2.5, abs=0.01)
    assert ("may have been executed" in str(error)) == (stage == "sent")
    assert ("was not sent" in str(error)) == (stage != "sent")
    assert ("does it want TLS" in str(error)) == (stage == "handshake")


def test_of_several_backends_none_is_named_before_one_is_chosen() -> None:
    bench = Bench(backends=("192.0.2.1:7000", "192.0.2.2:7000"), name="cache")
    reply = bench.submit("mine", timeout=2.0)
    bench.run()
    bench.advance(2.1)
    assert late(bench, reply).backend == ""


def test_between_exchanges() -> None:
    class Both(Exchanges[bytes]):
        def __repr__(self) -> str:
            return "<Both>"

        async def body(self, held: Held) -> bytes:
            await held.submit(Ask("one"))
            return await held.submit(Ask("two"))

    bench = Bench(connections=1)
    reply = bench.submit(Both(), timeout=1.0)
    bench.accept()
    bench.answer("ONE")
    bench.advance(1.1)
    error = late(bench, reply)
    assert (error.stage, error.unit, error.backend) == ("sent", "<Both>", "192.0.2.7:7000")


def test_a_unit_whose_repr_fails_is_named_by_its_class() -> None:
    class Shy(Ask):
        __slots__ = ()

        def __repr__(self) -> str:
            raise RuntimeError("a bug")

    bench = Bench(connections=1)
    reply = bench.submit(Shy("x"), timeout=1.0)
    bench.accept()
    bench.advance(1.1)
    assert late(bench, reply).unit == "<Shy>"
