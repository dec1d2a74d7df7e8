"""What journals of earlier releases call things, and what those are called now.

A record is never rewritten: what was recorded stays as it was, and these tables are applied when it
is read. Names are only ever added here.
"""

from __future__ import annotations

from typing import Any, Final

from oms_trio.core.model import RewardUnit

_KINDS: Final = {"link_up": "session_up", "link_down": "session_down"}

_EFFECTS: Final = {
    b'["PublishRefusal",': b'["PublishRejection",',
    b'"event":"position_unexplained"': b'"event":"position_mismatch"',
    b'"event":"flatten_refused"': b'"event":"flatten_rejected"',
}

_STATE_FIELDS: Final = {"seen": "deduplicator", "told_why": "reported_reason"}
_SYNC_FIELDS: Final = {
    "linked": "has_session",
    "merged": "snapshot_applied",
    "explained": "position_matches",
    "asked": "snapshot_requested",
    "aside": "buffered",
    "told_at_ns": "reported_at_ns",
}
_ORDER_FIELDS: Final = {
    "asked": "awaiting_ack",
    "in_doubt": "outcome_unknown",
    "unsent": "verify_before_send",
}
_CANCEL_STATES: Final = {"refused": "rejected"}

RETIRED: Final = frozenset({"fills_at_ask", "flatten_due_ns"})
"""Fields of earlier releases' states that nothing depends on any more."""


def kind(name: str) -> str:
    """Return today's name of a record's kind."""
    return _KINDS.get(name, name)


def effects(recorded: bytes) -> bytes:
    """Return recorded effects with today's names of their kinds."""
    for then, now in _EFFECTS.items():
        recorded = recorded.replace(then, now)
    return recorded


def own_answer(raw: bytes) -> bytes:
    """Return our own knowledge of a request with today's name of its verdict."""
    return raw.replace(b'"verdict":"refused"', b'"verdict":"rejected"')


def state(decoded: dict[str, Any]) -> dict[str, Any]:
    """Return a snapshot's decoded JSON with today's names of its fields."""
    now = _renamed(decoded, _STATE_FIELDS)
    if "sync" in now:
        now["sync"] = _renamed(now["sync"], _SYNC_FIELDS)
        if "instrument" in now:
            now["sync"]["instrument"] = now.pop("instrument")
    for orders in (now["orders"]["open"], now["orders"]["ended"]) if "orders" in now else ():
        for name, order in orders.items():
            orders[name] = _renamed(order, _ORDER_FIELDS)
            cancel_state = order.get("cancel_state")
            orders[name]["cancel_state"] = _CANCEL_STATES.get(cancel_state, cancel_state)
    trade = now.get("book", {}).get("trade")
    if trade and "cumulative" in trade and now["rules"]["reward_unit"] == RewardUnit.USDT.value:
        # With ``return`` it was a sum of quotients, from which nothing can be made.
        trade["pnl"] = trade.pop("cumulative")
    return now


def _renamed(fields: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}
