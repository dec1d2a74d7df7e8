"""The invariant of convergence: without faults the service soon agrees with the exchange."""

from __future__ import annotations

from typing import Final

from oms_trio.testing.simulation.world import SimulatedWorld

CONVERGENCE_S: Final = 240.0
"""How long after the last fault: back-off of sessions (30 s), a restart, look-ups past an order's
expiry, and a check of the position each minute."""


def why_not_at_rest(world: SimulatedWorld) -> str:
    """Say what has still to be done or published; "" when nothing has."""
    state, process = world.state, world.process
    if state is None or process is None:
        return "no process"
    if not state.ready:
        return f"not ready: {state.sync.why}"
    if any(
        order.awaiting_ack or order.outcome_unknown or order.verify_before_send
        for order in state.orders
    ):
        return "orders without a known outcome"
    if state.orders.waiting:
        return "fills are missing"
    if state.book.position != world.exchange.engine.ledger.pos:
        return f"position {state.book.position}, not {world.exchange.engine.ledger.pos}"
    pending = {order.ord_id for order in world.exchange.engine.book.pending}
    if pending != {order.okx_order_id for order in state.orders}:
        return f"{len(state.orders)} orders are open here, {len(pending)} at the exchange"
    if state.expired:
        return f"{len(state.expired)} expired actions are not decided"
    if world.broker.depth:
        return f"{world.broker.depth} actions wait in the queue"
    if process.journal is not None and (waiting := process.journal.outbox_size()):
        return f"{waiting} messages are not published"
    return ""
