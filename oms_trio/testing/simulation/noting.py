"""The exchange's faults, which note what they displace and what they hamper."""

from __future__ import annotations

from typing import Final

import attrs

from oms_trio.testing.okx_server.events import ExchangeEvent, OrderChanged
from oms_trio.testing.okx_server.faults.switches import Counter, FaultSwitches
from oms_trio.testing.okx_server.values import ExchangeFill, OrderCategory, Visibility
from oms_trio.testing.simulation.troubles import Trouble, Troubles

_DISPLACING: Final = frozenset({"drop_order_pushes", "late_order_pushes", "swap_order_pushes"})

_HAMPERING: Final[dict[str, tuple[Trouble, float]]] = {
    "drop_acks": (Trouble.LINK, 45.0),
    "cut_before_op": (Trouble.LINK, 0.0),
    "cut_after_op": (Trouble.LINK, 0.0),
    "drop_order_pushes": (Trouble.PUSHES, 60.0),
    "late_order_pushes": (Trouble.PUSHES, 15.0),
    "swap_order_pushes": (Trouble.PUSHES, 60.0),
    "drop_position_pushes": (Trouble.PUSHES, 100.0),
    "late_position_pushes": (Trouble.PUSHES, 15.0),
    "rest_failures": (Trouble.REST, 5.0),
    "lost_rest_answers": (Trouble.REST, 15.0),
}
"""What counted faults hamper when they happen, and for how long."""


@attrs.define(eq=False)
class NotingFaults(FaultSwitches):
    """Remembers the matches whose push was not told in its place while the session went on.

    Nothing tells of such a match before a later one of another order is told, so nobody can book
    them in the order in which they happened. (What a lost connection takes is another matter:
    that can be put in order before anything later is booked.)
    """

    troubles: Troubles = attrs.Factory(Troubles)
    current: OrderChanged | None = None
    """What the exchange is about to tell."""
    displaced: set[int] = attrs.Factory(set)

    def note(self, event: ExchangeEvent) -> None:
        """Listen to the exchange, before any session does."""
        if isinstance(event, OrderChanged):
            self.current = event
            fill = event.fill
            if (
                fill is not None
                and fill.category is not OrderCategory.NORMAL
                and self._is_quiet(fill)
            ):
                self.displaced.add(fill.trade_id)

    def _is_quiet(self, fill: ExchangeFill) -> bool:
        """Whether a match of the risk engine is told by no orders push."""
        return fill.visibility is not Visibility.PUSHED

    def consume(self, switch: Counter) -> bool:
        """See ``FaultSwitches.consume``."""
        used = super().consume(switch)
        if used and (hampers := _HAMPERING.get(switch)) is not None:
            self.troubles.note(*hampers)
        if used and switch in _DISPLACING and self.current is not None and self.current.fill:
            self.displaced.add(self.current.fill.trade_id)
        return used
