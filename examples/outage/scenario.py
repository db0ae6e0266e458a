"""What is the same for all three applications: pools, time limits, load, phases, and the statements."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACCOUNTS",
    "ACCOUNTS_PER_SECOND",
    "APPLICATIONS",
    "BALANCE",
    "CLIENT_SECONDS",
    "DATABASE_CONNECTIONS",
    "DATABASE_SECONDS",
    "PHASES",
    "QUICK_SECONDS",
    "RATES_CONNECTIONS",
    "RATES_SECONDS",
    "RECORD",
    "REPORTS_PER_SECOND",
    "SET_UP",
    "SLOW_SECONDS",
    "WARM_UP_SECONDS",
]

APPLICATIONS: Final = {  # module: how it is called in the table
    "holding": "asyncpg, held",
    "releasing": "asyncpg, released",
    "submitting": "Windlass",
}
PHASES: Final = ("quick", "slow", "quick again")  # what the rates are

DATABASE_CONNECTIONS: Final = 10  # asyncpg's default, and Windlass's
RATES_CONNECTIONS: Final = 100  # aiohttp's default
DATABASE_SECONDS: Final = 1.0  # that a request waits for the database, the queue for it included
RATES_SECONDS: Final = 2.0  # for the rates; stricter than what clients do by themselves: httpx 5, aiohttp 300
CLIENT_SECONDS: Final = 5.0  # after which a client goes away

QUICK_SECONDS: Final = 0.01  # what the rates take when all is well
SLOW_SECONDS: Final = 5.0  # and when it is not
WARM_UP_SECONDS: Final = 2.0  # of load that is not counted, before every round
ACCOUNTS_PER_SECOND: Final = 150.0  # asked of each application, whatever becomes of the answers
REPORTS_PER_SECOND: Final = 50.0

ACCOUNTS: Final = 100
SET_UP: Final = (
    "drop table if exists reports, accounts",
    "create table accounts (id int primary key, balance int not null)",
    f"insert into accounts select i, i * 100 from generate_series(1, {ACCOUNTS}) i",
    "create table reports (account int not null, value double precision not null)",
)
BALANCE: Final = "select balance from accounts where id = $1"
RECORD: Final = "insert into reports values ($1, $2)"
