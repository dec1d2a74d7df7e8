"""The demo's live table and its summary."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oms_trio.commands.demo.tally import Tally
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.version import __version__

ORDERS_SHOWN = 8


def screen(tally: Tally, exchange: SimulatedExchange, done: float) -> RenderableType:
    """Draw the state of the demo; ``done`` is its progress, 0 to 1."""
    market = exchange.engine.market
    head = Table.grid(padding=(0, 3))
    head.add_row(
        Text.assemble(("BTC-USDT-SWAP ", "bold"), f"{market.bid}"),
        f"balance {exchange.engine.account_view().cash_bal:.2f} USDT",
        f"reward {tally.reward:+.4f}",
    )
    return Panel(
        Group(
            head,
            ProgressBar(total=1.0, completed=done, width=None),
            "",
            _trade(tally),
            _orders(tally),
            _counts(tally),
            *(Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in tally.latest),
        ),
        title=f"oms-trio {__version__} demo",
        subtitle="Ctrl-C ends it",
    )


def _trade(tally: Tally) -> RenderableType:
    trade = tally.trade
    if trade is None:
        return Text("trade      flat")
    return Text(
        f"trade      {trade.side.value} {trade.size} contracts at {trade.entry_px:.1f}, "
        f"drawdown {trade.max_drawdown:.4f}, realised {float(trade.pnl):+.4f}, "
        f"{len(trade.parts)} orders"
    )


def _orders(tally: Tally) -> RenderableType:
    table = Table(expand=True, box=None, header_style="bold")
    for name in ("state id", "okx id", "side", "price", "volume", "filled", "state"):
        table.add_column(name, justify="left" if name in {"okx id", "side"} else "right")
    orders = tally.open_orders
    for order in orders[-ORDERS_SHOWN:]:
        table.add_row(
            str(order.state_id),
            order.okx_order_id or "-",
            order.side.value,
            "market" if order.price is None else str(order.price),
            str(order.volume),
            f"{order.execution_percentage:.0f}%",
            order.order_state.value,
        )
    if len(orders) > ORDERS_SHOWN:
        table.add_row("", f"and {len(orders) - ORDERS_SHOWN} older", "", "", "", "", "")
    return table


def _counts(tally: Tally) -> RenderableType:
    return Text(
        f"{tally.actions} actions -> {tally.orders} orders, {tally.rejected.total()} rejections; "
        f"{tally.executions} executions, {len(tally.closed)} closures"
    )


def plain_line(tally: Tally, exchange: SimulatedExchange, done: float) -> str:
    """Describe the state of the demo in one line, for output that is not a terminal."""
    return (
        f"{done:4.0%}  price {exchange.engine.market.bid}  position {tally.position}  "
        f"orders {tally.orders} ({len(tally.open_orders)} open)  "
        f"executions {tally.executions}  trades {len(tally.closed)}  reward {tally.reward:+.4f}"
    )


def summary(
    tally: Tally, exchange: SimulatedExchange, seed: int, *, interrupted: bool
) -> RenderableType:
    """Draw the result: trades, rewards, and whether our position and the exchange's agree."""
    trades = Table(title="Trades closed", title_justify="left")
    trades.add_column("#", justify="right")
    trades.add_column("closed by (okx id)")
    trades.add_column("orders", justify="right")
    trades.add_column("reward (USDT)", justify="right")
    for number, trade in enumerate(tally.closed, 1):
        trades.add_row(str(number), trade.okx_id, str(trade.portions), f"{trade.reward:+.4f}")
    trades.add_section()
    trades.add_row("", "all", "", f"{tally.reward:+.4f}")
    fills = exchange.ground_truth.fills()
    pos = exchange.engine.ledger.pos
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.rejected.items()))
    agree = pos == tally.position
    if agree:
        verdict, style = "they agree", "green"
    elif interrupted:
        verdict, style = "the rest was filled at the stop; a next start would find it", "yellow"
    else:
        verdict, style = "THEY DIFFER", "bold red"
    return Group(
        trades,
        f"{tally.actions} actions: {tally.orders} orders, {tally.rejected.total()} rejections"
        + (f" ({reasons})" if reasons else ""),
        f"{len(fills)} fills on the exchange; the agent received {tally.executions} executions and "
        f"{len(tally.closed)} closures (both for a fill that reverses the position)",
        Text(f"position: exchange {pos}, ours {tally.position} - {verdict}", style=style),
        f"to repeat this market and agent: oms-trio demo --seed {seed}",
    )
