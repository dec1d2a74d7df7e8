"""Torture the service for as long as wanted: ``scripts/torture --seeds N --kills K --minutes M``."""

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
from tests.torture.conductor import Report, torture
from tests.torture.plan import Plan
from tests.torture.victim import SABOTAGES


def main() -> None:
    """Run seeds until all are done, one fails, or the time is up."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs (default 3)")
    parser.add_argument("--first-seed", type=int, help="the first seed (default: a random one)")
    parser.add_argument("--kills", type=int, default=25, help="kills a run (default 25)")
    parser.add_argument("--minutes", type=float, help="begin no further run after this time")
    parser.add_argument("--wrong", choices=SABOTAGES, default="", help="sabotage the service")
    arguments = parser.parse_args()
    first = arguments.first_seed
    first = SystemRandom().randrange(1, 1_000_000) if first is None else first
    # A plain kill must end the processes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    began = time.monotonic()
    console = Console(soft_wrap=True)
    reports: list[Report] = []
    folder = Path(tempfile.mkdtemp(prefix="oms-torture-"))
    with running_node() as node:
        for seed in range(first, first + arguments.seeds):
            if arguments.minutes and time.monotonic() - began > arguments.minutes * 60:
                break
            plan = Plan.draw(seed, arguments.kills)
            (folder / str(seed)).mkdir()
            run = partial(torture, plan, node, folder / str(seed), wrong=arguments.wrong)
            reports.append(trio.run(partial(run, tell=console.print)))
            console.print(_line(reports[-1]))
    console.print(_summary(reports))
    failed = [report for report in reports if report.problems]
    for report in failed:
        console.print(f"seed {report.seed} broke promises; journal and logs: {report.folder}")
        for problem in report.problems[:10]:
            console.print(f"  {problem}", markup=False)
        again = f"scripts/torture --seeds 1 --first-seed {report.seed} --kills {arguments.kills}"
        console.print(f"  again: {again}")
    sys.exit(1 if failed else 0)


def _line(report: Report) -> str:
    verdict = "BROKEN" if report.problems else "held"
    return (
        f"seed {report.seed}: {verdict}; {report.kills.total()} kills, {report.actions} actions, "
        f"{report.orders} orders, {report.fills} fills, {report.messages} messages "
        f"(+{report.repeats} repeats), {report.refusals} refusals, "
        f"{report.dead_letters} dead letters in {report.seconds:.0f} s"
    )


def _summary(reports: list[Report]) -> Table:
    table = Table("what", "times", title="Torture")
    kills: Counter[str] = sum((report.kills for report in reports), Counter())
    strikes: Counter[str] = sum((report.strikes for report in reports), Counter())
    for title, counted in (("kill", kills), ("fault", strikes)):
        for name, times in sorted(counted.items()):
            table.add_row(f"{title}: {name}", str(times))
    for name in ("actions", "orders", "fills", "messages", "repeats", "refusals", "dead_letters"):
        table.add_row(name, str(sum(getattr(report, name) for report in reports)))
    table.add_row("kills in total", str(kills.total()))
    return table


if __name__ == "__main__":
    main()
