"""Whole trades and orders, and the summary of them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from oms_trio.core.events import Verdict
from oms_trio.journal.journal import Journal
from oms_trio.replay.order_tracker import OrderHistory, OrderTracker
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.replay_command import ReplayOptions, Show, replay
from oms_trio.replay.report.durations import DurationHistogram, format_duration
from oms_trio.replay.report.summary import Summary
from oms_trio.replay.trade_tracker import TradeHistory, TradeTracker
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import OwnAnswer
from oms_trio.service.state_codec import digest
from tests.core.desk import SECOND, START_NS
from tests.replay.journals import JournalWriter, orders_push, write_journal

MS = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def trades_of(path: Path) -> tuple[list[TradeHistory], TradeHistory | None]:
    closed: list[TradeHistory] = []
    trades = TradeTracker(closed.append)
    with open_recording(path) as recording:
        await play(recording, [trades])
    return closed, trades.current


async def orders_of(path: Path) -> tuple[list[OrderHistory], OrderTracker]:
    ended: list[OrderHistory] = []
    orders = OrderTracker(ended.append)
    with open_recording(path) as recording:
        await play(recording, [orders])
    return ended, orders


async def test_trade_has_every_fill_and_its_reward(path: Path) -> None:
    write_journal(path, [("buy", "67000"), ("buy", "66900"), ("sell", "67100"), ("sell", "67100")])
    (trade,), current = await trades_of(path)
    assert current is None
    assert (trade.fill_count, len(trade.fills)) == (4, 4)
    assert not trade.size
    assert trade.largest == trade.fills[0].sz * 2
    assert trade.average(entry=True) == 66950
    assert trade.average(entry=False) == 67100
    assert trade.cumulative == sum(part.gain for part in trade.fills)
    assert trade.max_drawdown == -0.05
    assert trade.reward == pytest.approx(float(trade.cumulative) * 0.9)
    assert [part for _, part in trade.portions] == [1.0] * 4


async def test_fill_that_turns_the_position_is_in_both_trades(path: Path) -> None:
    """The contracts that did not close the old trade open the new one."""
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        opener = writer.trade("buy", "67000")
        half = writer.state.book.position / 3
        order = writer.state.orders.find(None, opener)  # type: ignore[arg-type]
        assert order is not None
        name = writer.act(0.001)
        assert name is not None
        size = writer.state.orders.open[next(reversed(writer.state.orders.open))].volume
        writer.push(
            orders_push(
                "77",
                name,
                "sell",
                str(size),
                state="partially_filled",
                accFillSz=str(half),
                avgPx="67100",
                fillPx="67100",
                fillSz=str(half),
                fillTime=f"{START_NS // 1_000_000 + 1}",
                tradeId="2000",
            )
        )
        writer.push(
            orders_push(
                "77",
                name,
                "sell",
                str(size * 2),
                state="partially_filled",
                accFillSz=str(half * 4),
                avgPx="67100",
                fillPx="67100",
                fillSz=str(half * 3),
                fillTime=f"{START_NS // 1_000_000 + 2}",
                tradeId="2001",
            )
        )
    (trade,), current = await trades_of(path)
    assert [part.sz for part in trade.fills] == [size, -half, -half * 2]
    assert current is not None
    assert [part.sz for part in current.fills] == [half]
    assert (current.side.value, current.okx_id) == ("sell", "77")


async def test_each_order_is_reported_once_with_its_times(path: Path) -> None:
    writer = write_journal(path)
    ended, orders = await orders_of(path)
    assert len(ended) == writer.actions
    assert not orders.open
    for history in ended:
        assert history.received_ns is not None
        assert history.acked_ns is not None
        assert history.info.created_ns - history.received_ns == 2 * MS
        assert history.acked_ns - history.info.created_ns == 30 * MS
        assert history.first_fill_ns == history.ended_ns == history.acked_ns + 200 * MS


async def test_rejected_order_ends_when_it_is_rejected(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.act(-0.1)
        (name,) = writer.state.orders.open
        writer.feed(journaled_inputs.own_answer(OwnAnswer((name,), False, Verdict.REJECTED, "no")))
        writer.act(-0.2)
    ended, orders = await orders_of(path)
    assert [history.info.order_state.value for history in ended] == ["rejected"]
    assert ended[0].acked_ns is None
    assert len(orders.open) == 1


async def test_summary_counts_what_happened(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        writer.trade("sell", "67100")
        writer.act(-0.1, volume=0.0)
        writer.feed(journaled_inputs.session_down("cut"))
        writer.act(-0.1)
        writer.now_ns += 4 * SECOND
        writer.session_up()
        writer.act(0.5)
    summary = Summary()
    with open_recording(path) as recording:
        await play(recording, [summary])
    rows = dict(summary.rows())
    assert rows["actions"] == "5"
    assert rows["orders"].startswith("3 sent")
    assert rows["ended"] == "2: 2 filled; 1 open"
    assert rows["rejections"] == "2: 1 below_min, 1 not_ready"
    assert rows["fills"] == "2; 2 executions published"
    assert rows["trades"] == "1 closed, 1 with a gain"
    assert rows["sessions"] == "2 opened, 1 lost"
    # The start is a gap as well: the service was not ready before reconciliation.
    assert rows["gaps"] == "2: 9 s in all, 7 s the longest"
    assert summary.gaps.ended[1].why == "cut"
    assert summary.to_ack.longest_ns == 32 * MS
    assert summary.to_fill.longest_ns == 230 * MS


async def test_gap_that_has_not_ended_is_shown(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.feed(journaled_inputs.session_down("cut"))
    summary = Summary()
    with open_recording(path) as recording:
        await play(recording, [summary])
    assert summary.gaps.all()[-1].until_ns is None
    assert "has not ended" in dict(summary.rows())["gaps"]


async def shown(options: ReplayOptions) -> str:
    text = io.StringIO()
    await replay(options, Console(file=text, width=160))
    return text.getvalue()


async def test_state_orders_and_trade_are_shown_as_of_an_instant(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        opener = writer.trade("buy", "67000")
        writer.act(-0.5)
        then_ns, expected = writer.now_ns, digest(writer.state)
        closer = writer.trade("sell", "67100")

    def at_then(show: Show) -> ReplayOptions:
        return ReplayOptions(path=path, show=show, until_ns=then_ns)

    assert expected in await shown(at_then(Show.STATE))
    orders = await shown(at_then(Show.ORDERS))
    assert "1 open orders" in orders
    assert "66966.5" in orders
    assert opener in await shown(at_then(Show.TRADE))
    assert "flat" in await shown(ReplayOptions(path=path, show=Show.TRADE))
    trade = await shown(ReplayOptions(path=path, trade=closer))
    assert f"trade {opener} (buy)" in trade
    assert "reward 1.5 = 1.5 x (1 - 2 x 0)" in trade


@given(st.lists(st.integers(1_000, 10**13), min_size=1))
def test_quantiles_are_those_of_the_sorted_list_within_two_percent(values: list[int]) -> None:
    found = DurationHistogram()
    for value in values:
        found.add(value)
    for part in (0.5, 0.99, 1.0):
        exact = sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
        quantile = found.quantile(part)
        assert quantile is not None
        assert exact / 1.0001 <= quantile <= exact * 1.0201
    assert found.longest_ns == max(values)
    assert sum(count for _, count in found.buckets()) == len(values)


def test_latencies_need_no_more_memory_for_more_values() -> None:
    found = DurationHistogram()
    for value in range(1_000_000, 3_000_000, 10):
        found.add(value)
    assert len(list(found.buckets())) < 60
    assert found.quantile(0.5) == pytest.approx(2_000_000, rel=0.021)
    assert DurationHistogram().quantile(0.5) is None


def test_durations_are_formatted_with_units() -> None:
    assert [format_duration(ns) for ns in (None, 1_500.0, 2.5e6, 1.25e9, 5.4e12)] == [
        "-",
        "1.5 us",
        "2.5 ms",
        "1.25 s",
        "5400 s",
    ]
