"""The report: one HTML page without scripts or other files, for screens, phones and paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.report.durations import format_duration
from oms_trio.replay.report.report_data import ReportData
from oms_trio.replay.show import short
from oms_trio.replay.times import format_time, time_of_day
from oms_trio.replay.trade_tracker import TradeHistory
from oms_trio.version import __version__

_STYLE: Final = files("oms_trio.replay.report").joinpath("page.css")


def write_page(path: Path, title: str, data: ReportData) -> None:
    """Write the report.

    Raises:
        RecordingError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from oms_trio.replay.report import charts  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise RecordingError("a report needs matplotlib: pip install 'oms-trio[report]'") from None
    chart_specs = [
        (charts.over_time, "over-time", 6.4, True),
        (charts.lifetimes, "lifetimes", 4.0, True),
        (charts.rewards, "rewards", 3.6, False),
        (charts.latencies, "latencies", 5.6, False),
        (charts.rejections, "rejections", 1.8, False),
    ]
    drawn: list[str] = []
    for draw, name, height, long in chart_specs:
        narrow = charts.svg(draw, data, width=charts.NARROW, height=height, name=name)
        wide = charts.svg(draw, data, width=charts.WIDE, height=height, name=name) if long else ""
        drawn.append(_figure(name, narrow, wide))
    text = "\n".join(_page(title, data, drawn))
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


def _page(title: str, data: ReportData, drawn: list[str]) -> Iterator[str]:
    summary = data.summary
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
    yield f"<title>{escape(title)}</title><style>{_STYLE.read_text()}</style></head><body>"
    yield f"<header><h1>{escape(title)}</h1>"
    lasted = format_duration(float(summary.last_ns - summary.first_ns))
    yield f"<p>{format_time(summary.first_ns)} to {format_time(summary.last_ns)} ({lasted})</p></header>"
    yield '<section class="figures" aria-label="charts">'
    yield from drawn
    yield "</section>"
    yield "<section><h2>Trades</h2>"
    yield from _trades(data.trades)
    yield "</section><section><h2>GapTracker</h2>"
    yield from _gaps(data)
    yield "</section><section><h2>Counts</h2><dl>"
    for name, text in summary.rows():
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield f"</dl></section><footer>oms-trio {__version__}</footer></body></html>"


def _trades(trades: Iterable[TradeHistory]) -> Iterator[str]:
    head = ("closed", "side", "largest", "entry", "exit", "drawdown", "reward")
    yield '<div class="trades"><div class="row head">'
    yield "".join(f"<span>{name}</span>" for name in head) + "</div>"
    for trade in trades:
        yield from _trade(trade)
    yield "</div>"


def _trade(trade: TradeHistory) -> Iterator[str]:
    closed = "open" if trade.closed_at_ns is None else time_of_day(trade.closed_at_ns)
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
    yield f"<p>{_calculation(trade)}</p>"
    if trade.portions:
        yield "<table><caption>filled portions</caption><tr><th>okx id<th>portion of the order</tr>"
        for name, share in trade.portions:
            yield f'<tr><td>{escape(name)}<td><meter value="{share:.4f}"></meter> {share:.2%}</tr>'
        yield "</table>"
    yield "<table><caption>fills</caption><tr><th>at<th>okx id<th>state<th>side<th>price"
    yield "<th>contracts<th>size<th>gain</tr>"
    for fill in trade.fills:
        yield (
            f"<tr><td>{time_of_day(fill.at_ns)}<td>{escape(fill.booked.fill.ord_id)}<td>{fill.booked.state_id}"
            f"<td>{fill.booked.side.value}<td>{short(fill.booked.fill.px)}<td>{fill.sz:+f}"
            f"<td>{short(fill.size_after)}<td>{_gain(fill.gain)}</tr>"
        )
    yield "</table>"
    if trade.fill_count > len(trade.fills):
        yield f"<p>and {trade.fill_count - len(trade.fills)} more fills</p>"
    yield "</details>"


def _calculation(trade: TradeHistory) -> str:
    opened = f"opened {format_time(trade.opened_at_ns)} by {escape(trade.okx_id)}"
    if trade.reward is None or trade.closed_at_ns is None:
        return f"{opened}; still open, cumulative {_gain(trade.cumulative)}"
    sign = "&minus;" if trade.cumulative > 0 else "+"
    lasted = format_duration(float(trade.closed_at_ns - trade.opened_at_ns))
    return (
        f"{opened}, closed after {lasted} by {escape(trade.closed_by or '-')}; reward "
        f"{trade.reward:+.6f} = {_gain(trade.cumulative)} &times; (1 {sign} 2 &times; "
        f"{abs(trade.max_drawdown):.6f})"
    )


def _gaps(data: ReportData) -> Iterator[str]:
    gaps = data.summary.gaps.all()
    if not gaps:
        yield "<p>none</p>"
        return
    yield "<table><tr><th>from<th>lasted<th>why</tr>"
    for gap in gaps:
        lasted = (
            "not ended"
            if gap.until_ns is None
            else format_duration(float(gap.until_ns - gap.from_ns))
        )
        yield f"<tr><td>{format_time(gap.from_ns)}<td>{lasted}<td>{escape(gap.why)}</tr>"
    yield "</table>"


def _gain(value: Decimal) -> str:
    return f"{value:+.6f}" if value else ""
