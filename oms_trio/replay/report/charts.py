"""The pictures of a report, drawn by matplotlib as SVG that takes its colours from the page."""

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
from oms_trio.replay.report.durations import Latencies, in_words
from oms_trio.replay.report.series import Gathered, Life, Series

# Colours that stand for others: the page's style sheet says which, for light, dark and paper.
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
"""Widths in inches at 72 to the inch; text keeps its size, so a phone gets the narrow one."""

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

Draw = Callable[[Figure, Gathered], None]


def svg(draw: Draw, gathered: Gathered, *, width: float, height: float, name: str) -> str:
    """Draw one picture; the same data gives the same text."""
    style: Any = {**_STYLE, "svg.hashsalt": f"{name}{width}"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure, gathered)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _of_page(text.getvalue())


def _of_page(text: str) -> str:
    """Make the SVG a part of the page: its colours and fonts, and nothing that is not drawn."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]+", r"font-size: \1", text)
    for stand_in, name in _NAMES.items():
        text = text.replace(stand_in, f"var(--{name})")
    return text


def over_time(figure: Figure, gathered: Gathered) -> None:
    """Draw price and fills, position, and drawdown against what was pushed, one above the other."""
    price, position, drawdown = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.3, 1.6]}
    )
    price.plot(_dates(gathered.price), gathered.price.values, color=FAINT, label="mark, mid")
    for side, fills in gathered.fills.items():
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
    held = gathered.position
    position.step(_dates(held), held.values, where="post", color=INK)
    zeros = np.zeros(len(held))
    for color, sign in ((BUY, 1.0), (SELL, -1.0)):
        filled = np.clip(np.asarray(held.values) * sign, 0.0, None) * sign
        position.fill_between(
            _dates(held), filled, zeros, step="post", color=color, alpha=0.25, linewidth=0
        )
    position.set_title("Net position, contracts")
    drawdown.plot(
        _dates(gathered.upl_ratio), gathered.upl_ratio.values, color=FAINT, label="uplRatio"
    )
    drawdown.step(
        _dates(gathered.drawdown),
        gathered.drawdown.values,
        where="post",
        color=SELL,
        label="maximum",
    )
    drawdown.set_title("Drawdown, part of the margin")
    _legend(drawdown)
    for axes in (price, position, drawdown):
        _shade_gaps(axes, gathered)
        _time_axis(axes)


def rewards(figure: Figure, gathered: Gathered) -> None:
    """Draw the reward of each trade, and their sum."""
    each, total = figure.subplots(2, 1, sharex=True)
    values = gathered.reward.values
    numbers = range(1, len(values) + 1)
    each.bar(numbers, values, color=[BUY if value > 0 else SELL for value in values], width=0.8)
    each.set_title("Reward of each trade")
    total.step(numbers, list(accumulate(values)), where="mid", color=GAIN)
    total.fill_between(
        numbers, list(accumulate(values)), step="mid", color=GAIN, alpha=0.2, linewidth=0
    )
    total.set_title("Cumulated")
    total.set_xlabel("trade")


def lifetimes(figure: Figure, gathered: Gathered) -> None:
    """Draw each order as a line (dotted: cancelled, dashed: rejected), with its first fill."""
    axes = figure.subplots()
    last_ns = gathered.summary.last_ns
    lives = sorted(gathered.lives, key=lambda life: life.created_ns)
    for side in Side:
        for style, chosen in _by_style(lives, side):
            ends = [lives[row].ended_ns or last_ns for row in chosen]
            axes.hlines(
                chosen,
                _dates_of([lives[row].created_ns for row in chosen]),
                _dates_of(ends),
                colors=_SIDE_COLOR[side],
                linestyles=style,
                linewidth=1.0,
            )
        rows = [row for row, life in enumerate(lives) if life.side is side and life.first_fill_ns]
        axes.scatter(
            _dates_of([lives[row].first_fill_ns or 0 for row in rows]),
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
    _shade_gaps(axes, gathered)
    _time_axis(axes)


def latencies(figure: Figure, gathered: Gathered) -> None:
    """Draw how long things took, one histogram above the other, on one logarithmic axis."""
    found = [(name, one) for name, one in gathered.summary.latencies()[:3] if one.count]
    if not found:
        return
    grid = figure.subplots(len(found), 1, sharex=True, squeeze=False)
    for axes, (name, one) in zip(grid[:, 0], found, strict=True):
        middles, counts = zip(*one.classes(), strict=True)
        low, high = _log_range(found)
        axes.hist(
            np.asarray(middles) / 1e6,
            bins=np.logspace(low, high, 48).tolist(),
            weights=counts,
            color=GAIN,
        )
        p50, p99 = in_words(one.quantile(0.5)), in_words(one.quantile(0.99))
        axes.set_title(f"{name}: p50 {p50}, p99 {p99}, max {in_words(float(one.longest_ns))}")
        axes.set_xscale("log")
    grid[-1, 0].set_xlabel("ms")


def refusals(figure: Figure, gathered: Gathered) -> None:
    """Draw how many actions were rejected for which reason."""
    axes = figure.subplots()
    reasons = gathered.summary.refused.most_common()[::-1]
    bars = axes.barh([name for name, _ in reasons], [count for _, count in reasons], color=SELL)
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.1)
    axes.set_title("Rejections by reason")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log_range(found: Sequence[tuple[str, Latencies]]) -> tuple[float, float]:
    middles = [middle for _, one in found for middle, _ in one.classes()]
    return np.log10(min(middles) / 1e6) - 0.05, np.log10(max(middles) / 1e6) + 0.05


def _by_style(lives: Sequence[Life], side: Side) -> Iterator[tuple[Style, list[int]]]:
    styles: tuple[Style, ...] = ("-", "--", ":")
    for style in styles:
        rows = [
            row
            for row, life in enumerate(lives)
            if life.side is side and _STATE_STYLE.get(life.state, "-") == style
        ]
        if rows:
            yield style, rows


def _shade_gaps(axes: Axes, gathered: Gathered) -> None:
    for gap in gathered.summary.gaps.all():
        until_ns = gathered.summary.last_ns if gap.until_ns is None else gap.until_ns
        left, right = _dates_of([gap.from_ns, until_ns])
        axes.axvspan(left, right, color=GAP, alpha=0.35, linewidth=0, zorder=0)


def _legend(axes: Axes) -> None:
    """Put the legend beside the title, where no line is behind it."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=3, handletextpad=0.4)


def _time_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _dates(series: Series) -> np.ndarray:
    return _dates_of(series.at_ns)


def _dates_of(times_ns: Sequence[int]) -> np.ndarray:
    return np.asarray(times_ns, dtype="datetime64[ns]").astype("datetime64[us]")
