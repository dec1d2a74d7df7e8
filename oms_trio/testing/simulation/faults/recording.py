"""The switches of the exchange's faults, which record what each fault impairs and displaces."""

from __future__ import annotations

from typing import Final

import attrs

from oms_trio.testing.okx_server.events import ExchangeEvent, OrderChanged
from oms_trio.testing.okx_server.faults.switches import Counter, FaultSwitches
from oms_trio.testing.okx_server.values import ExchangeFill, OrderCategory, Visibility
from oms_trio.testing.simulation.impairments import Impairment, Impairments

_DISPLACING: Final = frozenset({"drop_order_pushes", "late_order_pushes", "swap_order_pushes"})

_IMPAIRING: Final[dict[str, tuple[Impairment, float]]] = {
    "drop_acks": (Impairment.LINK, 45.0),
    "cut_before_op": (Impairment.LINK, 0.0),
    "cut_after_op": (Impairment.LINK, 0.0),
    "drop_order_pushes": (Impairment.PUSHES, 60.0),
    "late_order_pushes": (Impairment.PUSHES, 15.0),
    "swap_order_pushes": (Impairment.PUSHES, 60.0),
    "drop_position_pushes": (Impairment.PUSHES, 100.0),
    "late_position_pushes": (Impairment.PUSHES, 15.0),
    "rest_failures": (Impairment.REST, 5.0),
    "lost_rest_answers": (Impairment.REST, 15.0),
}
"""What each counted fault impairs when it happens, and for how many seconds."""


@attrs.define(eq=False)
class RecordingFaults(FaultSwitches):
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

    def note(self, event: ExchangeEvent) -> None:
        """Take an event of the exchange, before any session does."""
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
        """Whether no orders push reports this fill of a liquidation or ADL."""
        return fill.visibility is not Visibility.PUSHED

    def consume(self, switch: Counter) -> bool:
        """See ``FaultSwitches.consume``."""
        used = super().consume(switch)
        if used and (impairs := _IMPAIRING.get(switch)) is not None:
            self.impairments.note(*impairs)
        if used and switch in _DISPLACING and self.current is not None and self.current.fill:
            self.displaced.add(self.current.fill.trade_id)
        return used
