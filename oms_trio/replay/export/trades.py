"""Trades told whole: gathered fill by fill, handed on when they are closed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from oms_trio.core.effects import FillBooked, PublishClosure
from oms_trio.core.model import OrdId, Side, StateId
from oms_trio.replay.recordings.model import Moment

ZERO = Decimal(0)

FILLS_KEPT = 2_000
"""Fills of one trade that are kept; a trade that never closes must not fill the memory."""


@attrs.frozen
class Part:
    """What one fill did to one trade: contracts in (``sz`` above 0) or out of it."""

    at_ns: int
    time_ms: int
    ord_id: OrdId
    state_id: StateId
    trade_id: int | None
    side: Side
    px: Decimal
    sz: Decimal
    size_behind: Decimal
    entry_px: Decimal | None
    gain: Decimal


@attrs.define
class TradeStory:
    """One trade from its first fill on; ``closed_by`` and ``reward`` are None while it is open.

    ``state_id`` and ``portions`` are those of the published closure.
    """

    okx_id: OrdId
    side: Side
    opened_at_ns: int
    parts: list[Part] = attrs.Factory(list)
    fills: int = 0
    size: Decimal = ZERO
    largest: Decimal = ZERO
    cumulative: Decimal = ZERO
    max_drawdown: float = 0.0
    closed_at_ns: int | None = None
    closed_by: OrdId | None = None
    state_id: StateId | None = None
    portions: tuple[tuple[OrdId, float], ...] = ()
    reward: float | None = None

    def average(self, *, entry: bool) -> Decimal | None:
        """Return the average price of what went in, or of what came out."""
        legs = [part for part in self.parts if (part.side is self.side) is entry]
        size = sum((abs(part.sz) for part in legs), ZERO)
        return sum((part.px * abs(part.sz) for part in legs), ZERO) / size if size else None

    def note(self, part: Part) -> None:
        """Add a fill's part in this trade."""
        self.fills += 1
        self.size = part.size_behind
        self.largest = max(self.largest, self.size)
        if len(self.parts) < FILLS_KEPT:
            self.parts.append(part)


@attrs.define
class Trades:
    """Follows trades; ``tell`` gets each one that is over, ``current`` is the open one."""

    tell: Callable[[TradeStory], object]
    current: TradeStory | None = None

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        closure = None
        for effect in moment.effects:
            if isinstance(effect, PublishClosure):
                closure = effect
            elif isinstance(effect, FillBooked):
                self._take(effect, closure, moment.step.at_ns)
                closure = None
        open_trade = moment.state.book.trade
        if self.current is not None and open_trade is not None:
            self.current.max_drawdown = open_trade.max_drawdown

    def _take(self, booked: FillBooked, closure: PublishClosure | None, now_ns: int) -> None:
        left = booked.fill.sz
        if booked.trade is not None:
            story = self._story(booked.trade, booked, now_ns)
            into = booked.reduced or left
            left -= into
            behind = ZERO if booked.closed else abs(booked.position)
            entry = None if booked.closed else booked.entry_px
            signed = -into if booked.reduced else into
            story.note(_part(booked, now_ns, signed, behind, entry, booked.gain))
            story.cumulative, story.max_drawdown = booked.gained, booked.max_drawdown
            if booked.closed:
                self._close(story, booked, closure, now_ns)
        if booked.opened is not None:
            story = TradeStory(booked.opened, booked.side, now_ns)
            story.note(_part(booked, now_ns, left, abs(booked.position), booked.entry_px, ZERO))
            self.current = story

    def _story(self, okx_id: OrdId, booked: FillBooked, now_ns: int) -> TradeStory:
        """Return the story of the open trade; a trade from before the replay begins here."""
        if self.current is None or self.current.okx_id != okx_id:
            side = booked.side
            if booked.reduced:
                side = Side.SELL if side is Side.BUY else Side.BUY
            self.current = TradeStory(okx_id, side, now_ns)
        return self.current

    def _close(
        self, story: TradeStory, booked: FillBooked, closure: PublishClosure | None, now_ns: int
    ) -> None:
        story.closed_at_ns, story.closed_by = now_ns, booked.fill.ord_id
        story.reward = booked.reward
        if closure is not None:
            story.state_id, story.portions = closure.state_id, closure.portions
        self.current = None
        self.tell(story)


def _part(
    booked: FillBooked,
    now_ns: int,
    sz: Decimal,
    behind: Decimal,
    entry_px: Decimal | None,
    gain: Decimal,
) -> Part:
    fill = booked.fill
    return Part(
        at_ns=now_ns,
        time_ms=fill.time_ms,
        ord_id=fill.ord_id,
        state_id=booked.state_id,
        trade_id=fill.trade_id,
        side=booked.side,
        px=fill.px,
        sz=sz,
        size_behind=behind,
        entry_px=entry_px,
        gain=gain,
    )
