"""A report: one page without scripts, that needs nothing but itself; for screens, phones, paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from oms_trio.replay.export.trades import TradeStory
from oms_trio.replay.recordings.model import RecordingError
from oms_trio.replay.report.durations import in_words
from oms_trio.replay.report.series import Gathered
from oms_trio.replay.show import short
from oms_trio.replay.times import clock, iso
from oms_trio.version import __version__

_STYLE: Final = files("oms_trio.replay.report").joinpath("page.css")


def write_page(path: Path, title: str, gathered: Gathered) -> None:
    """Write the report.

    Raises:
        RecordingError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from oms_trio.replay.report import charts  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise RecordingError("a report needs matplotlib: pip install 'oms-trio[report]'") from None
    pictures = [
        (charts.over_time, "over-time", 6.4, True),
        (charts.lifetimes, "lifetimes", 4.0, True),
        (charts.rewards, "rewards", 3.6, False),
        (charts.latencies, "latencies", 5.6, False),
        (charts.refusals, "refusals", 1.8, False),
    ]
    drawn: list[str] = []
    for draw, name, height, long in pictures:
        narrow = charts.svg(draw, gathered, width=charts.NARROW, height=height, name=name)
        wide = (
            charts.svg(draw, gathered, width=charts.WIDE, height=height, name=name) if long else ""
        )
        drawn.append(_figure(name, narrow, wide))
    text = "\n".join(_page(title, gathered, drawn))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None


def _figure(name: str, narrow: str, wide: str) -> str:
    if not wide:
        return f'<figure id="{name}">{narrow}</figure>'
    return (
        f'<figure id="{name}" class="long"><div class="wide">{wide}</div>'
        f'<div class="narrow">{narrow}</div>'
        "<figcaption>yellow: no action was taken (see the gaps)</figcaption></figure>"
    )


def _page(title: str, gathered: Gathered, drawn: list[str]) -> Iterator[str]:
    summary = gathered.summary
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
    yield f"<title>{escape(title)}</title><style>{_STYLE.read_text()}</style></head><body>"
    yield f"<header><h1>{escape(title)}</h1>"
    lasted = in_words(float(summary.last_ns - summary.first_ns))
    yield f"<p>{iso(summary.first_ns)} to {iso(summary.last_ns)} ({lasted})</p></header>"
    yield '<section class="figures" aria-label="pictures">'
    yield from drawn
    yield "</section>"
    yield "<section><h2>Trades</h2>"
    yield from _trades(gathered.trades)
    yield "</section><section><h2>Gaps</h2>"
    yield from _gaps(gathered)
    yield "</section><section><h2>Counts</h2><dl>"
    for name, told in summary.rows():
        yield f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>"
    yield f"</dl></section><footer>oms-trio {__version__}</footer></body></html>"


def _trades(trades: Iterable[TradeStory]) -> Iterator[str]:
    head = ("closed", "side", "largest", "entry", "exit", "drawdown", "reward")
    yield '<div class="trades"><div class="row head">'
    yield "".join(f"<span>{name}</span>" for name in head) + "</div>"
    for trade in trades:
        yield from _trade(trade)
    yield "</div>"


def _trade(trade: TradeStory) -> Iterator[str]:
    closed = "open" if trade.closed_at_ns is None else clock(trade.closed_at_ns)
    sign = "" if trade.reward is None else "gain" if trade.reward > 0 else "loss"
    cells = (
        closed,
        trade.side.value,
        short(trade.largest),
        short(trade.average(entry=True)),
        short(trade.average(entry=False)),
        f"{trade.max_drawdown:.2%}",
        f'<b class="{sign}">{"-" if trade.reward is None else f"{trade.reward:+.4f}"}</b>',
    )
    yield f'<details id="t{escape(trade.okx_id)}"><summary class="row">'
    yield "".join(f"<span>{cell}</span>" for cell in cells) + "</summary>"
    yield f"<p>{_reckoning(trade)}</p>"
    if trade.portions:
        yield "<table><caption>filled portions</caption><tr><th>okx id<th>part of the order</tr>"
        for name, share in trade.portions:
            yield f'<tr><td>{escape(name)}<td><meter value="{share:.4f}"></meter> {share:.2%}</tr>'
        yield "</table>"
    yield "<table><caption>fills</caption><tr><th>at<th>okx id<th>state<th>side<th>price"
    yield "<th>contracts<th>size<th>gain</tr>"
    for part in trade.parts:
        yield (
            f"<tr><td>{clock(part.at_ns)}<td>{escape(part.ord_id)}<td>{part.state_id}"
            f"<td>{part.side.value}<td>{short(part.px)}<td>{part.sz:+f}"
            f"<td>{short(part.size_behind)}<td>{_gain(part.gain)}</tr>"
        )
    yield "</table>"
    if trade.fills > len(trade.parts):
        yield f"<p>and {trade.fills - len(trade.parts)} fills more</p>"
    yield "</details>"


def _reckoning(trade: TradeStory) -> str:
    opened = f"opened {iso(trade.opened_at_ns)} by {escape(trade.okx_id)}"
    if trade.reward is None or trade.closed_at_ns is None:
        return f"{opened}; still open, cumulative {_gain(trade.cumulative)}"
    sign = "&minus;" if trade.cumulative > 0 else "+"
    lasted = in_words(float(trade.closed_at_ns - trade.opened_at_ns))
    return (
        f"{opened}, closed after {lasted} by {escape(trade.closed_by or '-')}; reward "
        f"{trade.reward:+.6f} = {_gain(trade.cumulative)} &times; (1 {sign} 2 &times; "
        f"{abs(trade.max_drawdown):.6f})"
    )


def _gaps(gathered: Gathered) -> Iterator[str]:
    gaps = gathered.summary.gaps.all()
    if not gaps:
        yield "<p>none</p>"
        return
    yield "<table><tr><th>from<th>lasted<th>why</tr>"
    for gap in gaps:
        lasted = "lasts on" if gap.until_ns is None else in_words(float(gap.until_ns - gap.from_ns))
        yield f"<tr><td>{iso(gap.from_ns)}<td>{lasted}<td>{escape(gap.why)}</tr>"
    yield "</table>"


def _gain(value: Decimal) -> str:
    return f"{value:+.6f}" if value else ""
