"""`windlass demo`: what one slow backend does to requests that do not need it.

Two backends and two gateways over them, one with Windlass's pools and one with pools whose connections are
acquired and held (see `holding`), get the same load side by side: both backends healthy, then one slow, then
that one dead. Backends, gateways and loads are processes of their own (`programs`); the command starts them,
turns the backend slow, kills it, and shows the figures. It is itself a Windlass program: processes are
machines, the course of the demo is a flow.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors import Loop, Reply, gather, sleep
from protocols import http
from windlass.arguments import Parser, integer, seconds
from windlass.logs import tell

from .chart import draw
from .display import Display, explanation, table, verdict_lines
from .figures import Figures, Sample
from .processes import Program, ProgramEnded
from .scenario import HOLDING, PHASES, POOLS, SLOW_SECONDS, USERS_SHARE, WARM_UP_SECONDS, WINDLASS

__all__ = ["run_demo"]

ANY_PORT = "127.0.0.1:0"
REFRESH_SECONDS = 0.25
ROLES = {WINDLASS: "gateway-windlass", HOLDING: "gateway-holding"}


class Demo:
    """The programs and what is known of them."""

    def __init__(self, loop: Loop, rate: int) -> None:
        self.loop = loop
        self.rate = rate
        self.figures = Figures()
        self.programs: list[Program] = []
        self.addresses: dict[str, str] = {}  # of backends by role, of gateways by pool
        self.carts: Program
        self._interrupted = False

    async def start(self) -> None:
        """Backends, then gateways. Raises `ProgramEnded` if one does not come up."""
        backends = [self.program(role, ANY_PORT) for role in ("users", "carts")]
        self.carts = backends[1]
        users, carts = await gather(*(program.first for program in backends))
        self.addresses |= {"users": users, "carts": carts}
        urls = f"http://{users}", f"http://{carts}"
        gateways = [self.program(ROLES[pool], ANY_PORT, *urls) for pool in POOLS]
        found = await gather(*(program.first for program in gateways))
        self.addresses |= dict(zip(POOLS, found, strict=True))

    async def play(self, phase_seconds: float) -> None:
        """The three phases, under load."""
        loads = []
        for pool in POOLS:

            def received(samples: list[list[float]], pool: str = pool) -> None:
                self.figures.add(pool, [Sample(due, took, bool(a), bool(g)) for due, took, a, g in samples])

            loads.append(
                self.program("load", f"http://{self.addresses[pool]}", str(self.rate), received=received)
            )
        await gather(*(load.first for load in loads))
        await sleep(WARM_UP_SECONDS)
        for index in range(len(PHASES)):
            if index == 1:
                await self.delay_carts(SLOW_SECONDS)
            elif index == 2:
                self.carts.kill()
            self.figures.begin(self.loop.time())
            await sleep(phase_seconds)
        self.figures.begin(self.loop.time())
        for load in loads:
            load.end()
        await gather(*(load.ended for load in loads))

    async def delay_carts(self, seconds: float) -> None:
        """Set how long the backend `carts` takes."""
        control = self.loop.spawn(http.pool(f"http://{self.addresses['carts']}", connections=1))
        await control.submit(http.put(f"/delay/{seconds:g}"))
        control.drain()

    async def restart_carts(self) -> None:
        """A new `carts` in the dead one's place."""
        await self.carts.ended
        self.carts = self.program("carts", self.addresses["carts"])
        await self.carts.first

    def program(self, role: str, *arguments: str, received: object = None) -> Program:
        """Start one of the programs."""
        program = self.loop.spawn(Program(role, *arguments, received=received))  # type: ignore[arg-type]
        self.programs.append(program)
        return program

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """SIGINT and SIGTERM end `wait` and nothing else: no program is lost while it is being started."""

        def arrived(number: int, frame: object) -> None:
            self._interrupted = True
            self.loop.notifier.wake(0)

        before = {number: signal.signal(number, arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, reply: Reply[Any], display: Display | None = None) -> None:
        """Go on until the reply has settled, and show it. Raises its error, or `KeyboardInterrupt`."""
        shown = 0.0
        while not reply.settled:
            self.loop.tick(REFRESH_SECONDS)
            if self._interrupted:
                raise KeyboardInterrupt
            now = self.loop.time()
            if display is not None and now - shown >= REFRESH_SECONDS:
                shown = now
                display.update(now)
        reply.result()

    def end(self) -> None:
        """Ask all of them to end; the loop's close waits for it."""
        for program in self.programs:
            program.end()


def run_demo(argv: Sequence[str]) -> int:
    """Run the demo; the exit status is 1 if something does not start, or with `--check` is not kept."""
    parser = demo_parser()
    options = parser.parse(argv)
    if options is None:
        return 0
    if not Path(options.chart).absolute().parent.is_dir():
        parser.fail(f"--chart {options.chart}: there is no such folder; write another file")
    with Loop() as loop:
        demo = Demo(loop, options.rate)
        with demo.interruptible():
            try:
                return perform(demo, options)
            except ProgramEnded as error:
                tell(f"windlass demo: {error}")
                return 1
            finally:
                demo.end()


def demo_parser() -> Parser:
    """The options."""
    parser = Parser(
        "windlass demo", "What one slow backend does to requests that do not need it, side by side."
    )
    add = parser.add_argument
    add("--seconds", type=seconds(0.5, 600), default=7.0, metavar="S", help="per phase (default 7)")
    add("--rate", type=integer(10, 5000), default=300, metavar="N",
        help="requests per second for each gateway (default 300)")  # fmt: skip
    add("--chart", default="windlass-demo.svg", metavar="FILE",
        help="where the chart is written (default windlass-demo.svg)")  # fmt: skip
    add(
        "--serve", action="store_true", help="keep gateways and backends up afterwards, to be tried with curl"
    )
    add(
        "--check",
        action="store_true",
        help="exit with status 1 if the slow backend harmed what does not need it",
    )
    return parser


def perform(demo: Demo, options: argparse.Namespace) -> int:
    """From the first program to the last line."""
    loop, figures = demo.loop, demo.figures
    with Display(figures, options.seconds) as display:
        display.console.print(explanation(options.rate), soft_wrap=True)
        demo.wait(loop.spawn(demo.start()))
        demo.wait(loop.spawn(demo.play(options.seconds)), display)
    show = display.console.print
    show(table(figures))
    for line in verdict_lines(figures):
        show(line, soft_wrap=True)
    path = Path(options.chart)
    path.write_text(draw(figures, options.rate * USERS_SHARE), encoding="utf-8")
    show(f"Chart: {path.absolute()}", soft_wrap=True)
    if options.serve:
        keep_serving(demo, display)
    verdict = figures.verdict(WINDLASS)
    return int(options.check and not (verdict is not None and verdict.isolated))


def keep_serving(demo: Demo, display: Display) -> None:
    """Until Ctrl-C."""
    demo.wait(demo.loop.spawn(demo.restart_carts()))
    carts = f"http://{demo.addresses['carts']}"
    lines = ["", "Everything is running again, until Ctrl-C. Try:"]
    lines += [f"  curl http://{demo.addresses[pool]}/profile/7    # {pool}; or /users/7" for pool in POOLS]
    lines += [f"  curl -X PUT {carts}/delay/2    # carts becomes slow; 0.01: as before"]
    display.console.print("\n".join(lines), soft_wrap=True)
    try:
        demo.wait(Reply())
    except KeyboardInterrupt:
        pass
