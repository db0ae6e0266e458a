"""The chart, as SVG: throughput and latency of the requests that need only the healthy backend, over the
three phases.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log10
from typing import Final

from .figures import Bucket, Figures
from .scenario import HOLDING, PHASES, POOLS, WINDLASS

__all__ = ["draw"]

WIDTH, HEIGHT = 860, 544
LEFT, RIGHT = 64, 700  # the plots; names of the lines stand right of them
PANELS: Final = ((96, 276), (328, 508))  # top and bottom of both
COLOURS: Final = {WINDLASS: "#c2410c", HOLDING: "#475569"}
TEXT, FAINT = "#334155", "#e2e8f0"
BANDS: Final = ("#f8fafc", "#fef3c7", "#fee2e2")
MILLISECONDS: Final = (1, 10, 100, 1000)
STYLE: Final = "text { font: 13px sans-serif; fill: #334155 } .title { font-size: 17px; font-weight: bold }"


def draw(figures: Figures, asked_per_second: float) -> str:
    """The whole document."""
    end = figures.starts[-1] - figures.starts[0]

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * seconds / end

    top = 1.2 * asked_per_second
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 28, "Requests that need only the healthy backend", "title"),
        text(LEFT, 50, "while the other backend, carts, is healthy, then slow, then dead"),
        *bands(figures, x),
        *panel(
            0,
            "answered per second",
            [(value, f"{value:g}") for value in (0.0, asked_per_second / 2, asked_per_second)],
            lambda value: value / top,
            x,
            {pool: [(b.at, b.per_second) for b in figures.buckets(pool)] for pool in reversed(POOLS)},
        ),
        *panel(
            1,
            "p99 latency, in milliseconds (logarithmic)",
            [(float(value), f"{value:,}") for value in MILLISECONDS],
            lambda value: log10(max(1.0, value)) / log10(1.2 * MILLISECONDS[-1]),
            x,
            {pool: latencies(figures.buckets(pool)) for pool in reversed(POOLS)},
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def latencies(buckets: list[Bucket]) -> list[tuple[float, float]]:
    """In milliseconds, where anything was answered."""
    return [(bucket.at, bucket.p99 * 1000) for bucket in buckets if bucket.p99 is not None]


def bands(figures: Figures, x: Callable[[float], float]) -> list[str]:
    """The phases, behind everything."""
    parts = []
    for index, phase in enumerate(PHASES):
        left = x(left_seconds(figures, index))
        width = x(left_seconds(figures, index + 1)) - left
        for top, bottom in PANELS:
            size = f'width="{width:.1f}" height="{bottom - top}"'
            parts.append(f'<rect x="{left:.1f}" y="{top}" {size} fill="{BANDS[index]}"/>')
        parts.append(text(left + width / 2, PANELS[0][0] + 20, phase.name, anchor="middle"))
        parts.append(text(left, PANELS[-1][1] + 20, f"{left_seconds(figures, index):.0f} s", anchor="middle"))
    return parts


def left_seconds(figures: Figures, index: int) -> float:
    """When a phase began, from the beginning of the first."""
    return figures.starts[index] - figures.starts[0]


def panel(
    index: int,
    title: str,
    ticks: list[tuple[float, str]],
    share: Callable[[float], float],
    x: Callable[[float], float],
    lines: dict[str, list[tuple[float, float]]],
) -> list[str]:
    """One plot: grid, both lines, and each line's name at its end. `share`: of the height, for a value."""
    top, bottom = PANELS[index]

    def y(value: float) -> float:
        return bottom - (bottom - top) * min(1.0, share(value))

    parts = [text(LEFT, top - 10, title)]
    for value, label in ticks:
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{RIGHT}" stroke="{FAINT}"/>')
        parts.append(text(LEFT - 8, y(value) + 4, label, anchor="end"))
    placed: list[float] = []
    for pool, points in lines.items():
        if not points:
            continue
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[pool]}" stroke-width="2.5"/>')
        where = y(points[-1][1]) + 4
        if any(abs(where - other) < 18 for other in placed):
            where = max(placed) + 18  # both ends in one place: the names stand below each other
        placed.append(where)
        parts.append(text(RIGHT + 10, where, pool, fill=COLOURS[pool]))
    return parts


def text(x: float, y: float, words: str, name: str = "", *, anchor: str = "start", fill: str = TEXT) -> str:
    """A line of text. None of ours needs escaping."""
    title = f' class="{name}"' if name else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill: {fill}"{title}>{words}</text>'
