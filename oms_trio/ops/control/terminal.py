"""A service's status as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LATEST_SHOWN = 12


def draw(status: dict[str, Any]) -> RenderableType:
    """Draw the status that ``GET /status`` and the control socket return (``ops.status.Status``)."""
    return Group(
        _head(status),
        _facts(status),
        _orders(status["orders"]),
        _latest(status["latest"]),
    )


def _head(status: dict[str, Any]) -> Text:
    paused = status["controls"]["paused"]
    if status["reasons"]:
        state, style = "NOT TAKING ACTIONS", "bold red"
        why = "; ".join(f"{who}: {why}" for who, why in status["reasons"].items())
    elif paused is not None:
        state, style, why = "PAUSED", "bold yellow", paused
    else:
        state, style, why = "TAKING ACTIONS", "bold green", ""
    return Text.assemble((state, style), f"  {why}")


def _facts(status: dict[str, Any]) -> Table:
    connections, position, controls = status["connections"], status["position"], status["controls"]
    trade, store = status["trade"], status["store"]
    table = Table.grid(padding=(0, 2))
    up = {True: "up", False: "DOWN"}
    rows = {
        "service": f"oms-trio {status['version']}, {status['instrument']}, "
        f"up {status['uptime_s']:.0f} s",
        "connections": f"exchange {up[connections['okx']]}, broker {up[connections['broker']]}; "
        f"last push {_age(connections['push_age_s'])}, "
        f"reconciled {_age(connections['reconciled_age_s'])}",
        "position": f"{position['ours']} contracts (exchange: {position['exchange']}"
        f"{'' if position['matches'] else ', MISMATCH'}), mark {position['mark_px']}, "
        f"balance {status['balance']} USDT",
        "trade": "flat"
        if trade is None
        else f"{trade['side']} {trade['size']} at {trade['entry_px']}, drawdown "
        f"{trade['max_drawdown']:.4f}, reward so far {trade['reward_so_far']:+.4f}",
        "orders": f"{status['orders']['open']} open, {status['orders']['cancelling']} being cancelled, "
        f"{status['orders']['unknown']} of unknown outcome",
        "controls": f"lost today {controls['lost_today']} USDT, limits "
        f"{_pairs(controls['limits'])}, tripped {_pairs(controls['tripped'])}, dead man's switch "
        + ("off" if controls["dead_man_s"] is None else f"{controls['dead_man_s']} s"),
        "journal": f"record {store['seq']}, {store['outbox']} unconfirmed messages, "
        f"{connections['unroutable']} unroutable messages",
        "counts": _pairs(status["counts"]),
        "rejections": _pairs(status["rejections"]),
        "ms (p50/p99)": ", ".join(
            f"{name} {latency['p50_ms']}/{latency['p99_ms']}"
            for name, latency in status["latencies"].items()
            if latency["count"]
        ),
    }
    for name, text in rows.items():
        table.add_row(Text(name, style="bold"), Text(text))
    return table


def _orders(orders: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("state id", "okx id", "side", "price", "size", "filled", "state", "age s", ""):
        table.add_column(name)
    for order in orders["shown"]:
        notes = [order["cancel"]] * (order["cancel"] != "none") + ["OUTCOME UNKNOWN"] * order[
            "unknown"
        ]
        table.add_row(
            str(order["state_id"]),
            order["okx_id"] or "-",
            order["side"],
            order["px"] or "market",
            order["sz"],
            order["filled"],
            order["state"],
            f"{order['age_s']:.0f}",
            " ".join(notes),
        )
    return table


def _latest(events: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("latest", "state id", "okx id", ""):
        table.add_column(name)
    for event in events[:LATEST_SHOWN]:
        state_id = "" if event["state_id"] is None else str(event["state_id"])
        table.add_row(event["kind"], state_id, event["okx_id"] or "", Text(event["text"]))
    return table


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"


def _age(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s ago"
