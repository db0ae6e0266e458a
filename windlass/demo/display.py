"""What is seen of the demo: a live table in a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .figures import P99_MOST, THROUGHPUT_LEAST, Figures, Row, Verdict
from .scenario import CONNECTIONS, PHASES, POOLS, TIMEOUT_SECONDS, USERS_SHARE, WINDLASS

__all__ = ["Display", "explanation", "table", "verdict_lines"]

WIDTH_PIPED = 80  # characters
TITLE = "Requests that need only the healthy backend"


class Display:
    """Shows the figures while they come: `with Display(...) as display:`, then `update` now and then."""

    def __init__(self, figures: Figures, seconds: float) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=WIDTH_PIPED, no_color=True)
        self._figures = figures
        self._seconds = seconds
        self._live = Live(console=self.console, auto_refresh=False, transient=True)  # no thread of its own
        self._said = 0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, now: float) -> None:
        """Show what there is at `now` (monotonic seconds)."""
        if self.console.is_terminal:
            self._live.update(Group(self._progress(now), table(self._figures)), refresh=True)
            return
        phase = len(self._figures.starts) - 1
        if phase < 0 or phase >= len(PHASES):
            return
        second = int(now - self._figures.starts[0])
        if second > self._said:
            self._said = second
            self.console.print(self._line(phase), soft_wrap=True)

    def _progress(self, now: float) -> Text:
        phase = len(self._figures.starts) - 1
        if phase < 0:
            return Text("warming up ...")
        if phase >= len(PHASES):
            return Text("waiting for the last answers ...")
        passed = now - self._figures.starts[phase]
        done = min(20, round(20 * passed / self._seconds))
        bar = "━" * done + "─" * (20 - done)
        return Text(f"{bar}  phase {phase + 1} of {len(PHASES)}: {PHASES[phase].event}")

    def _line(self, phase: int) -> str:
        words = []
        for pool in POOLS:
            row = self._figures.row(pool, phase)
            told = "no answer yet" if row is None else f"{row.per_second:.0f}/s, p99 {milliseconds(row.p99)}"
            words.append(f"{pool}: {told}")
        return f"{PHASES[phase].name}: " + "; ".join(words)


def table(figures: Figures) -> Table:
    """One line per phase and pool."""
    view = Table(
        title="Requests that need only the healthy backend", title_justify="left", title_style="bold"
    )
    view.box = SIMPLE_HEAD
    view.pad_edge = False
    view.collapse_padding = True
    view.add_column("phase")
    view.add_column("pools")
    for heading in ("answered", "per s", "p50", "p99"):
        view.add_column(heading, justify="right")
    view.add_column("(need both)", justify="right", style="dim")
    for index, phase in enumerate(PHASES):
        for pool in POOLS:
            row = figures.row(pool, index) if index < len(figures.starts) else None
            name, style = (phase.name, "bold") if pool == WINDLASS else ("", "")
            view.add_row(name, pool, *cells(row), style=style, end_section=pool == POOLS[-1])
    return view


def cells(row: Row | None) -> list[str]:
    """The figures of one line."""
    if row is None:
        return [""] * 5
    return [
        f"{row.good:.1%}",
        f"{row.per_second:.1f}",
        milliseconds(row.p50),
        milliseconds(row.p99),
        f"{row.both:.1%}",
    ]


def milliseconds(seconds: float | None) -> str:
    """A latency; a dash if nothing was answered."""
    return "-" if seconds is None else f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f} ms"


def explanation(rate: float) -> str:
    """What the reader is going to see."""
    alone = rate * USERS_SHARE
    return (
        f"Two gateways get {rate:g} requests per second each: {alone:.0f} need only the backend\n"
        f"users, {rate - alone:.0f} need users and carts."
        f" Both have {CONNECTIONS} connections per backend and\n"
        f"wait {TIMEOUT_SECONDS * 1000:g} ms at most for each. One uses {WINDLASS}. The other acquires a\n"
        "connection to users and holds it while it works with carts, as most services\n"
        "do. Then carts becomes slow; then it dies."
    )


def verdict_lines(figures: Figures) -> list[str]:
    """What the slow phase left of the healthy one, for both; and what was promised."""
    verdicts = {pool: figures.verdict(pool) for pool in POOLS}
    lines = [f"  {pool}: {told(verdict)}" for pool, verdict in verdicts.items() if verdict is not None]
    ours = verdicts[WINDLASS]
    if ours is None:
        return ["Too few answers to compare; give it more --seconds."]
    promise = f"at least {THROUGHPUT_LEAST:.0%} of the throughput and at most {P99_MOST:g} × the p99"
    kept = "kept." if ours.isolated else "NOT kept. Is the machine busy with something else?"
    return [
        "With carts slow, the requests that do not need it had, compared with before:",
        *lines,
        f"  Promised: {promise}: {kept}",
    ]


def told(verdict: Verdict) -> str:
    """A verdict in words."""
    p99 = "no p99 as none was answered" if verdict.p99 is None else f"{verdict.p99:.2f} × the p99"
    return f"{verdict.throughput:.1%} of the throughput, {p99}"
