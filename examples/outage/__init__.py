"""The held-connection outage, measured: python -m examples.outage

An application has two endpoints. `/account` needs the database; `/report` needs the database and the rates,
which come over HTTP. Three FastAPI applications answer them alike and differ in one thing alone:

- `holding`: `/report` keeps its database connection while it waits for the rates.
- `releasing`: the same with that repaired by hand.
- `submitting`: with Windlass, where there is no connection to keep.

All get the same load at the same time while the rates are quick, turn slow, and are quick again. What is
measured is `/account`, which does not need them.
"""

__all__: list[str] = []
