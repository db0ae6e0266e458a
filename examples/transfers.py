"""Money between accounts, each transfer one transaction: python -m examples.transfers --database URL

Many flows transfer at once under serializable isolation. What the server undoes for the sake of order is
run again by the unit itself; what the body refuses is rolled back. No caller holds a connection, so none can
hold up another.
"""

from __future__ import annotations

import argparse
import random

from actors import Loop, settle_all
from pools import Pool, PoolError
from protocols import postgres

__all__ = ["InsufficientFunds", "main", "open_accounts", "total", "transfer"]


class InsufficientFunds(Exception):
    """The account has less than that."""


@postgres.transaction(isolation="serializable", attempts=10)
async def transfer(tx: postgres.Transaction, source: int, target: int, amount: int) -> int:
    """Move an amount; what is left in the source."""
    balance: int = await tx.fetch_value("select balance from accounts where id = $1 for update", source)
    if balance < amount:
        raise InsufficientFunds(source)
    await tx.execute("update accounts set balance = balance - $2 where id = $1", source, amount)
    await tx.execute("update accounts set balance = balance + $2 where id = $1", target, amount)
    return balance - amount


@postgres.transaction
async def open_accounts(tx: postgres.Transaction, count: int, balance: int) -> None:
    """Create accounts 0 to `count` - 1 again."""
    await tx.execute("drop table if exists accounts")
    await tx.execute("create table accounts (id int primary key, balance bigint check (balance >= 0))")
    await tx.execute_many("insert into accounts values ($1, $2)", [(id, balance) for id in range(count)])


total = postgres.fetch_value("select sum(balance)::bigint from accounts", idempotent=True)


async def spend(pool: Pool, rng: random.Random, accounts: int, times: int) -> int:
    """Transfer at random; how many transfers were made."""
    done = 0
    for _ in range(times):
        source, target = rng.sample(range(accounts), 2)
        try:
            await pool.submit(transfer(source, target, rng.randint(1, 50)))
            done += 1
        except (InsufficientFunds, PoolError):
            continue  # rolled back, or not known: see its text
    return done


def main(arguments: list[str] | None = None) -> None:
    """Open accounts, transfer, show that the total is what it was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", default="postgresql://127.0.0.1/test", metavar="URL")
    parser.add_argument("--flows", type=int, default=32)
    parser.add_argument("--transfers", type=int, default=20, help="of each flow")
    given = parser.parse_args(arguments)
    with Loop() as loop:
        pool = loop.spawn(postgres.pool(given.database, connections=8))
        loop.run_until(pool.submit(open_accounts(8, 100)))
        before = loop.run_until(pool.submit(total))
        flows = [loop.spawn(spend(pool, random.Random(n), 8, given.transfers)) for n in range(given.flows)]
        done = loop.run_until(settle_all(*flows))
        after = loop.run_until(pool.submit(total))
    print(f"{sum(map(int, done))} transfers; {before} before, {after} after")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
