"""Writes what the documentation takes from elsewhere: diagrams of state tables, the measured figures.

    .venv/bin/python docs/generate.py

Diagrams are drawn by graphviz (`dot`); each SVG carries the digest of the graph it was drawn from, so that a
test without graphviz can tell whether it is current. Figures come from `docs/benchmarks/results.json`, which
`make bench` writes, and go between two markers in README.md; those of the outage, which `examples.outage`
measures, into its own page, with a chart.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from examples.outage.chart import draw as draw_outage
from examples.outage.figures import Outage
from examples.outage.scenario import APPLICATIONS
from pools.connections import TABLE, State
from protocols.http.server.states import ANSWER, BODY, CONNECTION

ROOT = Path(__file__).resolve().parent.parent
DIAGRAMS = ROOT / "docs" / "diagrams"
RESULTS = ROOT / "docs" / "benchmarks" / "results.json"
CHART = RESULTS.with_name("chart.svg")
OUTAGE = ROOT / "docs" / "benchmarks" / "outage.json"
OUTAGE_CHART = OUTAGE.with_name("outage.svg")
OUTAGE_PAGE = ROOT / "docs" / "outage.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"

STYLE = (
    'graph [rankdir=LR, bgcolor=white, fontname="Helvetica", nodesep=0.35, ranksep=0.6, pad=0.2]\n'
    '  node [shape=box, style="rounded,filled", fillcolor="#f1f5f9", color="#334155", fontname="Helvetica", '
    "fontsize=12]\n"
    '  edge [color="#64748b", fontcolor="#334155", fontname="Helvetica", fontsize=10, arrowsize=0.7]'
)

SERVER_TABLES = [
    ("connection", "a client's connection", CONNECTION),
    ("body", "while it is busy: the request's body", BODY),
    ("answer", "while it is busy: the answer", ANSWER),
]
"""Every arrow is walked by `tests/protocols/http/test_server_states.py`."""

UNIT_LIFE = [
    ("submitted", "refused", "queue full,\nbackend down,\npool drains"),
    ("submitted", "queued", "room"),
    ("queued", "sent", "a connection\ntakes it"),
    ("queued", "failed", "deadline, cancelled,\nbackend down"),
    ("sent", "answered", "answer complete"),
    ("sent", "queued", "connection lost:\nnot written, or\nidempotent"),
    ("sent", "failed", "connection lost:\notherwise"),
    ("sent", "orphan", "deadline,\ncancelled"),
    ("orphan", "dropped", "answer read\nand dropped"),
]
"""What can become of a unit. Every edge is walked by a test of the documentation."""


def quote(text: str) -> str:
    """A string of the dot language."""
    return json.dumps(text, ensure_ascii=False).replace("\\\\n", "\\n")


def connection_graph() -> str:
    """A connection's life, from the table that the code itself obeys."""
    lines = [f"  {quote(state.value)}" for state in State]
    lines += [
        f"  {quote(state.value)} -> {quote(after.value)} [label={quote(event.value)}]"
        for state, events in TABLE.items()
        for event, after in events.items()
    ]
    last = quote(State.DEAD.value)
    lines.append(f'  {last} [fillcolor="#e2e8f0", style="rounded,filled,dashed"]')
    lines.append(f'  {quote(State.READY.value)} [fillcolor="#ffedd5", color="#c2410c"]')
    return graph("connection", lines)


def server_graph() -> str:
    """A server's connection, a request's body and its answer, from the tables that the code itself obeys."""
    lines = []
    for name, title, table in SERVER_TABLES:
        lines += [f"  subgraph cluster_{name} {{", f"    label={quote(title)}", '    color="#cbd5e1"']
        for state in table:
            end = "" if table[state] else ', fillcolor="#e2e8f0", style="rounded,filled,dashed"'
            lines.append(f"    {quote(f'{name} {state}')} [label={quote(state)}{end}]")
        lines.append("  }")
        lines += [
            f"  {quote(f'{name} {state}')} -> {quote(f'{name} {after}')} [label={quote(event)}]"
            for state, events in table.items()
            for event, after in events.items()
        ]
        first = quote(f"{name} {next(iter(table))}")
        lines.append(f'  {first} [fillcolor="#ffedd5", color="#c2410c"]')
    return graph("server", lines)


def unit_graph() -> str:
    """What can become of a unit."""
    lines = [f"  {quote(before)} -> {quote(after)} [label={quote(why)}]" for before, after, why in UNIT_LIFE]
    lines += [
        f'  {end} [fillcolor="#e2e8f0", style="rounded,filled,dashed"]'
        for end in ("refused", "failed", "dropped")
    ]
    lines.append('  answered [fillcolor="#ffedd5", color="#c2410c"]')
    return graph("unit", lines)


def graph(name: str, lines: list[str]) -> str:
    """A graph in the dot language, in the house's colours."""
    return f"digraph {name} {{\n  {STYLE}\n" + "\n".join(lines) + "\n}\n"


def graphs() -> dict[str, str]:
    """Every diagram by its name, as text of the dot language."""
    return {"connection": connection_graph(), "server": server_graph(), "unit": unit_graph()}


def digest(source: str) -> str:
    """What an SVG says it was drawn from."""
    return f"<!-- drawn from {hashlib.sha256(source.encode()).hexdigest()} -->"


def is_drawn(name: str, source: str) -> bool:
    """Whether the picture is of this graph."""
    path = DIAGRAMS / f"{name}.svg"
    return path.exists() and digest(source) in path.read_text()


def draw(name: str, source: str) -> None:
    """Have graphviz draw the picture."""
    done = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True, check=True)
    svg = re.sub(r"<!-- Generated by graphviz.*?-->\n", "", done.stdout, flags=re.DOTALL)
    (DIAGRAMS / f"{name}.svg").write_text(svg.replace("<svg", f"{digest(source)}\n<svg", 1))


def figures() -> str:
    """The measured figures as tables; an honest sentence where nothing was measured yet."""
    if not RESULTS.exists():
        return "Not measured on this version yet: `make bench` writes the figures of your machine.\n"
    jobs: dict[str, Any] = json.loads(RESULTS.read_text())["jobs"]
    lines = ["| what | Windlass | beside it |", "|---|--:|---|"]
    for job in jobs.values():
        ranked = sorted(job["figures"].items(), key=lambda item: item[1]["value"])
        peers = [(who, figure["value"]) for who, figure in ranked if not who.startswith("windlass")]
        for who, figure in ranked:
            if who.startswith("windlass"):
                ours = figure["value"]
                title = job["title"] + who.removeprefix("windlass")
                beside = ", ".join(f"{peer} {number(value)} ({ratio(value, ours)})" for peer, value in peers)
                lines.append(f"| {title} | **{number(ours)} {job['unit']}** | {beside} |")
    return "\n".join([*lines, "", *origin(jobs), ""])


def origin(jobs: dict[str, Any]) -> list[str]:
    """When, where and how the figures were measured."""
    days = sorted({job["date"][:10] for job in jobs.values()})
    told = next(iter(jobs.values()))["machine"]
    lines = [
        f"In brackets: the multiple of the Windlass figure. Measured {' and '.join(days)} by `make bench` on",
        f"{told['cpu']}, {told['cores']} cores, {told['system']}, {told['python']}; medians of rounds.",
    ]
    if CHART.exists():
        lines.append("The same figures [as a chart](docs/benchmarks/chart.svg).")
    return lines


def ratio(value: float, ours: float) -> str:
    """How many times what Windlass takes."""
    times = value / ours
    return f"{times:.0f} ×" if times >= 10 else f"{times:.1f} ×" if times >= 0.95 else f"{times:.2f} ×"


def number(value: float) -> str:
    """Three digits, as the benchmarks print them."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def outage_figures(outage: Outage) -> str:
    """The figures of the outage as a table."""
    lines = ["| application | rates are | `/account` answered/s | p50, ms | p99, ms | `/report` answered/s |"]
    lines.append("|---|---|--:|--:|--:|--:|")
    for row in outage.rows:
        values = (value or 0.0 for value in (row.per_second, row.p50, row.p99, row.reports))
        cells = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values]
        lines.append(f"| {APPLICATIONS[row.application]} | {row.phase} | {' | '.join(cells)} |")
    kept = ", ".join(f"{title} {outage.kept(name):.0%}" for name, title in APPLICATIONS.items())
    told = outage.machine
    machine = f"{told['cpu']}, {told['cores']} cores, {told['system']}, {told['python']}"
    took = f"Phases of {outage.phase_seconds:g} seconds, medians of {outage.rounds} rounds"
    lines += [
        "",
        "The throughput of `/account` that remains while the rates are slow:",
        f"**{kept}**.",
        f"Latencies are the times that clients waited, whatever the result. {took},",
        f"measured {outage.date[:10]} on {machine}.",
    ]
    return "\n".join([*lines, ""])


def filled(page: Path, text: str) -> str:
    """The page with this between its markers."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{page.name} lacks the markers {BEGIN.strip()} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def generated() -> dict[Path, str]:
    """Every file that is written here, but for the pictures, with what belongs in it."""
    texts = {DIAGRAMS / f"{name}.dot": source for name, source in graphs().items()}
    texts[README] = filled(README, figures())
    outage = msgspec.json.decode(OUTAGE.read_bytes(), type=Outage)
    texts[OUTAGE_PAGE] = filled(OUTAGE_PAGE, outage_figures(outage))
    texts[OUTAGE_CHART] = draw_outage(outage)
    return texts


def main() -> int:
    """Write what is out of date."""
    DIAGRAMS.mkdir(exist_ok=True)
    for path, text in generated().items():
        path.write_text(text)
    stale = [(name, source) for name, source in graphs().items() if not is_drawn(name, source)]
    if stale and shutil.which("dot") is None:
        sys.stderr.write("the diagrams have changed, and there is no dot: apt-get install graphviz\n")
        return 1
    for name, source in stale:
        draw(name, source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
