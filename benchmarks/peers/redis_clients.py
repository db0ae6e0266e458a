"""GET by 64 concurrent asyncio tasks through other clients: microseconds of CPU per operation.

python benchmarks/peers/redis_clients.py redis-py|valkey-glide PORT COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

CALLERS = 64


async def connect(client: str, port: int) -> Any:
    if client == "redis-py":
        import redis.asyncio

        return redis.asyncio.Redis(port=port, max_connections=CALLERS)
    import glide

    return await glide.GlideClient.create(
        glide.GlideClientConfiguration([glide.NodeAddress("127.0.0.1", port)])
    )


async def call(client: Any, count: int) -> None:
    for _ in range(count):
        if await client.get("key") != b"value":
            raise AssertionError("another's answer")


async def main(name: str, port: int, count: int) -> float:
    client = await connect(name, port)
    await client.set("key", "value")
    await asyncio.gather(*[call(client, 10) for _ in range(CALLERS)])
    before = time.process_time()
    await asyncio.gather(*[call(client, count // CALLERS) for _ in range(CALLERS)])
    spent = time.process_time() - before
    await (client.aclose() if hasattr(client, "aclose") else client.close())
    return spent


if __name__ == "__main__":
    operations = int(sys.argv[3])
    print(asyncio.run(main(sys.argv[1], int(sys.argv[2]), operations)) / operations * 1e6)
