"""Which action is this, and what is its order called: so that one action is one order at most.

A broker delivers at least once, and agents restart their state ids, so neither a delivery nor a
state id identifies an action. What does:

* ``message_id``, when the producer sets one: the same id with the same body is the same action,
  however often, however late and by whatever way it comes. What memory has forgotten the journal
  knows (``Action.known``), as long as it keeps the record.
* Without it, the 25 bytes and how many actions had the same bytes before. A delivery that the
  broker does not flag as redelivered is new. A flagged one repeats the last action with these
  bytes, unless that one is older than a message can become in the queue (the queue's TTL is
  the action's maximum age), or there was none: then this process has not seen it yet.

The order's name (``clOrdId``) is a hash of that identity after the state id: an order found on
the exchange leads back to its action even when our disk does not know it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256

import attrs

from oms_trio.core.events import Action
from oms_trio.core.model import ClOrdId, StateId, keep_newest

PREFIX = "oms"
NAME = re.compile(PREFIX + r"([0-9a-f]{8})[0-9a-f]{20}")

OPERATORS = "operator"
NO_STATE = StateId(0)
"""The state id of orders that no action caused; it is never published for one."""

REMEMBERED = 65_536
"""Actions kept in memory; a redelivery comes within the action's maximum age, seconds."""

GRACE_NS = 2_000_000_000
"""Clocks of broker, exchange and service may differ by this much, and queues be that late."""


def order_name(state_id: StateId, identity: bytes) -> ClOrdId:
    """Return the ``clOrdId`` of an action: 31 letters and digits (the exchange allows 32)."""
    return ClOrdId(f"{PREFIX}{state_id:08x}{sha256(identity).hexdigest()[:20]}")


def name_of_action(action: Action) -> ClOrdId | None:
    """Return the ``clOrdId`` of an action whose producer has set a ``message_id``, else None."""
    if action.message_id is None:
        return None
    return order_name(action.state_id, b"id" + action.message_id.encode() + action.body)


def operators_name(what: str, now_ns: int) -> ClOrdId:
    """Return the ``clOrdId`` of an order that an operator's command caused, not an action."""
    return ClOrdId(OPERATORS + sha256(b"%s%d" % (what.encode(), now_ns)).hexdigest()[:20])


def is_operators(name: str) -> bool:
    """Whether ``operators_name`` made this name."""
    return name.startswith(OPERATORS)


def state_id_of(name: str) -> StateId | None:
    """Read the state id back from one of our order names; None for any other name."""
    match = NAME.fullmatch(name)
    return StateId(int(match[1], 16)) if match else None


@attrs.frozen
class Expired:
    """An action that may not become an order any more and is not decided yet: it may be one already.

    ``delivery`` is None from the end of the process that it came to until it comes again, and for a
    redelivered action, which is settled at once.
    ``action`` says how large an order of it may be. Earlier releases did not keep it: of theirs it is
    None until the action comes again, which it does before the queue gives any other.
    """

    state_id: StateId
    delivery: int | None
    action: Action | None = None


@attrs.define
class ActionDeduplicator:
    """The actions taken lately: order names by age, and how often each body came."""

    names: dict[ClOrdId, None] = attrs.Factory(dict)
    bodies: dict[str, tuple[int, int]] = attrs.Factory(dict)
    """Body (hex) -> how many actions had it, and when the last of them was received (the exchange's
    clock)."""

    def identify(
        self,
        action: Action,
        received_ns: int | None,
        max_age_ns: int,
        has_order: Callable[[ClOrdId], bool],
    ) -> tuple[ClOrdId, bool]:
        """Return the action's order name and whether the action is new; remember it.

        ``received_ns`` is by the exchange's clock, which goes on evenly while processes come and go;
        None while a process has not measured it yet. ``has_order`` returns whether an order of a name
        is known: one may outlive the memory of its action.
        """
        name = name_of_action(action)
        if name is None:
            name = self._by_body(action, received_ns, max_age_ns, has_order)
        if name in self.names or has_order(name):
            return name, False
        self.names[name] = None
        self.names = keep_newest(self.names, REMEMBERED)
        return name, True

    def _by_body(
        self,
        action: Action,
        received_ns: int | None,
        max_age_ns: int,
        has_order: Callable[[ClOrdId], bool],
    ) -> ClOrdId:
        def name(count: int) -> ClOrdId:
            return order_name(action.state_id, b"body%d:" % count + action.body)

        count, last_ns = self.bodies.pop(body := action.body.hex(), (0, 0))
        # An expired action has no age, so it may be brought again however much later.
        ageless = action.expired or received_ns is None
        repeated = action.redelivered and (
            ageless or (received_ns or 0) <= last_ns + max_age_ns + GRACE_NS
        )
        if count == 0 or not repeated:
            count, last_ns = count + 1, received_ns or last_ns
        while not action.redelivered and has_order(name(count)):
            count += 1  # the count was forgotten, but the order of an earlier one is still known
        self.bodies[body] = (count, last_ns)
        # A body is counted for longer than its names are remembered: were it forgotten first, a
        # new action would get the name of an old one and be taken for it.
        self.bodies = keep_newest(self.bodies, 2 * REMEMBERED)
        return name(count)
