"""The ground truth: every movement in order, and the account at any time."""

from __future__ import annotations

import json
from decimal import Decimal

from oms_trio.core.model import Side
from oms_trio.testing.okx_server.ground_truth import FundingRecord, GroundTruth
from oms_trio.testing.okx_server.orders import external_orders
from oms_trio.testing.okx_server.values import ExchangeFill, OrderCategory
from tests.testing.okx_server.clients import ManualClock, net_exchange, order_args

D = Decimal


def test_cash_and_position_are_replayed_from_the_movements() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    exchange.place(order_args(clOrdId="a", sz="6", tag="ours"), lambda *_: None)
    exchange.fill("a", D(4), D(66_900))
    exchange.fund(D("0.0001"))
    external_orders.trade(exchange, Side.BUY, D(1))
    exchange.deleverage(D(1))
    exchange.faults.hide_risk_orders = 2
    exchange.liquidate(D(1))
    exchange.liquidate()
    cash, pos = D(10_000), D(0)
    causes: list[tuple[str, str]] = []
    for movement in exchange.ground_truth.movements():
        match movement:
            case ExchangeFill():
                cash += movement.pnl + movement.fee
                pos += movement.side.sign * movement.sz
                causes.append((movement.category, movement.tag))
            case FundingRecord():
                cash += movement.amount
                causes.append(("funding", ""))
    ledger = exchange.engine.ledger
    assert (cash, pos) == (ledger.cash_bal, ledger.pos)
    assert pos == 0
    assert causes[0] == (OrderCategory.NORMAL, "ours")
    assert causes[1] == ("funding", "")
    assert causes[-3:] == [
        (OrderCategory.ADL, ""),
        (OrderCategory.PARTIAL_LIQUIDATION, ""),
        (OrderCategory.FULL_LIQUIDATION, ""),
    ]
    assert set(causes[2:-3]) == {(OrderCategory.NORMAL, "")}
    bills = [bill.bal_chg for bill in exchange.engine.bills.rows]
    assert sum(bills) == cash - 10_000
    assert len(bills) == len(causes)


def test_an_accepted_order_has_the_account_of_its_acceptance() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    exchange.place(order_args(clOrdId="a"), lambda *_: None)
    exchange.fill("a", D(1), D(66_900))
    cash = exchange.engine.ledger.cash_bal
    exchange.move_market(D("0.5"))
    exchange.place(order_args(clOrdId="b"), lambda *_: None)
    exchange.fill("b", D(1), D(66_900))
    first, second = exchange.ground_truth.accepted()
    assert (first.order.cl_ord_id, first.order.acc_fill_sz, first.after.pos) == ("a", D(0), D(0))
    assert (second.after.pos, second.after.cash_bal) == (D(1), cash)
    assert second.after.mark_px == 67_335
    assert second.after.avg_px == 66_900


def test_the_account_is_known_at_every_time() -> None:
    clock = ManualClock()
    exchange = net_exchange(clock=clock)
    start_ns = clock()
    exchange.faults.clock_skew_ms = -50_000
    seen = []
    for name, px in (("a", 66_000), ("b", 67_000), ("c", 68_000)):
        clock.now_ms += 1000
        exchange.set_price(D(px))
        clock.now_ms += 1000
        exchange.place(order_args(clOrdId=name, px=str(px)), lambda *_: None)
        clock.now_ms += 1000
        exchange.fill(name, D(1), D(px))
        seen.append((clock(), exchange.engine.account_now()))
    ground_truth = exchange.ground_truth
    assert ground_truth.at(start_ns) is None
    for at_ns, moment in seen:
        assert ground_truth.at(at_ns) == moment
        later = ground_truth.at(at_ns + 999_000_000)
        assert later is not None
        assert (later.pos, later.cash_bal) == (moment.pos, moment.cash_bal)
    after_move = ground_truth.at(seen[0][0] + 1_000_000_000)
    assert after_move is not None
    assert (after_move.pos, after_move.mark_px) == (D(1), D(67_000))
    between = seen[0][0] - 1_000_000_000
    assert [order.cl_ord_id for order in ground_truth.open_at(between)] == ["a"]
    assert ground_truth.open_at(seen[0][0]) == []


def test_the_position_that_other_clients_have_made_is_known() -> None:
    exchange = net_exchange()
    exchange.place(order_args(clOrdId="a", sz="3", tag="ours"), lambda *_: None)
    exchange.fill("a", D(3), D(66_900))
    external_orders.trade(exchange, Side.BUY, D(2))
    exchange.deleverage(D(1))
    assert exchange.ground_truth.by_others("ours")[-1][1] == 2
    external_orders.trade(exchange, Side.SELL, D(2))
    assert exchange.ground_truth.by_others("ours")[-1][1] == 0


def test_the_log_has_funding_and_the_account_after_each_change() -> None:
    written: list[bytes] = []
    exchange = net_exchange(ground_truth=GroundTruth(sink=written.append))
    exchange.place(order_args(clOrdId="a"), lambda *_: None)
    exchange.fill("a", D(1), D(66_900))
    exchange.fund(D("0.0001"))
    exchange.liquidate()
    assert b"".join(written) == exchange.ground_truth.dump()
    lines = [json.loads(line) for line in written]
    assert lines[2]["funding"]["balChg"] == "-0.067"
    assert [line["after"]["pos"] for line in lines] == ["0", "1", "1", "1", "0"]
    assert lines[-1]["category"] == "full_liquidation"
    assert D(lines[-1]["fill"]["penalty"]) < 0
    assert D(lines[-1]["after"]["cashBal"]) == exchange.engine.ledger.cash_bal
    assert len(list(exchange.ground_truth)) == 4
