"""Is what we hold what the exchange holds? When to ask, and what to make of the answer.

    link down          nothing is known to be true; no action is taken
    link up            pushes are kept aside, a snapshot is asked for and merged, then the pushes
    in sync            actions are taken; a light check now and then, and whenever the exchange's
                       position differs from ours for longer than its fills take to come
    position differs   no new order; ask again, a few times, since a snapshot may be older than a
                       fill; then it is *unexplained*, loudly, until a check or a push agrees

Merging only ever adds: fills that are new, growth, ends of orders. So a snapshot asked before
a fill landed cannot undo it, and one may be merged at any time.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.inputs import OrderUpdate, PositionUpdate, Snapshot
from oms_trio.core.model import OrderReport, PositionReport, TradeId

SECOND_NS = 1_000_000_000

OVERLAP_MS = 60_000
"""Questions reach back to this long before the last merged snapshot was asked for: records may
come late, and the exchange's clock may differ from ours by up to 30 s."""

PUSH_GRACE_NS = 3 * SECOND_NS
"""A position push and the fills that explain it come from different systems of the exchange."""

CHECK_AGAIN_NS = 2 * SECOND_NS
CHECK_TRIES = 5


FLAT = PositionReport(Decimal(0), None, None, None, 0)
"""What the exchange says by listing no position."""


@attrs.frozen
class Kept:
    """A push that waits for the snapshot: of an order or of the position."""

    at_ns: int
    order: OrderReport | None = None
    position: PositionReport | None = None


@attrs.define
class Sync:
    """What we know of the link and of the exchange's position."""

    linked: bool = False
    merged: bool = False
    explained: bool = False
    request: int = 0
    asked: bool = False
    tries: int = 0
    check_due_ns: int = 0
    differs_since_ns: int | None = None
    exchange_pos: PositionReport | None = None
    told_at_ns: int = 0
    known_ns: int = 0
    """When the last snapshot that was merged was asked for: what is older is known."""
    fills_at_ask: int = 0
    aside: list[Kept] = attrs.Factory(list)
    lags: int = 0
    """Snapshots in a row that were older than the pushes they were to be merged with."""
    why: str = "starting"

    @property
    def true(self) -> bool:
        """Whether our state is known to be the exchange's."""
        return self.linked and self.merged and self.explained

    def link_up(self) -> None:
        """Begin to reconcile; a change-over between two sessions leaves no gap to wait for."""
        if not self.linked:
            self.linked, self.merged, self.why = True, False, "reconciling with the exchange"
        self.tries = self.lags = 0

    def link_down(self, why: str) -> None:
        """Forget what was in the air; what was kept aside is in the next snapshot."""
        self.linked = self.merged = self.asked = False
        self.differs_since_ns = None
        self.aside.clear()
        self.why = f"no session with the exchange: {why}"

    def ask(self, now_ns: int, fills: int, check_every_ns: int) -> int:
        """Number the next request; ``fills`` is how many are booked as it leaves."""
        self.request += 1
        self.asked = True
        self.fills_at_ask = fills
        self.check_due_ns = now_ns + check_every_ns
        return self.request

    def note_position(self, report: PositionReport, at_ns: int) -> None:
        """Keep the newest word on the position: by trade id, then by time of change."""
        known = self.exchange_pos
        if known is None or _version(report) >= _version(known):
            self.exchange_pos = report
            self.told_at_ns = at_ns

    def compare(self, position: Decimal, now_ns: int) -> None:
        """Watch whether the exchange's latest position is ours."""
        told = self.exchange_pos
        if told is None:
            return
        if told.pos != position:
            if self.differs_since_ns is None:
                self.differs_since_ns = now_ns
            return
        self.differs_since_ns = None
        if self.linked and self.merged:
            self.explained, self.tries = True, 0

    def check_due(self, now_ns: int) -> bool:
        """Say whether a check is due: by time, or because positions differ for too long."""
        if not self.linked or self.asked:
            return False
        if not self.merged:
            return self.lags > 0 and now_ns >= self.check_due_ns
        differs = self.differs_since_ns
        if differs is not None and self.tries == 0 and now_ns >= differs + PUSH_GRACE_NS:
            return True
        return now_ns >= self.check_due_ns

    def lagging(self, snapshot: Snapshot, position: Decimal, last_trade_id: TradeId | None) -> bool:
        """Say whether a snapshot is to be asked for again before anything is merged.

        REST may lag behind the pushes. A fill that is too new for the one and too old for the
        other is in neither, and to book what came after it would put trades in a wrong order. What
        gives it away is the position's trade id: it is of a fill that nobody has told.
        """
        pushes = [kept.position for kept in self.aside if kept.position is not None]
        told = max([*pushes, snapshot.position or FLAT], key=_version)
        known = [fill.trade_id for fill in snapshot.fills]
        known += [kept.order.fill.trade_id for kept in self.aside if kept.order and kept.order.fill]
        newest = max((trade_id for trade_id in known if trade_id is not None), default=0)
        explained = told.pos == position or (told.trade_id or 0) <= max(newest, last_trade_id or 0)
        if self.merged or explained or self.lags == CHECK_TRIES:
            return False
        self.lags += 1
        self.asked = False
        self.check_due_ns = snapshot.at_ns + SECOND_NS
        return True

    def verify(
        self,
        told: PositionReport | None,
        position: Decimal,
        *,
        asked_at_ns: int,
        now_ns: int,
        fills_landed: bool,
    ) -> bool:
        """Judge the position of a snapshot that has been merged.

        ``told`` is None when the exchange lists no position: flat. ``fills_landed`` says that
        fills were booked after the question left, so that a difference proves nothing yet.
        Returns True when the last try has failed and the position is unexplained.
        """
        self.asked, self.merged, self.known_ns = False, True, asked_at_ns
        told = told or FLAT
        pushed = self.exchange_pos
        if told.pos != position and pushed is not None and self.told_at_ns >= asked_at_ns:
            told = pushed
        self.exchange_pos = told
        if told.pos == position:
            self.explained, self.tries, self.differs_since_ns = True, 0, None
            return False
        self.why = f"the exchange's position is {told.pos}, our fills explain {position}"
        if fills_landed:
            self.check_due_ns = now_ns + CHECK_AGAIN_NS
            return False
        self.explained = False
        self.tries += 1
        if self.tries < CHECK_TRIES:
            self.check_due_ns = now_ns + CHECK_AGAIN_NS
        return self.tries == CHECK_TRIES

    def keep_aside(self, update: OrderUpdate | PositionUpdate) -> bool:
        """Keep a push that came before the snapshot; False when it may be applied at once."""
        if self.merged or not self.linked:
            return False
        if isinstance(update, OrderUpdate):
            self.aside.append(Kept(update.at_ns, order=update.report))
        else:
            self.aside.append(Kept(update.at_ns, position=update.report))
        return True

    def take_aside(self) -> list[Kept]:
        """Give back what was kept, in the order in which it came."""
        aside, self.aside = self.aside, []
        return aside


def _version(report: PositionReport) -> tuple[int, int]:
    return (report.trade_id or 0, report.u_time_ms)
