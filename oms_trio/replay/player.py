"""Play a recording: apply its inputs to the trade state again, at a chosen speed.

    reader  --batches of steps-->  player: state.apply  -->  watchers

The reader reads ahead by a bounded number of steps, so memory does not depend on the length of a
recording. Each step brings its time along; it is waited for only with a ``RecordingClock``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice, takewhile

import attrs
import trio

from oms_trio.core.state import TradeState
from oms_trio.journal.errors import StateError
from oms_trio.replay.recordings.recording import (
    PlayedStep,
    RecordedStep,
    Recording,
    RecordingError,
    Watcher,
)

BATCH = 256
"""Steps sent at once: one send costs as much as some steps."""

AHEAD = 8
"""Batches that may wait between reader and player: a few megabytes of records at most."""


BeforeStep = Callable[[RecordedStep], Awaitable[None]]


@attrs.frozen
class Until:
    """The last step to play, by time or by number; None is the end of the recording."""

    at_ns: int | None = None
    seq: int | None = None

    def covers(self, step: RecordedStep) -> bool:
        """Return whether a step is to be played."""
        if self.at_ns is not None and step.at_ns > self.at_ns:
            return False
        return self.seq is None or step.seq <= self.seq


END = Until()


async def play(
    recording: Recording,
    watchers: Sequence[Watcher] = (),
    *,
    near_ns: int | None = None,
    from_ns: int | None = None,
    until: Until = END,
    before: BeforeStep | None = None,
    on_batch: Callable[[], object] = lambda: None,
) -> TradeState:
    """Play a recording to its end, or ``until``, and return the state after that.

    It begins with the latest snapshot not after ``near_ns``, else with the first step; watchers see
    the steps from ``from_ns`` on. ``before`` is awaited before each step (see
    ``RecordingClock.wait``); without it steps are not waited for. ``on_batch`` is called now and then.

    Raises:
        RecordingError, StateError: the recording cannot be read, or a watcher rejects it.
    """
    beginning = recording.begin(near_ns)
    state = beginning.state

    def apply(step: RecordedStep) -> None:
        """Apply one step, and the answers of the exchange that the recording lacks."""
        effects = tuple(
            effect
            for event in step.journaled_input.events
            for effect in state.apply(event, step.at_ns)
        )
        if from_ns is None or step.at_ns >= from_ns:
            played = PlayedStep(step, effects, state)
            for watch in watchers:
                watch(played)
        for answer in recording.answers(effects, state, step.at_ns):
            apply(attrs.evolve(step, journaled_input=answer, outputs=None))

    send, receive = trio.open_memory_channel[list[RecordedStep]](AHEAD)
    try:
        async with trio.open_nursery() as nursery:
            # When each step is waited for, batches gain nothing, and progress must not run ahead.
            at_once = BATCH if before is None else 1
            nursery.start_soon(_read, takewhile(until.covers, beginning.steps), send, at_once)
            await _play(receive, apply, before, on_batch)
    except* (RecordingError, StateError, OSError) as group:
        raise _first(group) from None
    return state


async def _read(
    steps: Iterator[RecordedStep], batches: trio.MemorySendChannel[list[RecordedStep]], at_once: int
) -> None:
    """Read ahead until the steps end, then close the channel.

    A batch is read without a thread: it takes milliseconds, and the player only waits meanwhile.
    """
    with batches:
        while batch := list(islice(steps, at_once)):
            await batches.send(batch)


async def _play(
    batches: trio.MemoryReceiveChannel[list[RecordedStep]],
    apply: Callable[[RecordedStep], object],
    before: BeforeStep | None,
    on_batch: Callable[[], object],
) -> None:
    """Apply steps until the channel ends, each when it is due."""
    with batches:
        async for batch in batches:
            for step in batch:
                if before is not None:
                    await before(step)
                    on_batch()
                apply(step)
            on_batch()


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
