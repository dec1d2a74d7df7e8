"""The charts of a report, drawn by matplotlib as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from oms_trio.core.model import Side
from oms_trio.replay.order_tracker import OrderHistory
from oms_trio.replay.report.durations import DurationHistogram, format_duration
from oms_trio.replay.report.report_data import ReportData, TimeSeries

# Placeholders for the colours that the style sheet of the page defines, for light, dark and paper.
INK, FAINT, BUY, SELL, GAIN, GAP = (
    "#010203",
    "#020304",
    "#030405",
    "#040506",
    "#050607",
    "#060708",
)
_NAMES: Final = {INK: "ink", FAINT: "faint", BUY: "buy", SELL: "sell", GAIN: "gain", GAP: "gap"}

WIDE: Final = 10.4
NARROW: Final = 5.0
"""Widths in inches at 72 dpi; text keeps its size, so a phone gets the narrow chart."""

_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 72,
}
_SIDE_COLOR: Final = {Side.BUY: BUY, Side.SELL: SELL}
_SIDE_MARKER: Final = {Side.BUY: "^", Side.SELL: "v"}

Style = Literal["-", "--", ":"]
_STATE_STYLE: Final[dict[str, Style]] = {"canceled": ":", "rejected": "--"}

Draw = Callable[[Figure, ReportData], None]


def svg(draw: Draw, data: ReportData, *, width: float, height: float, name: str) -> str:
    """Draw one chart; the same data gives the same text."""
    style: Any = {**_STYLE, "svg.hashsalt": f"{name}{width}"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure, data)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _of_page(text.getvalue())


def _of_page(text: str) -> str:
    """Fit the SVG into the page: colours and fonts of the page, no metadata."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]+", r"font-size: \1", text)
    for placeholder, name in _NAMES.items():
        text = text.replace(placeholder, f"var(--{name})")
    return text


def over_time(figure: Figure, data: ReportData) -> None:
    """Draw price with fills, position, and drawdown with the pushed ``uplRatio``, stacked."""
    price, position, drawdown = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.3, 1.6]}
    )
    price.plot(_dates(data.price), data.price.values, color=FAINT, label="mark, mid")
    for side, fills in data.fills.items():
        price.scatter(
            _dates(fills),
            fills.values,
            s=16,
            color=_SIDE_COLOR[side],
            marker=_SIDE_MARKER[side],
            linewidths=0,
            zorder=3,
            label=f"{side.value} ({len(fills)})",
        )
    price.set_title("Price, USDT")
    _legend(price)
    price.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    held = data.position
    position.step(_dates(held), held.values, where="post", color=INK)
    zeros = np.zeros(len(held))
    for color, sign in ((BUY, 1.0), (SELL, -1.0)):
        filled = np.clip(np.asarray(held.values) * sign, 0.0, None) * sign
        position.fill_between(
            _dates(held), filled, zeros, step="post", color=color, alpha=0.25, linewidth=0
        )
    position.set_title("Net position, contracts")
    drawdown.plot(_dates(data.upl_ratio), data.upl_ratio.values, color=FAINT, label="uplRatio")
    drawdown.step(
        _dates(data.drawdown),
        data.drawdown.values,
        where="post",
        color=SELL,
        label="maximum",
    )
    drawdown.set_title("Drawdown, fraction of the margin")
    _legend(drawdown)
    for axes in (price, position, drawdown):
        _shade_gaps(axes, data)
        _time_axis(axes)


def rewards(figure: Figure, data: ReportData) -> None:
    """Draw the reward of each trade, and their sum."""
    each, total = figure.subplots(2, 1, sharex=True)
    values = data.reward.values
    numbers = range(1, len(values) + 1)
    each.bar(numbers, values, color=[BUY if value > 0 else SELL for value in values], width=0.8)
    each.set_title("Reward of each trade")
    total.step(numbers, list(accumulate(values)), where="mid", color=GAIN)
    total.fill_between(
        numbers, list(accumulate(values)), step="mid", color=GAIN, alpha=0.2, linewidth=0
    )
    total.set_title("Cumulative")
    total.set_xlabel("trade")


def lifetimes(figure: Figure, data: ReportData) -> None:
    """Draw each order as a line (dotted: cancelled, dashed: rejected), with its first fill."""
    axes = figure.subplots()
    last_ns = data.summary.last_ns
    orders = sorted(data.orders, key=lambda order: order.info.created_ns)
    for side in Side:
        for style, chosen in _by_style(orders, side):
            ends = [orders[row].ended_ns or last_ns for row in chosen]
            axes.hlines(
                chosen,
                _dates_of([orders[row].info.created_ns for row in chosen]),
                _dates_of(ends),
                colors=_SIDE_COLOR[side],
                linestyles=style,
                linewidth=1.0,
            )
        rows = [
            row
            for row, order in enumerate(orders)
            if order.info.side is side and order.first_fill_ns
        ]
        axes.scatter(
            _dates_of([orders[row].first_fill_ns or 0 for row in rows]),
            rows,
            s=9,
            color=_SIDE_COLOR[side],
            linewidths=0,
            zorder=3,
            label=f"{side.value}: first fill",
        )
    axes.set_title("Orders, created to ended")
    axes.set_ylabel("order (dotted: cancelled, dashed: rejected)")
    _legend(axes)
    _shade_gaps(axes, data)
    _time_axis(axes)


def latencies(figure: Figure, data: ReportData) -> None:
    """Draw histograms of the latencies, stacked on one logarithmic axis."""
    found = [(name, one) for name, one in data.summary.latencies()[:3] if one.count]
    if not found:
        return
    grid = figure.subplots(len(found), 1, sharex=True, squeeze=False)
    for axes, (name, one) in zip(grid[:, 0], found, strict=True):
        middles, counts = zip(*one.buckets(), strict=True)
        low, high = _log_range(found)
        axes.hist(
            np.asarray(middles) / 1e6,
            bins=np.logspace(low, high, 48).tolist(),
            weights=counts,
            color=GAIN,
        )
        p50, p99 = format_duration(one.quantile(0.5)), format_duration(one.quantile(0.99))
        axes.set_title(
            f"{name}: p50 {p50}, p99 {p99}, max {format_duration(float(one.longest_ns))}"
        )
        axes.set_xscale("log")
    grid[-1, 0].set_xlabel("ms")


def rejections(figure: Figure, data: ReportData) -> None:
    """Draw the number of rejected actions by reason."""
    axes = figure.subplots()
    reasons = data.summary.rejections.most_common()[::-1]
    bars = axes.barh([name for name, _ in reasons], [count for _, count in reasons], color=SELL)
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.1)
    axes.set_title("Rejections by reason")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log_range(found: Sequence[tuple[str, DurationHistogram]]) -> tuple[float, float]:
    middles = [middle for _, one in found for middle, _ in one.buckets()]
    return np.log10(min(middles) / 1e6) - 0.05, np.log10(max(middles) / 1e6) + 0.05


def _by_style(orders: Sequence[OrderHistory], side: Side) -> Iterator[tuple[Style, list[int]]]:
    styles: tuple[Style, ...] = ("-", "--", ":")
    for style in styles:
        rows = [
            row
            for row, order in enumerate(orders)
            if order.info.side is side
            and _STATE_STYLE.get(order.info.order_state.value, "-") == style
        ]
        if rows:
            yield style, rows


def _shade_gaps(axes: Axes, data: ReportData) -> None:
    for gap in data.summary.gaps.all():
        until_ns = data.summary.last_ns if gap.until_ns is None else gap.until_ns
        left, right = _dates_of([gap.from_ns, until_ns])
        axes.axvspan(left, right, color=GAP, alpha=0.35, linewidth=0, zorder=0)


def _legend(axes: Axes) -> None:
    """Put the legend next to the title, where it covers no line."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=3, handletextpad=0.4)


def _time_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _dates(series: TimeSeries) -> np.ndarray:
    return _dates_of(series.at_ns)


def _dates_of(times_ns: Sequence[int]) -> np.ndarray:
    return np.asarray(times_ns, dtype="datetime64[ns]").astype("datetime64[us]")
