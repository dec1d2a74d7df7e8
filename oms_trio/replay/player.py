"""The recorded inputs again, through a channel into the same trade state, at a chosen pace.

    reader  --batches of steps-->  player: state.apply  -->  watchers

The reader reads ahead by a bounded number of steps, so memory does not depend on the length of a
recording. Time comes with each step: without a pace (``pace``) the clock jumps to the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice, takewhile

import attrs
import trio

from oms_trio.core.state import TradeState
from oms_trio.journal.errors import StateError
from oms_trio.replay.recordings.model import (
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


@attrs.frozen
class Until:
    """Where to stop: after a time or after a step; None is the end."""

    at_ns: int | None = None
    seq: int | None = None

    def covers(self, step: Step) -> bool:
        """Return whether a step is still to be taken."""
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

    def take(self, step: Step) -> None:
        """Apply one step, and what the exchange would have answered to it."""
        effects = tuple(
            effect
            for event in step.arrival.events
            for effect in self.state.apply(event, step.at_ns)
        )
        if self.from_ns is None or step.at_ns >= self.from_ns:
            moment = Moment(step, effects, self.state)
            for watch in self.watchers:
                watch(moment)
        for arrival in self.recording.answers(effects, self.state, step.at_ns):
            self.take(attrs.evolve(step, arrival=arrival, outputs=None))


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
    """Play a recording to its end or ``until`` and return the state after it.

    It begins at the recording's last known state not past ``near_ns``, else at the beginning;
    watchers see what comes from ``from_ns`` on. ``before`` is awaited before each step (see
    ``Pace.wait``); without it all goes as fast as it can. ``on_batch`` is called now and then.

    Raises:
        RecordingError, StateError: the recording cannot be read, or a watcher stops it.
    """
    beginning = recording.begin(near_ns)
    player = Player(beginning.state, recording, watchers, from_ns)
    send, receive = trio.open_memory_channel[list[Step]](AHEAD)
    try:
        async with trio.open_nursery() as nursery:
            # With a wait for each step batches have no use, and steps that are only read must not count.
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
