"""Run the benches and print their tables: ``scripts/bench [--quick] [--json FILE] [NAME ...]``.

    replay    events a second through the core, memory after a million events
    wire      broker to exchange and back, real processes, beside what else could be picked
    pauses    collections and late wake-ups of the service under load
    process   one action, push, fill in the process, beside ccxt.pro, vnpy_okx, NautilusTrader
    journal   commits, and how long a start takes

What it compares with lives in .venv-peers: ``scripts/bench --install-peers`` makes it. Peers that
are not installed are named and skipped; nothing is downloaded otherwise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import inprocess, journal, pauses, replay, wire
from bench.stats import Row, Tables

BENCHES: dict[str, Callable[..., Tables]] = {
    "replay": replay.run,
    "wire": wire.run,
    "pauses": pauses.run,
    "process": inprocess.run,
    "journal": journal.run,
}


def main() -> None:
    """Run what was asked for, or everything."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHES)
    if unknown:
        parser.error(f"no bench {', '.join(sorted(unknown))}")
    console = Console(width=max(Console().width, 110))
    figures: dict[str, Tables] = {}
    for name in arguments.names or BENCHES:
        figures[name] = BENCHES[name](quick=arguments.quick)
        for title, rows in figures[name].items():
            console.print(_table(f"{name}: {title}", rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column, justify="left" if column == "who" else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(column, "")) for column in columns))
    return table


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value % 1 == 0 or value >= 100 else f"{value:,.3g}"


if __name__ == "__main__":
    main()
