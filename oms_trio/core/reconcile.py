"""Whether our state is the exchange's: when to request a snapshot, and how to judge it.

    session down       our state may be outdated; no action is taken
    session up         pushes are buffered, a snapshot is requested and merged, then the pushes
    in sync            actions are taken; a snapshot now and then, and whenever the exchange's
                       position differs from ours for longer than its fills take to come
    position differs   for longer than ``PUSH_GRACE_NS``: an alert, no new order, and snapshots until a
                       report agrees with our fills or the operator adopts the position

Positions are compared exactly. The trade id of a report shows which matches it contains, so it is
compared with the sum of *our* fills up to that match: fills that come meanwhile neither hide
a difference nor make one.

Merging only ever adds: fills that are new, growth, ends of orders. So a snapshot requested before
a fill happened cannot undo it, and one may be merged at any time.

Reads may lag behind the matching engine. What they do not show proves nothing until they have shown
something that is younger (``reader_ms``).
"""

from __future__ import annotations

from decimal import Decimal

import attrs

from oms_trio.core.book import Book
from oms_trio.core.events import ExchangeSnapshot, OrderUpdate, PositionUpdate
from oms_trio.core.model import (
    NEVER,
    NS_PER_MS,
    SECOND_NS,
    ExchangeMs,
    Instrument,
    OrderReport,
    PositionReport,
    TradeId,
)

OVERLAP_MS = 60_000
"""Snapshots reach back to this long before the last merged one was requested: records may come late."""

PUSH_GRACE_NS = 3 * SECOND_NS
"""A position push and the fills that explain it come from different systems of the exchange."""

CHECK_AGAIN_NS = 2 * SECOND_NS
CHECK_TRIES = 5
CHECK_LATER_NS = 30 * SECOND_NS
"""Pauses between checks while the position differs: the first ``CHECK_TRIES``, and from then on. Reads
may lag for minutes, and the push that ends a difference may be lost: no order goes out meanwhile."""

LAG_AGAIN_NS = SECOND_NS


FLAT = PositionReport(Decimal(0), None, None, None, 0)
"""What it means when the exchange lists no position."""


@attrs.frozen
class BufferedPush:
    """A push that waits for the snapshot: of an order or of the position."""

    at_ns: int
    order: OrderReport | None = None
    position: PositionReport | None = None


@attrs.define
class Sync:
    """What we know of the session and of the exchange's position."""

    has_session: bool = False
    snapshot_applied: bool = False
    position_matches: bool = False
    instrument: Instrument | None = None
    """As of the last snapshot."""
    request: int = 0
    snapshot_requested: bool = False
    tries: int = 0
    check_due_ns: int = 0
    differs_since_ns: int | None = None
    exchange_pos: PositionReport | None = None
    reported_at_ns: int = 0
    known_ns: int = 0
    """When the last merged snapshot was requested, by the exchange's clock: what is older is known."""
    buffered: list[BufferedPush] = attrs.Factory(list)
    lags: int = 0
    """Snapshots in a row that were older than the pushes they were to be merged with."""
    why: str = "starting"
    offset_ns: int = 0
    """The exchange's clock minus the service's."""
    since_ms: ExchangeMs = NEVER
    """From when on the snapshot that was requested last lists fills."""
    lagging_since_ns: int | None = None
    reader_ms: ExchangeMs = NEVER
    """The youngest change of an order, or match, that a read has shown."""
    reader_lag_ms: int = 180_000
    """See ``Rules``."""
    newest_trade_id: TradeId | None = None
    """The youngest match of all that the last snapshot listed, ours or not."""
    positions: list[Decimal] = attrs.Factory(list)
    """Our positions since the last request, to judge a snapshot without a trade id."""
    alarmed: bool = False
    """Whether the present difference has been reported."""

    @property
    def in_sync(self) -> bool:
        """Whether our state is known to be the exchange's."""
        return self.has_session and self.snapshot_applied and self.position_matches

    @property
    def inst_id_code(self) -> int | None:
        """What requests on the WebSocket call the instrument; None: not known yet."""
        return None if self.instrument is None else self.instrument.inst_id_code

    def exchange_ms(self, at_ns: int) -> ExchangeMs:
        """Estimate what the exchange's clock says at a moment of ours."""
        return ExchangeMs((at_ns + self.offset_ns) // NS_PER_MS)

    def service_ns(self, at_ms: int) -> int:
        """Estimate what our clock says at a moment of the exchange's."""
        return at_ms * NS_PER_MS - self.offset_ns

    def session_up(self, offset_ns: int) -> None:
        """Begin to reconcile; a handover between two sessions leaves no gap to wait for."""
        self.offset_ns = offset_ns
        if not self.has_session:
            self.has_session, self.snapshot_applied, self.why = (
                True,
                False,
                "reconciling with the exchange",
            )
        self.tries = self.lags = 0
        self.lagging_since_ns = None

    def session_down(self, why: str) -> None:
        """Forget what was under way; what was buffered is in the next snapshot."""
        self.has_session = self.snapshot_applied = self.snapshot_requested = False
        self.differs_since_ns = None
        self.buffered.clear()
        self.why = f"no session with the exchange: {why}"

    def note_request(
        self, now_ns: int, position: Decimal, known_ns: int, check_every_ns: int
    ) -> None:
        """Number the next request, for what happened since ``known_ns`` (the exchange's clock)."""
        self.request += 1
        self.snapshot_requested = True
        self.positions = [position]
        self.since_ms = ExchangeMs(max(known_ns // NS_PER_MS - OVERLAP_MS, 0))
        self.check_due_ns = now_ns + check_every_ns

    def note_read(self, at_ms: int) -> None:
        """Note that a read of orders or fills has shown something of this time."""
        self.reader_ms = max(self.reader_ms, ExchangeMs(at_ms))

    def has_shown(self, until_ms: ExchangeMs, asked_ms: ExchangeMs) -> bool:
        """Whether a read requested at ``asked_ms`` must have shown what happened until ``until_ms``."""
        return self.reader_ms >= until_ms or asked_ms >= until_ms + self.reader_lag_ms

    def note_position(self, report: PositionReport, at_ns: int) -> None:
        """Keep the newest report of the position: by trade id, then by time of change."""
        known = self.exchange_pos
        if known is None or _version(report) >= _version(known):
            self.exchange_pos = report
            self.reported_at_ns = at_ns

    def note_listed(
        self, report: PositionReport | None, asked_at_ns: int, at_ns: int
    ) -> PositionReport:
        """Keep the position that a query has found, and return the newest that is known now.

        A missed closing push is never repeated, so what is not listed is flat, unless a push has
        come after the query.
        """
        if report is not None:
            self.note_position(report, at_ns)
        elif self.exchange_pos is None or self.reported_at_ns < asked_at_ns:
            self.exchange_pos, self.reported_at_ns = FLAT, at_ns
        return self.exchange_pos or FLAT

    def reads_show(self, position: PositionReport) -> bool:
        """Whether the last list of fills reaches up to the match that a position names."""
        old = position.u_time_ms < self.since_ms
        return old or (position.trade_id or 0) <= (self.newest_trade_id or 0)

    def may_adopt(self, position: PositionReport, now_ns: int) -> bool:
        """Whether a difference to a position will not be explained by fills any more.

        A snapshot must have been merged that was requested after the difference began, and its list
        of fills must reach up to the position; at last that is taken for granted.
        """
        since_ns = self.differs_since_ns
        if since_ns is None or now_ns < since_ns + PUSH_GRACE_NS:
            return False
        if self.known_ns - self.offset_ns < since_ns:
            return False
        return self.reads_show(position) or now_ns >= since_ns + self.reader_lag_ms * NS_PER_MS

    def compare(self, book: Book, now_ns: int) -> None:
        """Compare the exchange's latest position with our fills up to the match that it names."""
        theirs = self.exchange_pos
        ours = None if theirs is None else book.position_at(theirs.trade_id)
        if theirs is None or ours is None:
            return
        if theirs.pos == ours or (theirs.trade_id is None and theirs.pos in self.positions):
            self.differs_since_ns, self.alarmed = None, False
            if self.has_session and self.snapshot_applied:
                self.position_matches, self.tries = True, 0
            return
        if self.differs_since_ns is None:
            self.differs_since_ns = now_ns
        if not self.position_matches or now_ns >= self.differs_since_ns + PUSH_GRACE_NS:
            self._distrust(theirs.pos, ours)

    def judge(self, book: Book, now_ns: int) -> str | None:
        """Stop trusting a position that has differed for too long; returns what to report, once."""
        since = self.differs_since_ns
        if (
            since is None
            or not self.snapshot_applied
            or now_ns < since + PUSH_GRACE_NS
            or self.alarmed
        ):
            return None
        theirs = self.exchange_pos
        ours = None if theirs is None else book.position_at(theirs.trade_id)
        if theirs is None or ours is None:
            return None
        self._distrust(theirs.pos, ours)
        self.alarmed = True
        return self.why

    def _distrust(self, theirs: Decimal, ours: Decimal) -> None:
        self.position_matches = False
        if self.snapshot_applied:
            self.why = f"the exchange's position is {theirs}, our fills explain {ours}"

    def judgement_due(self, now_ns: int) -> bool:
        """Whether ``judge`` would report something by then."""
        since = self.differs_since_ns
        return since is not None and not self.alarmed and now_ns >= since + PUSH_GRACE_NS

    def check_due(self, now_ns: int) -> bool:
        """Return whether a check is due: by time, or because positions differ for too long."""
        if not self.has_session or self.snapshot_requested:
            return False
        if not self.snapshot_applied:
            return self.lags > 0 and now_ns >= self.check_due_ns
        differs = self.differs_since_ns
        if differs is not None and self.tries == 0 and now_ns >= differs + PUSH_GRACE_NS:
            return True
        return now_ns >= self.check_due_ns

    def lagging(self, snapshot: ExchangeSnapshot, book: Book, now_ns: int) -> bool:
        """Return whether a snapshot lags, so that it is requested again and nothing of it is merged.

        REST may lag behind the pushes. A fill that is too new for the one and too old for the
        other is in neither, and to book what came after it would put trades in a wrong order. What
        gives it away is the position's trade id: it is of a match younger than all that the list
        of fills shows, ours or anybody else's on the account, and than all that we had booked. (A
        liquidation or ADL changes a position whose last match may be of long ago.)
        """
        pushes = [kept.position for kept in self.buffered if kept.position is not None]
        theirs = max([*pushes, snapshot.position or FLAT], key=_version)
        shown = self.reads_show(theirs) or (theirs.trade_id or 0) <= (book.last_trade_id or 0)
        if self.snapshot_applied or shown or theirs.pos == book.position_at(theirs.trade_id):
            return False
        self.lagging_since_ns = since_ns = self.lagging_since_ns or now_ns
        if now_ns >= since_ns + self.reader_lag_ms * NS_PER_MS:
            return False
        self.lags += 1
        self.snapshot_requested = False
        self.check_due_ns = now_ns + LAG_AGAIN_NS
        self.why = f"REST has not shown match {theirs.trade_id} yet, which the position contains"
        return True

    def conclude(self, snapshot: ExchangeSnapshot, book: Book, now_ns: int) -> None:
        """Judge the position of a snapshot that has been merged; from now on pushes count."""
        if not self.snapshot_applied:
            self.position_matches = False  # as far as we know yet
        self.snapshot_requested, self.snapshot_applied = False, True
        self.lagging_since_ns = None
        self.known_ns = snapshot.asked_at_ns + snapshot.offset_ns
        self.note_listed(snapshot.position, snapshot.asked_at_ns, now_ns)
        self.compare(book, now_ns)
        if self.differs_since_ns is not None:
            self.tries += 1
            pause_ns = CHECK_AGAIN_NS if self.tries < CHECK_TRIES else CHECK_LATER_NS
            self.check_due_ns = min(self.check_due_ns, now_ns + pause_ns)
        self.positions = []

    def buffer(self, update: OrderUpdate | PositionUpdate, now_ns: int) -> bool:
        """Keep a push that came before the snapshot; False when it may be applied at once."""
        if self.snapshot_applied or not self.has_session:
            return False
        if isinstance(update, OrderUpdate):
            self.buffered.append(BufferedPush(now_ns, order=update.report))
        else:
            self.buffered.append(BufferedPush(now_ns, position=update.report))
        return True

    def take_buffered(self) -> list[BufferedPush]:
        """Give back what was kept, in the order in which it came."""
        buffered, self.buffered = self.buffered, []
        return buffered


def _version(report: PositionReport) -> tuple[int, int]:
    return (report.trade_id or 0, report.u_time_ms)
