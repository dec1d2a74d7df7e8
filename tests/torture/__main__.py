"""Kill the service again and again, and check what must hold: ``scripts/torture --seeds 3``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from random import SystemRandom

import trio
from rich.console import Console
from rich.table import Table

from tests.rabbitmq import running_node
from tests.torture.conductor import TortureReport, torture
from tests.torture.plan import TorturePlan
from tests.torture.victim import SABOTAGES


def main() -> None:
    """Run seed after seed until all are done or the time is up."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs (default 3)")
    parser.add_argument("--first-seed", type=int, help="the first seed (default: a random one)")
    parser.add_argument("--kills", type=int, default=25, help="kills a run (default 25)")
    parser.add_argument(
        "--minutes", type=float, help="start no further run after this many minutes"
    )
    parser.add_argument(
        "--wrong",
        choices=SABOTAGES,
        default="",
        help="break the service on purpose; the checks must find it",
    )
    arguments = parser.parse_args()
    first = arguments.first_seed
    first = SystemRandom().randrange(1, 1_000_000) if first is None else first
    # A plain kill must end the processes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    began = time.monotonic()
    console = Console(soft_wrap=True)
    reports: list[TortureReport] = []
    folder = Path(tempfile.mkdtemp(prefix="oms-torture-"))
    with running_node() as node:
        for seed in range(first, first + arguments.seeds):
            if arguments.minutes and time.monotonic() - began > arguments.minutes * 60:
                break
            plan = TorturePlan.draw(seed, arguments.kills)
            (folder / str(seed)).mkdir()
            run = partial(torture, plan, node, folder / str(seed), wrong=arguments.wrong)
            reports.append(trio.run(partial(run, on_progress=console.print)))
            console.print(_line(reports[-1]))
    console.print(_summary(reports))
    failed = [report for report in reports if report.problems]
    for report in failed:
        console.print(f"seed {report.seed} failed; its journal and logs are in {report.folder}")
        for problem in report.problems[:10]:
            console.print(f"  {problem}", markup=False)
        again = f"scripts/torture --seeds 1 --first-seed {report.seed} --kills {arguments.kills}"
        console.print(f"  repeat with {again}")
    sys.exit(1 if failed else 0)


def _line(report: TortureReport) -> str:
    verdict = "FAILED" if report.problems else "passed"
    return (
        f"seed {report.seed}: {verdict}; {report.kills.total()} kills, {report.actions} actions, "
        f"{report.orders} orders, {report.fills} fills, {report.messages} messages "
        f"(+{report.repeats} repeats), {report.rejections} rejections, "
        f"{report.dead_letters} dead letters in {report.seconds:.0f} s"
    )


def _summary(reports: list[TortureReport]) -> Table:
    table = Table("what", "times", title="Torture")
    kills: Counter[str] = sum((report.kills for report in reports), Counter())
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    for title, counted in (("kill", kills), ("fault", faults)):
        for name, times in sorted(counted.items()):
            table.add_row(f"{title}: {name}", str(times))
    for name in ("actions", "orders", "fills", "messages", "repeats", "rejections", "dead_letters"):
        table.add_row(name, str(sum(getattr(report, name) for report in reports)))
    table.add_row("kills in total", str(kills.total()))
    return table


if __name__ == "__main__":
    main()
