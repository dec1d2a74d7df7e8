"""The switches of the exchange's faults, which record what each fault impairs and displaces."""

from __future__ import annotations

from typing import Final

import attrs

from oms_trio.testing.okx_server.events import Event, OrderChanged
from oms_trio.testing.okx_server.faults.behaviour import Counter, Faults
from oms_trio.testing.okx_server.values import Category, Fill, Reported
from oms_trio.testing.simulation.impairments import Impairment, Impairments

_DISPLACING: Final = frozenset({"miss_order_pushes", "late_order_pushes", "swap_order_pushes"})

_IMPAIRING: Final[dict[str, tuple[Impairment, float]]] = {
    "drop_acks": (Impairment.LINK, 45.0),
    "cut_before_op": (Impairment.LINK, 0.0),
    "cut_after_op": (Impairment.LINK, 0.0),
    "miss_order_pushes": (Impairment.PUSHES, 60.0),
    "late_order_pushes": (Impairment.PUSHES, 15.0),
    "swap_order_pushes": (Impairment.PUSHES, 60.0),
    "miss_position_pushes": (Impairment.PUSHES, 100.0),
    "late_position_pushes": (Impairment.PUSHES, 15.0),
    "rest_failures": (Impairment.REST, 5.0),
    "lost_rest_answers": (Impairment.REST, 15.0),
}
"""What each counted fault impairs when it happens, and for how many seconds."""


@attrs.define(eq=False)
class RecordingFaults(Faults):
    """Records the fills whose push was not sent in its place while the session went on.

    Nothing reports such a fill before a later fill of another order is reported, so nobody can book
    the two in the order in which they happened. (What is lost with a connection is different: it is
    put in order before anything later is booked.)
    """

    impairments: Impairments = attrs.Factory(Impairments)
    current: OrderChanged | None = None
    """The change that the exchange is about to push."""
    displaced: set[int] = attrs.Factory(set)
    """The trade ids of those fills."""

    def note(self, event: Event) -> None:
        """Take an event of the exchange, before any session does."""
        if isinstance(event, OrderChanged):
            self.current = event
            fill = event.fill
            if fill is not None and fill.category is not Category.NORMAL and self._is_quiet(fill):
                self.displaced.add(fill.trade_id)

    def _is_quiet(self, fill: Fill) -> bool:
        """Whether no orders push reports this fill of a liquidation or ADL."""
        return fill.reported is not Reported.PUSHED

    def use_up(self, switch: Counter) -> bool:
        """See ``Faults.use_up``."""
        used = super().use_up(switch)
        if used and (impairs := _IMPAIRING.get(switch)) is not None:
            self.impairments.note(*impairs)
        if used and switch in _DISPLACING and self.current is not None and self.current.fill:
            self.displaced.add(self.current.fill.trade_id)
        return used
