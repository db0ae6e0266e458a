"""The chart, as SVG: throughput and latency of `/account` over time, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable
from math import log10
from typing import Final

from .figures import Outage, Window
from .scenario import ACCOUNTS_PER_SECOND, SLOW_SECONDS

__all__ = ["draw"]

WIDTH, HEIGHT = 820, 610
LEFT, RIGHT = 84, 796
PANELS: Final = ((132, 312), (364, 544))  # top and bottom of both
MILLISECONDS: Final = (1, 10, 100, 1000)
# Plain colours, and others for dark pages: viewers outside browsers know neither variables nor media queries.
STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #1e293b }
.title { font-size: 17px; font-weight: 600 }
.soft { fill: #64748b }
.page { fill: #ffffff }
.slow { fill: #fef3c7 }
.grid { stroke: #e2e8f0 }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.holding { stroke: #475569 }
.releasing { stroke: #0284c7; stroke-dasharray: 7 6 }
.submitting { stroke: #c2410c }
@media (prefers-color-scheme: dark) {
  text { fill: #e2e8f0 }
  .soft { fill: #94a3b8 }
  .page { fill: #0d1117 }
  .slow { fill: #3b2f10 }
  .grid { stroke: #27313f }
  .holding { stroke: #cbd5e1 }
  .releasing { stroke: #38bdf8 }
  .submitting { stroke: #fb923c }
}"""
LEGEND: Final = {
    "holding": "asyncpg, connection held during the call",
    "releasing": "asyncpg, released before it",
    "submitting": "Windlass",
}
ORDER: Final = ("holding", "submitting", "releasing")  # the dashed line is drawn over the one it may lie on


def draw(outage: Outage) -> str:
    """The whole document."""
    end = 3 * outage.phase_seconds

    def x(seconds: float) -> float:
        return LEFT + (RIGHT - LEFT) * seconds / end

    middle = (LEFT + RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
        "<title>Throughput and latency of an endpoint that needs only the database</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" class="page"/>',
        text(LEFT, 32, "/account needs only the database; what it needs never becomes slow", "title"),
        text(
            LEFT,
            54,
            "The HTTP backend of another endpoint, /report, does. Both share one database pool.",
            "soft",
        ),
        *legend(),
        *phases(outage.phase_seconds, x),
        *panel(
            0,
            "/account: answered per second",
            [(value, f"{value:g}") for value in (0.0, ACCOUNTS_PER_SECOND / 2, ACCOUNTS_PER_SECOND)],
            lambda value: value / (1.15 * ACCOUNTS_PER_SECOND),
            {name: [[(x(w.at), w.per_second) for w in windows]] for name, windows in outage.windows.items()},
        ),
        *panel(
            1,
            "/account: how long clients wait, p99 in milliseconds (logarithmic)",
            [(float(value), f"{value:,}") for value in MILLISECONDS],
            lambda value: log10(max(1.0, value)) / log10(2 * MILLISECONDS[-1]),
            {name: latencies(windows, x) for name, windows in outage.windows.items()},
        ),
        text(middle, HEIGHT - 20, "seconds", "soft", anchor="middle"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def latencies(windows: list[Window], x: Callable[[float], float]) -> list[list[tuple[float, float]]]:
    """Pieces of a line: it is broken where nothing was asked."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for window in windows:
        if window.p99 is not None:
            pieces[-1].append((x(window.at), window.p99))
        elif pieces[-1]:
            pieces.append([])
    return pieces


def legend() -> list[str]:
    """A row above the plots."""
    parts, left = [], float(LEFT)
    for name, title in LEGEND.items():
        parts.append(f'<path class="line {name}" d="M{left:.0f} 82h28"/>')
        parts.append(text(left + 36, 86, title))
        left += 64 + 7.2 * len(title)
    return parts


def phases(phase_seconds: float, x: Callable[[float], float]) -> list[str]:
    """The slow phase, shaded behind both plots, and the axis of time below each."""
    left, right = x(phase_seconds), x(2 * phase_seconds)
    parts = []
    for top, bottom in PANELS:
        size = f'width="{right - left:.1f}" height="{bottom - top}"'
        parts.append(f'<rect x="{left:.1f}" y="{top}" {size} class="slow"/>')
    words = f"backend takes {SLOW_SECONDS:g} s"
    parts.append(text((left + right) / 2, PANELS[0][0] - 12, words, anchor="middle"))
    for index in range(4):
        at = index * phase_seconds
        parts.append(text(x(at), PANELS[-1][1] + 20, f"{at:g}", "soft", anchor="middle"))
    return parts


def panel(
    index: int,
    title: str,
    ticks: list[tuple[float, str]],
    share: Callable[[float], float],
    lines: dict[str, list[list[tuple[float, float]]]],
) -> list[str]:
    """One plot: its title, the grid, the lines. `share`: of the height, for a value."""
    top, bottom = PANELS[index]

    def y(value: float) -> float:
        return bottom - (bottom - top) * min(1.0, share(value))

    parts = [text(LEFT, top - 12, title)]
    for value, label in ticks:
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{RIGHT}" class="grid"/>')
        parts.append(text(LEFT - 10, y(value) + 4, label, "soft", anchor="end"))
    for name in ORDER:
        for piece in lines[name]:
            points = " ".join(f"{at:.1f},{y(value):.1f}" for at, value in piece)
            parts.append(f'<polyline class="line {name}" points="{points}"/>')
    return parts


def text(x: float, y: float, words: str, name: str = "", *, anchor: str = "start") -> str:
    """A line of text. None of ours needs escaping."""
    kind = f' class="{name}"' if name else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{words}</text>'
