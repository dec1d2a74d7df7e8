"""The command ``replay``: what to look at in a recording, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path

import attrs
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from oms_trio.amqp.codec import encode_publication
from oms_trio.core.effects import PublishClosure, PublishExecution, PublishRejection
from oms_trio.ops.monitor import Monitor
from oms_trio.replay.pace import Pace
from oms_trio.replay.player import Before, Until, play
from oms_trio.replay.recordings.files import open_recording
from oms_trio.replay.recordings.model import Moment, Recording, RecordingError, Watcher
from oms_trio.replay.report.page import write_page
from oms_trio.replay.report.series import Gathered
from oms_trio.replay.report.summary import Summary
from oms_trio.replay.show import (
    OneTrade,
    show_open_trade,
    show_orders,
    show_state,
    show_trade,
)
from oms_trio.replay.times import iso
from oms_trio.replay.verify import Different, Verifier, state_before
from oms_trio.replay.watched import Doors, Stage, watch


class Show(StrEnum):
    """What of the state to show."""

    STATE = "state"
    ORDERS = "orders"
    TRADE = "trade"


@attrs.frozen(kw_only=True)
class Wanted:
    """What the command was asked for. Times are Unix nanoseconds."""

    path: Path
    verify: bool = False
    from_ns: int | None = None
    until_ns: int | None = None
    speed: float | None = None
    trade: str | None = None
    show: Show | None = None
    report: Path | None = None
    messages: bool = False
    adopt: bool | None = None
    doors: Doors | None = None
    """Where others watch; None: nobody does."""


async def replay(wanted: Wanted, console: Console) -> bool:
    """Play a recording and print what was asked for; says whether it is as it was recorded.

    Raises:
        RecordingError, StateError: it cannot be read.
    """
    with open_recording(wanted.path, adopt=wanted.adopt) as recording:
        if wanted.show is not None and wanted.trade is None:
            await _look(recording, wanted, console)
            return True
        if wanted.verify:
            return await _verify(recording, wanted, console)
        await _tell(recording, wanted, console)
        return True


async def _look(recording: Recording, wanted: Wanted, console: Console) -> None:
    """Show the state at an instant, from the nearest snapshot before it on."""
    state = await play(recording, near_ns=wanted.until_ns, until=Until(wanted.until_ns))
    match wanted.show:
        case Show.ORDERS:
            console.print(show_orders(state))
        case Show.TRADE:
            console.print(show_open_trade(state))
        case _:
            console.print(show_state(state))


async def _verify(recording: Recording, wanted: Wanted, console: Console) -> bool:
    verifier = Verifier(recording.digests)
    try:
        with _progress(recording, console) as on_batch:
            await play(
                recording,
                [verifier],
                near_ns=wanted.from_ns,
                from_ns=wanted.from_ns,
                until=Until(wanted.until_ns),
                on_batch=on_batch,
            )
    except Different as error:
        console.print(f"[bold red]differs[/] after {verifier.steps - 1} matching records")
        await _explain(recording, error, console)
        return False
    console.print(
        f"the same: {verifier.steps} records, {verifier.messages} messages, "
        f"{_counted(verifier.digests_seen, 'digest')} of the state"
    )
    if others := verifier.in_other_words:
        verb = "differs" if others == 1 else "differ"
        console.print(
            f"{_counted(others, 'record')} of another release {verb} only in fields that it did not have"
        )
    if others := verifier.digests_of_others:
        verb = "was" if others == 1 else "were"
        console.print(
            f"{_counted(others, 'digest')} of another release's state {verb} not compared"
        )
    return True


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


async def _explain(recording: Recording, error: Different, console: Console) -> None:
    """Show the first difference, the input that caused it, and the state before that."""
    step = error.step
    console.print(f"{error}")
    console.print(f"recorded  {error.then}", soft_wrap=True, markup=False)
    console.print(f"now       {error.now}", soft_wrap=True, markup=False)
    console.print(f"input     {step.arrival.kind.value} at {iso(step.at_ns)}")
    for event in step.arrival.events:
        console.print(f"          {event}", soft_wrap=True, markup=False)
    console.print("state before it:")
    state = await state_before(recording, step)
    for part in (show_state(state), show_open_trade(state), show_orders(state)):
        console.print(part)


async def _tell(recording: Recording, wanted: Wanted, console: Console) -> None:
    """Play it, at a pace and watched if that is wanted, and tell what happened."""
    telling = _Telling(recording.title, wanted, console)

    async def perform(more: Sequence[Watcher], before: Before | None) -> None:
        with _progress(recording, console) as on_batch:
            await play(
                recording,
                [*telling.watchers, *more],
                from_ns=wanted.from_ns,
                near_ns=wanted.from_ns,
                until=Until(wanted.until_ns),
                before=before,
                on_batch=on_batch,
            )
        telling.conclude()

    pace = Pace(wanted.speed, wanted.from_ns)
    if wanted.doors is None:
        await perform([], None if wanted.speed is None else pace.wait)
        return
    stage = Stage(recording, pace, Monitor(recording.inst_id, pace))
    await watch(stage, perform, wanted.doors, partial(_say, console))
    if not stage.ended and telling.summary.records:
        telling.conclude()


@attrs.define
class _Telling:
    """Gathers what is to be told: the summary, or one trade, or messages; and the report."""

    title: str
    wanted: Wanted
    console: Console
    summary: Summary = attrs.Factory(Summary)
    gathered: Gathered = attrs.Factory(Gathered)
    one: OneTrade = attrs.field()

    @one.default
    def _one(self) -> OneTrade:
        return OneTrade(self.wanted.trade or "")

    @property
    def watchers(self) -> list[Watcher]:
        """Who has to see the steps."""
        chosen: list[tuple[object, Watcher]] = [
            (True, self.summary),
            (self.wanted.trade is not None, self.one),
            (self.wanted.messages, print_messages),
            (self.wanted.report is not None, self.gathered),
        ]
        return [watcher for wanted, watcher in chosen if wanted]

    def conclude(self) -> None:
        """Tell it."""
        wanted = self.wanted
        if not self.summary.records:
            raise RecordingError(f"{wanted.path}: nothing was recorded in that time")
        if wanted.report is not None:
            self.gathered.finish()
            write_page(wanted.report, self.title, self.gathered)
        if wanted.trade is not None:
            stories = self.one.stories()
            if not stories:
                raise RecordingError(f"no trade was opened or closed by {wanted.trade}")
            for story in stories:
                self.console.print(show_trade(story))
        elif not wanted.messages:
            self.console.print(self.summary.render(self.title))


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def print_messages(moment: Moment) -> None:
    """Print the messages to the agent, one JSON object a line."""
    for effect in moment.effects:
        if isinstance(effect, PublishExecution | PublishClosure | PublishRejection):
            print(encode_publication(effect).body.decode())  # noqa: T201 - what was asked for


@contextmanager
def _progress(recording: Recording, console: Console) -> Iterator[Callable[[], object]]:
    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda: bar.update(task, completed=recording.progress())
