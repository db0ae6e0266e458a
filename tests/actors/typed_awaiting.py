"""What the type checker must say of what is awaited. Never run: `test_docs_types` has it checked."""

from __future__ import annotations

from typing import assert_type

from actors import Channel, Loop, Reply, first, gather, settle_all, sleep, with_deadline


async def count() -> int:
    await sleep(0)
    return 1


async def composed(loop: Loop, number: Reply[int], text: Reply[str], data: Reply[bytes]) -> None:
    assert_type(await gather(number), tuple[int])
    one, two = await gather(number, text)
    assert_type(one, int)
    assert_type(two, str)
    assert_type(await gather(number, text, data), tuple[int, str, bytes])
    eight = await gather(number, text, data, number, text, data, number, text)
    assert_type(eight, tuple[int, str, bytes, int, str, bytes, int, str])
    numbers = [number, number]
    assert_type(await gather(*numbers), tuple[int, ...])
    assert_type(await gather(loop.spawn(count()), text), tuple[int, str])

    left, right = await settle_all(number, text)
    assert_type(left, int | BaseException)
    assert_type(right, str | BaseException)
    assert_type(await settle_all(*numbers), tuple[int | BaseException, ...])

    assert_type(await first(number, text), int | str)
    assert_type(await first(*numbers), int)
    assert_type(await first(number), int)


async def single(number: Reply[int], channel: Channel[str]) -> None:
    assert_type(await number.map(str), str)
    assert_type(await with_deadline(number, 1.0), int)
    assert_type(await channel.receive(), str)
    async for item in channel:
        assert_type(item, str)
    number.when_settled(lambda reply: assert_type(reply, Reply[int]))
    gather(1)  # type: ignore[call-overload]
    gather(count(), number)  # type: ignore[call-overload]
