"""The command ``replay``: play a recording and print, show or verify what was requested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path

import attrs
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from oms_trio.amqp.codec import encode_publication
from oms_trio.amqp.model import Broker
from oms_trio.core.effects import PublishClosure, PublishExecution, PublishRejection
from oms_trio.ops.monitor import Monitor
from oms_trio.replay.live_view import LiveView, show_live
from oms_trio.replay.player import BeforeStep, Until, play
from oms_trio.replay.recording_clock import RecordingClock
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import (
    PlayedStep,
    Recording,
    RecordingError,
    Watcher,
)
from oms_trio.replay.report.page import write_page
from oms_trio.replay.report.report_data import ReportData
from oms_trio.replay.report.summary import Summary
from oms_trio.replay.show import (
    TradeFinder,
    show_open_trade,
    show_orders,
    show_state,
    show_trade,
)
from oms_trio.replay.times import format_time
from oms_trio.replay.verify import MismatchError, Verifier, state_before
from oms_trio.settings.config import HttpAddress


class Show(StrEnum):
    """The parts of the state that ``--show`` prints."""

    STATE = "state"
    ORDERS = "orders"
    TRADE = "trade"


@attrs.frozen(kw_only=True)
class ReplayOptions:
    """The options of the command; times are Unix nanoseconds.

    ``speed`` is that of ``RecordingClock``, ``all_orders`` that of ``FramesRecording``; ``http``,
    ``broker`` and ``destination`` are those of ``show_live``.
    """

    path: Path
    verify: bool = False
    from_ns: int | None = None
    until_ns: int | None = None
    speed: float | None = None
    trade: str | None = None
    show: Show | None = None
    report: Path | None = None
    messages: bool = False
    all_orders: bool | None = None
    http: HttpAddress | None = None
    broker: AbstractAsyncContextManager[Broker] | None = None
    destination: str = ""


async def replay(options: ReplayOptions, console: Console) -> bool:
    """Play a recording and print what was requested; False when ``verify`` found a difference.

    Raises:
        RecordingError, StateError: the recording cannot be read.
    """
    with open_recording(options.path, all_orders=options.all_orders) as recording:
        if options.show is not None and options.trade is None:
            await _show_state(recording, options, console)
        elif options.verify:
            return await _verify(recording, options, console)
        else:
            await _play(recording, options, console)
        return True


async def _show_state(recording: Recording, options: ReplayOptions, console: Console) -> None:
    """Print the state at an instant, played from the nearest snapshot before it."""
    state = await play(recording, near_ns=options.until_ns, until=Until(options.until_ns))
    match options.show:
        case Show.ORDERS:
            console.print(show_orders(state))
        case Show.TRADE:
            console.print(show_open_trade(state))
        case _:
            console.print(show_state(state))


async def _verify(recording: Recording, options: ReplayOptions, console: Console) -> bool:
    verifier = Verifier(recording.digests)
    try:
        await _play_with_progress(recording, options, console, [verifier])
    except MismatchError as error:
        console.print(
            f"[bold red]differs[/] after {_counted(verifier.steps - 1, 'matching record')}"
        )
        await _explain(recording, error, console)
        return False
    console.print(
        f"verified: {_counted(verifier.steps, 'record')}, {_counted(verifier.outputs, 'output')}, "
        f"{_counted(verifier.digests_compared, 'state digest')}"
    )
    if count := verifier.equivalent:
        verb = "matches" if count == 1 else "match"
        console.print(
            f"{_counted(count, 'record')} of another release {verb}, apart from texts and from what "
            "reaches neither the agent nor an order"
        )
    if count := verifier.digests_skipped:
        verb = "was" if count == 1 else "were"
        console.print(f"{_counted(count, 'state digest')} of another release {verb} not compared")
    return True


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


async def _explain(recording: Recording, error: MismatchError, console: Console) -> None:
    """Print the first difference, the input that caused it, and the state before that."""
    step = error.step
    console.print(f"{error}")
    console.print(f"recorded  {error.recorded}", soft_wrap=True, markup=False)
    console.print(f"now       {error.replayed}", soft_wrap=True, markup=False)
    console.print(f"input     {step.journaled_input.kind.value} at {format_time(step.at_ns)}")
    for event in step.journaled_input.events:
        console.print(f"          {event}", soft_wrap=True, markup=False)
    console.print("state before it:")
    state = await state_before(recording, step)
    for part in (show_state(state), show_open_trade(state), show_orders(state)):
        console.print(part)


async def _play(recording: Recording, options: ReplayOptions, console: Console) -> None:
    """Play the recording, live if requested, and print the results."""
    results = _Results(options, recording.title, console)

    async def play_with(more: Sequence[Watcher], before: BeforeStep | None) -> None:
        await _play_with_progress(recording, options, console, [*results.watchers(), *more], before)
        results.print()

    clock = RecordingClock(options.speed, options.from_ns)
    if options.http is None and options.broker is None:
        await play_with([], None if options.speed is None else clock.wait)
        return
    view = LiveView(recording, clock, Monitor(recording.inst_id, clock))
    await show_live(
        view,
        play_with,
        http=options.http,
        broker=options.broker,
        destination=options.destination,
        announce=partial(console.print, soft_wrap=True, markup=False, highlight=False),
    )
    if not view.ended and results.summary.records:
        results.print()


async def _play_with_progress(
    recording: Recording,
    options: ReplayOptions,
    console: Console,
    watchers: Sequence[Watcher],
    before: BeforeStep | None = None,
) -> None:
    """Play the chosen time of a recording with a progress bar."""
    with _progress(recording, console) as on_batch:
        await play(
            recording,
            watchers,
            near_ns=options.from_ns,
            from_ns=options.from_ns,
            until=Until(options.until_ns),
            before=before,
            on_batch=on_batch,
        )


@attrs.define
class _Results:
    """What the command prints after a replay: the summary, or one trade; and the report."""

    options: ReplayOptions
    title: str
    console: Console
    summary: Summary = attrs.Factory(Summary)
    report: ReportData = attrs.Factory(ReportData)
    finder: TradeFinder = attrs.Factory(
        lambda self: TradeFinder(self.options.trade or ""), takes_self=True
    )

    def watchers(self) -> Iterator[Watcher]:
        """Yield the watchers that the options need."""
        yield self.summary
        if self.options.trade is not None:
            yield self.finder
        if self.options.messages:
            yield print_messages
        if self.options.report is not None:
            yield self.report

    def print(self) -> None:
        """Print and write what was requested."""
        options = self.options
        if not self.summary.records:
            raise RecordingError(
                f"{options.path} has no records in the chosen time: change --from or --until"
            )
        if options.report is not None:
            self.report.finish()
            write_page(options.report, self.title, self.report)
        if options.trade is not None:
            self._print_trades(options.trade)
        elif not options.messages:
            self.console.print(self.summary.render(self.title))

    def _print_trades(self, ord_id: str) -> None:
        trades = self.finder.trades()
        if not trades:
            raise RecordingError(
                f"no trade was opened or closed by the order {ord_id}; "
                f"`oms-trio export {self.options.path} --what trades` lists them"
            )
        for trade in trades:
            self.console.print(show_trade(trade))


def print_messages(played: PlayedStep) -> None:
    """Print the messages to the agent, one JSON object per line; a watcher."""
    for effect in played.effects:
        if isinstance(effect, PublishExecution | PublishClosure | PublishRejection):
            print(encode_publication(effect).body.decode())  # noqa: T201 - the command's output


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
