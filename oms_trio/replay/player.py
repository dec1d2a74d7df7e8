"""The recorded inputs again, through a channel into the same trade state, at a chosen pace.

    reader  --batches of steps-->  player: state.apply  -->  watchers

The reader reads ahead by a bounded number of steps, so memory does not depend on the length of a
recording. Time comes with each step: without a pace (``pace``) the clock jumps to the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice, takewhile

import attrs
import trio

from oms_trio.core.book import Book
from oms_trio.core.effects import Effect, Publication, PublishClosure
from oms_trio.core.model import Fill, Rules
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.core.trade import ZERO
from oms_trio.journal.errors import StateError
from oms_trio.replay.recordings.model import (
    Booked,
    Moment,
    Recording,
    RecordingError,
    Step,
    Watcher,
)

BATCH = 256
"""Steps handed over at once: a channel's turn costs as much as some steps."""

AHEAD = 8
"""Batches that wait between reader and player: some megabytes of records at most."""


Before = Callable[[Step], Awaitable[None]]


class WatchedBook(Book):
    """A book that tells of every fill it takes; it decides nothing and keeps nothing.

    It has no fields of its own and the repr of its base, so that a state with it has the digest
    of one without.
    """

    __qualname__ = Book.__qualname__

    tell: Callable[[Booked], None]
    at_ns: int
    """When the step is taken that may book fills; set by who takes it."""

    @classmethod
    def of(cls, book: Book, tell: Callable[[Booked], None]) -> WatchedBook:
        """Take over the contents of a book."""
        watched = cls(**{field.name: getattr(book, field.name) for field in attrs.fields(Book)})
        watched.tell, watched.at_ns = tell, 0
        return watched

    def take(
        self, order: OrderInfo, fill: Fill, multiplier: Decimal, rules: Rules
    ) -> list[Publication]:
        """Count a fill, as every book does, and tell of it."""
        trade = self.trade
        size, pnl = (ZERO, ZERO) if trade is None else (trade.size, trade.pnl)
        told = super().take(order, fill, multiplier, rules)
        against = trade is not None and order.side is not trade.side
        now = self.trade
        self.tell(
            Booked(
                at_ns=self.at_ns,
                order=order,
                fill=fill,
                side=order.side,
                trade=None if trade is None else trade.okx_id,
                opened=None if now is None or now is trade else now.okx_id,
                reduced=min(fill.sz, size) if against else ZERO,
                gain=ZERO if trade is None else trade.pnl - pnl,
                max_drawdown=0.0 if trade is None else trade.max_drawdown,
                cumulative=ZERO if trade is None else trade.gained(rules),
                reward=0.0 if trade is None else trade.reward(rules),
                position=self.position,
                entry_px=None if now is None else now.entry_px,
                closed=trade is not None and now is not trade,
                closure=next((one for one in told if isinstance(one, PublishClosure)), None),
            )
        )
        return told


@attrs.frozen
class Until:
    """Where to stop: behind a time or behind a step; None is the end."""

    at_ns: int | None = None
    seq: int | None = None

    def covers(self, step: Step) -> bool:
        """Say whether a step is still to be taken."""
        if self.at_ns is not None and step.at_ns > self.at_ns:
            return False
        return self.seq is None or step.seq <= self.seq


END = Until()


@attrs.define
class Player:
    """The trade state that is played to, and who watches it."""

    state: TradeState
    recording: Recording
    watchers: Sequence[Watcher]
    from_ns: int | None = None
    """Watchers see nothing from before."""
    _booked: list[Booked] = attrs.field(factory=list, init=False)
    _book: WatchedBook = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Watch the book."""
        self._book = WatchedBook.of(self.state.book, self._booked.append)
        self.state.book = self._book

    def take(self, step: Step) -> None:
        """Apply one step, and what the exchange would have answered to it."""
        self._book.at_ns = step.at_ns
        effects = tuple(
            effect
            for event in step.arrival.events
            for effect in self.state.apply(event, step.at_ns)
        )
        self._tell(step, effects)
        for arrival in self.recording.answers(effects, self.state, step.at_ns):
            self.take(attrs.evolve(step, arrival=arrival, outputs=None))

    def _tell(self, step: Step, effects: tuple[Effect, ...]) -> None:
        booked = tuple(self._booked)
        self._booked.clear()
        if self.from_ns is not None and step.at_ns < self.from_ns:
            return
        moment = Moment(step, effects, booked, self.state)
        for watch in self.watchers:
            watch(moment)


async def play(
    recording: Recording,
    watchers: Sequence[Watcher] = (),
    *,
    near_ns: int | None = None,
    from_ns: int | None = None,
    until: Until = END,
    before: Before | None = None,
    on_batch: Callable[[], object] = lambda: None,
) -> TradeState:
    """Play a recording to its end or ``until`` and return the state behind it.

    It begins at the recording's last known state not past ``near_ns``, else at the beginning;
    watchers see what comes from ``from_ns`` on. ``before`` is awaited before each step (see
    ``Pace.wait``); without it all goes as fast as it can. ``on_batch`` is called now and then.

    Raises:
        RecordingError, StateError: the recording cannot be read, or a watcher refuses it.
    """
    beginning = recording.begin(near_ns)
    player = Player(beginning.state, recording, watchers, from_ns)
    send, receive = trio.open_memory_channel[list[Step]](AHEAD)
    try:
        async with trio.open_nursery() as nursery:
            # Who waits for each step needs no batches, and is not to be told of what was only read.
            at_once = BATCH if before is None else 1
            nursery.start_soon(_read, takewhile(until.covers, beginning.steps), send, at_once)
            await _play(receive, player, before, on_batch)
    except* (RecordingError, StateError, OSError) as group:
        raise _first(group) from None
    return player.state


async def _read(
    steps: Iterator[Step], batches: trio.MemorySendChannel[list[Step]], at_once: int
) -> None:
    """Read ahead until the steps end, then close the channel.

    A batch is read without a thread: it takes milliseconds, and the player has nothing to do
    meanwhile but to wait for it.
    """
    with batches:
        while batch := list(islice(steps, at_once)):
            await batches.send(batch)


async def _play(
    batches: trio.MemoryReceiveChannel[list[Step]],
    player: Player,
    before: Before | None,
    on_batch: Callable[[], object],
) -> None:
    """Take steps until the channel ends, each when it is due."""
    with batches:
        async for batch in batches:
            for step in batch:
                if before is not None:
                    await before(step)
                    on_batch()
                player.take(step)
            on_batch()


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
