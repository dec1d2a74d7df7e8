"""Action + balance + instrument + exposure -> the order to send, or why there is none.

    side     buy when price < 0, else sell
    raw      mid x (1 + price / 1000)
    px       raw on the tick grid: down for a buy, up for a sell; a market order has none
    margin   balance x 0.001 x volume
    size     leverage x margin / (px x ctVal x ctMult), up to the step
    cap      leverage x balance x max margin fraction / (cap px x ctVal x ctMult): the net
             position that may be reached when every open order on this side fills
    cap px   the higher of the order's price and the mark price: a mid that is too low makes
             contracts look cheap, and must not buy a bigger position

Everything is exact: quotients are compared as products and remainders, never rounded first.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.events import Action
from oms_trio.core.model import ClOrdId, Instrument, OrderType, RejectReason, Rules, Side
from oms_trio.core.orders import OrderInfo

ZERO = Decimal(0)
THOUSAND = Decimal(1000)


@attrs.frozen
class Rejection:
    """Why an action becomes no order."""

    reason: RejectReason
    detail: str


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Round ``value`` down (towards minus infinity) to a multiple of ``step``."""
    steps = value // step
    if steps * step > value:
        steps -= 1
    return steps * step


def steps_up(numerator: Decimal, denominator: Decimal, step: Decimal) -> Decimal:
    """Return the least multiple of ``step`` that is not below numerator / denominator (>= 0)."""
    whole, rest = divmod(numerator, denominator * step)
    return (whole + 1 if rest else whole) * step


def steps_down(numerator: Decimal, denominator: Decimal, step: Decimal) -> Decimal:
    """Return the greatest multiple of ``step`` that is not above numerator / denominator (>= 0)."""
    return numerator // (denominator * step) * step


def price(
    offset: Decimal, mid: Decimal, order_type: OrderType, tick: Decimal
) -> tuple[Side, Decimal | None, Decimal]:
    """Return side, limit price (None for a market order) and the price to size by."""
    side = Side.BUY if offset < 0 else Side.SELL
    raw = mid * (THOUSAND + offset) / THOUSAND
    if order_type is OrderType.MARKET:
        return side, None, raw
    px = floor_to(raw, tick)
    if side is Side.SELL and px != raw:
        px += tick
    return side, px, px


def wanted(
    volume: Decimal, ref_px: Decimal, balance: Decimal, instrument: Instrument, rules: Rules
) -> Decimal:
    """Return how many contracts an action asks for, whatever the cap leaves of them."""
    buying_power = rules.leverage * balance
    per_contract = THOUSAND * ref_px * instrument.multiplier
    return steps_up(max(buying_power * volume, ZERO), per_contract, rules.step)


def largest_order(
    action: Action, balance: Decimal, instrument: Instrument, rules: Rules
) -> tuple[Side, Decimal]:
    """Return side and size of the largest order that an earlier process can have made of an action.

    What the cap left of it then is not known: it stood on a position and orders that may have
    changed, so only what the action asks for bounds it.
    """
    side, _, ref_px = price(action.price, action.mid, action.order_type, instrument.tick_sz)
    if ref_px <= 0:
        return side, ZERO
    return side, wanted(action.volume, ref_px, balance, instrument, rules)


def size_order(
    action: Action,
    *,
    name: ClOrdId,
    now_ns: int,
    balance: Decimal | None,
    instrument: Instrument,
    rules: Rules,
    position: Decimal,
    open_same_side: dict[Side, Decimal],
    mark_px: Decimal | None,
) -> OrderInfo | Rejection:
    """Decide the order, called ``name``, for an action.

    ``position`` is our signed net position and ``open_same_side`` the contracts per side that
    orders may still fill, those included whose outcome or existence is unknown. ``mark_px`` is the latest mark
    price, whatever its age: it can only make the cap narrower. None: the order's price decides.
    """
    if balance is None:
        return Rejection(RejectReason.NOT_READY, "no account balance is known yet")
    side, px, ref_px = price(action.price, action.mid, action.order_type, instrument.tick_sz)
    if ref_px <= 0:
        return Rejection(RejectReason.BELOW_MIN, f"the limit price {ref_px} is not above 0")
    cap_px = ref_px if mark_px is None else max(ref_px, mark_px)
    multiplier = instrument.multiplier
    buying_power = rules.leverage * balance
    step = rules.step
    asked = wanted(action.volume, ref_px, balance, instrument, rules)
    if asked < step:
        return Rejection(
            RejectReason.BELOW_MIN,
            f"volume {action.volume} of balance {balance} is less than one step",
        )
    most = max(buying_power * rules.max_margin_fraction, ZERO)
    cap = steps_down(most, cap_px * multiplier, step)
    reached = side.sign * position + open_same_side[side]
    allowed = floor_to(cap - reached, step)
    sz = min(asked, allowed)
    if sz < step:
        return Rejection(
            RejectReason.MARGIN_CAP,
            f"the position may reach {cap} contracts at {cap_px}; with open orders it is at {reached}",
        )
    return OrderInfo(
        state_id=action.state_id,
        cl_ord_id=name,
        side=side,
        ord_type=action.order_type,
        price=px,
        ref_px=ref_px,
        volume=sz,
        created_ns=now_ns,
        expires_at_ns=action.received_ns + rules.max_action_age_ns,
    )
