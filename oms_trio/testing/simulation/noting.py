"""The exchange's faults, which note what they displace and what they hamper."""

from __future__ import annotations

from typing import Final

import attrs

from oms_trio.testing.okx_server.events import Event, OrderChanged
from oms_trio.testing.okx_server.faults.behaviour import Counter, Faults
from oms_trio.testing.okx_server.values import Category, Fill, Reported
from oms_trio.testing.simulation.troubles import Trouble, Troubles

_DISPLACING: Final = frozenset({"miss_order_pushes", "late_order_pushes", "swap_order_pushes"})

_HAMPERING: Final[dict[str, tuple[Trouble, float]]] = {
    "drop_acks": (Trouble.LINK, 45.0),
    "cut_before_op": (Trouble.LINK, 0.0),
    "cut_after_op": (Trouble.LINK, 0.0),
    "miss_order_pushes": (Trouble.PUSHES, 60.0),
    "late_order_pushes": (Trouble.PUSHES, 15.0),
    "swap_order_pushes": (Trouble.PUSHES, 60.0),
    "miss_position_pushes": (Trouble.PUSHES, 100.0),
    "late_position_pushes": (Trouble.PUSHES, 15.0),
    "rest_failures": (Trouble.REST, 5.0),
    "lost_rest_answers": (Trouble.REST, 15.0),
}
"""What counted faults hamper when they happen, and for how long."""


@attrs.define(eq=False)
class NotingFaults(Faults):
    """Remembers the matches whose push was not told in its place while the session went on.

    Nothing tells of such a match before a later one of another order is told, so nobody can book
    them in the order in which they happened. (What a lost connection takes is another matter:
    that can be put in order before anything later is booked.)
    """

    troubles: Troubles = attrs.Factory(Troubles)
    current: OrderChanged | None = None
    """What the exchange is about to tell."""
    displaced: set[int] = attrs.Factory(set)

    def note(self, event: Event) -> None:
        """Listen to the exchange, before any session does."""
        if isinstance(event, OrderChanged):
            self.current = event
            fill = event.fill
            if fill is not None and fill.category is not Category.NORMAL and self._is_quiet(fill):
                self.displaced.add(fill.trade_id)

    def _is_quiet(self, fill: Fill) -> bool:
        """Whether a match of the risk engine is told by no orders push."""
        return fill.reported is not Reported.PUSHED

    def use_up(self, switch: Counter) -> bool:
        """See ``Faults.use_up``."""
        used = super().use_up(switch)
        if used and (hampers := _HAMPERING.get(switch)) is not None:
            self.troubles.note(*hampers)
        if used and switch in _DISPLACING and self.current is not None and self.current.fill:
            self.displaced.add(self.current.fill.trade_id)
        return used
