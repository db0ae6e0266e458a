"""Draws the chart: one panel per job, one bar per contestant, ours in colour. Runs in the peers' environment.

python -m benchmarks.chart RESULTS.json CHART.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, OTHERS, TEXT = "#c2410c", "#94a3b8", "#334155"
BAR_INCHES = 0.3


def panel(axes: Any, job: dict[str, Any]) -> None:
    """The bars of one job, cheapest on top."""
    ranked = sorted(job["figures"].items(), key=lambda item: item[1]["value"], reverse=True)
    names = [name for name, _ in ranked]
    values = [figures["value"] for _, figures in ranked]
    bars = axes.barh(names, values, color=[OURS if name.startswith("windlass") else OTHERS for name in names])
    axes.bar_label(
        bars, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values], padding=4, color=TEXT
    )
    axes.set_title(f"{job['title']}, {job['unit']}", loc="left", fontsize=10, color=TEXT)
    axes.set_xlim(0, max(values) * 1.15)
    axes.set_xticks([])
    axes.tick_params(length=0, colors=TEXT, labelsize=9)
    axes.spines[:].set_visible(False)


def main(results: Path, chart: Path) -> None:
    jobs = [job for job in json.loads(results.read_text())["jobs"].values() if job["figures"]]
    heights = [len(job["figures"]) + 1.5 for job in jobs]
    mpl.rcParams.update({"svg.hashsalt": "windlass", "font.family": "sans-serif"})
    figure, panels = plt.subplots(
        len(jobs),
        1,
        figsize=(8, sum(heights) * BAR_INCHES),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axes, job in zip(panels[:, 0], jobs, strict=True):
        panel(axes, job)
    figure.savefig(chart, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
