"""Context variables: what a task or a thread asks for sees the asker's, and the asker sees nothing of it."""

from __future__ import annotations

from contextvars import ContextVar

import anyio
import pytest

from actors import Loop, Machine, Reply, offload, sleep
from tests.actors.embedding.hosts import HOSTS, run_in

who: ContextVar[str] = ContextVar("who", default="nobody")


async def flow():
    seen = who.get()
    who.set("the flow")
    await sleep(0)
    return seen, who.get(), await offload(who.get)


@pytest.mark.parametrize("host", HOSTS)
def test_a_flow_sees_the_variables_of_the_task_that_spawned_it(host):
    async def main():
        async with Loop.in_anyio() as loop:
            got = {}

            async def task(name):
                who.set(name)
                reply = loop.spawn(flow())
                who.set("changed meanwhile")
                got[name] = await reply
                assert who.get() == "changed meanwhile"
                who.set(name)
                assert await offload(who.get) == name

            async with anyio.create_task_group() as group:
                for name in ("ada", "bob"):
                    group.start_soon(task, name)
            assert got == {name: (name, "the flow", "the flow") for name in ("ada", "bob")}
            assert who.get() == "nobody"

    run_in(host, main)


class Tells(Machine):
    """In the place of a pool."""

    def handle(self, scope):
        return self

    def submit(self, unit, timeout=None, priority=0):
        reply = Reply()
        reply.settle((unit, who.get()))
        return reply


def test_what_a_thread_asks_for_sees_its_variables():
    with Loop.in_thread() as loop:
        pool = loop.spawn(Tells())
        before = who.set("ada")
        try:
            assert loop.spawn(flow()).result(timeout=10) == ("ada", "the flow", "the flow")
            assert pool.submit("unit").result(timeout=10) == ("unit", "ada")
            assert loop.call(who.get).result(timeout=10) == "ada"
            loop.call(who.set, "the call").result(timeout=10)
            assert who.get() == "ada"
        finally:
            who.reset(before)
        assert loop.call(who.get).result(timeout=10) == "nobody"
        assert loop.spawn(flow()).result(timeout=10)[0] == "nobody"
