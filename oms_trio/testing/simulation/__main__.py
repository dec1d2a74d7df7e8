"""The command line of ``scripts/simulate``."""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from pathlib import Path

import attrs
import click
import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from oms_trio.testing.simulation.batch import fingerprint, hunt_all, run_many
from oms_trio.testing.simulation.coverage import COLUMNS, Coverage
from oms_trio.testing.simulation.determinism import check_scheduler
from oms_trio.testing.simulation.faults.catalog import CATALOG
from oms_trio.testing.simulation.mutants.hunting import MUTANTS, SEEDS
from oms_trio.testing.simulation.one_run import RunPlan, RunReport, simulate
from oms_trio.testing.simulation.workload import BUSY, WORKLOADS

WORKLOAD_HELP = "How much happens in an hour: much (busy, harsh), or little for days on end (calm)."


@click.command()
@click.option("--seeds", default=20, show_default=True, help="How many runs.")
@click.option("--hours", default=1.0, show_default=True, help="Hours of market in each run.")
@click.option(
    "--workload",
    default=BUSY.name,
    show_default=True,
    type=click.Choice(list(WORKLOADS)),
    help=WORKLOAD_HELP,
)
@click.option("--first", type=int, help="The first seed; random by default.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="Runs at a time.")
@click.option("--mutants", is_flag=True, help="Break the service on purpose; each must be caught.")
@click.option("--twice", is_flag=True, help="Run each seed in two processes and compare them.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Run only the first seed, and write its wire trace here.",
)
@click.option("--fingerprint", "print_only", is_flag=True, hidden=True)
def main(
    *,
    seeds: int,
    hours: float,
    workload: str,
    first: int | None,
    jobs: int,
    mutants: bool,
    twice: bool,
    trace: Path | None,
    print_only: bool,
) -> None:
    """Simulate the whole service with faults, and check its invariants."""
    check_scheduler()
    first = secrets.randbelow(1_000_000_000) if first is None else first
    plan = RunPlan(first, hours, WORKLOADS[workload])
    console = Console()
    if print_only:
        report = simulate(plan)
        sys.stdout.write(msgspec.json.encode((report.journal, report.wire)).decode())
    elif trace is not None:
        with trace.open("w", encoding="utf-8") as lines:
            sys.exit(_print_results([simulate(plan, lines)], console))
    elif mutants:
        sys.exit(_hunt(range(first, first + SEEDS), jobs, console))
    elif twice:
        sys.exit(_compare(_plans(plan, seeds), console))
    else:
        sys.exit(_run(_plans(plan, seeds), jobs, console))


def _plans(first: RunPlan, seeds: int) -> list[RunPlan]:
    return [attrs.evolve(first, seed=first.seed + number) for number in range(seeds)]


def _run(plans: list[RunPlan], jobs: int, console: Console) -> int:
    reports = []
    with _progress(console) as progress:
        task = progress.add_task("", total=len(plans))
        for report in run_many(iter(plans), jobs):
            reports.append(report)
            virtual_s = sum(done.virtual_s for done in reports)
            rate = virtual_s / 3600 / max(progress.tasks[task].elapsed or 0, 1e-9)
            failed = sum(bool(done.violations) for done in reports)
            text = f"{virtual_s / 86400:.1f} days, {rate:.2f} hours per second, {failed} failed"
            progress.update(task, advance=1, description=text)
            for violation in report.violations:
                console.print(f"seed {report.plan.seed}: {violation.invariant}: {violation.what}")
    return _print_results(reports, console)


def _print_results(reports: list[RunReport], console: Console) -> int:
    """Print what was covered and what failed; return the exit code."""
    coverage = Coverage()
    totals: Counter[str] = Counter()
    for report in reports:
        coverage += report.coverage
        totals.update(report.counts)
    console.print(_coverage_table(coverage))
    states = ", ".join(f"{number} {name}" for number, name in enumerate(COLUMNS, start=1))
    console.print(f"\n{states}; k: thousands\n", highlight=False)
    console.print(", ".join(f"{number} {name}" for name, number in totals.items()))
    virtual_h = sum(report.virtual_s for report in reports) / 3600
    real_s = sum(report.real_s for report in reports)
    rate = virtual_h / real_s
    console.print(f"{virtual_h / 24:.2f} simulated days; {rate:.2f} hours per second of one core")
    failed = [report for report in reports if report.violations]
    for report in sorted(failed, key=lambda report: report.plan.seed):
        plan, violation = report.plan, report.violations[0]
        console.print(f"[red]seed {plan.seed}[/]: {violation.invariant}: {violation.what}")
        options = f"--first {plan.seed} --seeds 1 --hours {plan.hours}"
        options += f" --workload {plan.workload.name}"
        console.print(f"  repeat with ./scripts/simulate {options}", highlight=False)
    return 1 if failed else 0


def _hunt(seeds: range, jobs: int, console: Console) -> int:
    table = Table("mutant", "runs", "caught by", "finding")
    escaped = 0
    with _progress(console) as progress:
        task = progress.add_task("mutants", total=len(MUTANTS))
        for name, caught in hunt_all(list(MUTANTS), seeds, jobs):
            progress.advance(task)
            if caught is None:
                escaped += 1
                table.add_row(name, f"> {len(seeds)}", "[red]nothing[/]", "")
            else:
                violation = caught.violation
                table.add_row(name, str(caught.runs), violation.invariant, violation.what[:100])
    console.print(table)
    return 1 if escaped else 0


def _compare(plans: list[RunPlan], console: Console) -> int:
    differing = 0
    for plan in plans:
        one, other = fingerprint(plan, 1), fingerprint(plan, 2)
        same = one == other
        differing += not same
        journal, wire = one
        console.print(f"seed {plan.seed}: journal {journal[:16]} wire {wire[:16]} {same=}")
    return 1 if differing else 0


def _coverage_table(coverage: Coverage) -> Table:
    """Show how often each fault met each state of the service; states are numbered, for width."""
    table = Table(
        title="How often each fault met each state of the service",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("fault", no_wrap=True)
    for number, _ in enumerate(COLUMNS, start=1):
        table.add_column(str(number), justify="right", no_wrap=True)
    for name in CATALOG:
        table.add_row(name, *(_short(coverage[name, column]) for column in COLUMNS))
    return table


def _short(number: int) -> str:
    if not number:
        return "·"
    return str(number) if number < 1000 else f"{round(number / 1000)}k"


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=console)


if __name__ == "__main__":
    main()
