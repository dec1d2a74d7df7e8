"""Show a replay live: on the status page, in metrics, and as messages in an agent's queue.

The page, the metrics and the publisher are the service's own. They show the recorded state at the
recording's time, are marked as a replay everywhere, and accept no commands.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing

import attrs
import trio

from oms_trio.amqp.model import Broker
from oms_trio.core.events import Verb
from oms_trio.core.state import TradeState
from oms_trio.journal.worker import RunSync
from oms_trio.ops.monitor import Monitor
from oms_trio.ops.operator_commands import CommandError
from oms_trio.ops.status import ReplayProgress, Status, Store
from oms_trio.ops.web.server import listen, serve_http, url_of
from oms_trio.ops.web.site import Site
from oms_trio.replay.player import BeforeStep
from oms_trio.replay.recording_clock import RecordingClock
from oms_trio.replay.recordings.recording import (
    PlayedStep,
    RecordedStep,
    Recording,
    RecordingError,
    Watcher,
)
from oms_trio.replay.republish import Republisher, republishing
from oms_trio.replay.times import format_time
from oms_trio.settings.config import HttpAddress

Play = Callable[[Sequence[Watcher], BeforeStep], Awaitable[object]]
"""Plays the recording with these watchers; the second argument is awaited before each step."""

READ_ONLY = "this is a replay: it accepts no commands"


@attrs.define
class LiveView:
    """What a replay shows: a watcher whose ``status`` is the status page's content."""

    recording: Recording
    clock: RecordingClock
    monitor: Monitor
    broker: Broker | None = None
    republisher: Republisher | None = None
    ended: bool = False
    _state: TradeState | None = attrs.field(default=None, init=False)
    _seq: int = attrs.field(default=0, init=False)

    def __call__(self, played: PlayedStep) -> None:
        """See ``Watcher``."""
        self._state, self._seq = played.state, played.step.seq
        self.monitor.observe(played.step.journaled_input, played.effects, played.state)
        # Counting delays nothing here, and at full speed a separate task would lag.
        while self.monitor.fold():
            pass

    async def before(self, step: RecordedStep) -> None:
        """Send the messages of the previous step, and wait until this one is due."""
        if self.republisher is not None:
            await self.republisher.send()
        await self.clock.wait(step)

    def status(self) -> Status | None:
        """Return the status at this time of the recording; None before the first step."""
        return self.monitor.status(
            reasons=self._reasons(),
            okx_up=self._state is not None and self._state.sync.has_session,
            broker_up=None if self.broker is None else self.broker.connected,
            dead_man_s=None,
            store=Store(self._seq, 0 if self.republisher is None else self.republisher.waiting),
            unroutable=0 if self.broker is None else self.broker.unroutable,
            replay=ReplayProgress(
                self.recording.title, self.clock.speed, self.recording.progress(), self.ended
            ),
        )

    def _reasons(self) -> dict[str, str]:
        """A replay is never ready; when the service was not ready either, its reason follows."""
        reasons = {"replay": "a recording is played, nothing is traded"}
        if self._state is not None and not self._state.ready:
            reasons["state"] = self._state.sync.why
        return reasons


async def show_live(
    view: LiveView,
    play: Play,
    *,
    http: HttpAddress | None,
    broker: AbstractAsyncContextManager[Broker] | None,
    destination: str,
    announce: Callable[[str], object],
    run_sync: RunSync = trio.to_thread.run_sync,
) -> None:
    """Play a recording and show it: on a page at ``http``, to agents by messages on ``broker``.

    ``destination`` describes for the user where on the broker the messages go; ``announce`` prints a
    line for the user. It ends when the last step is played and the broker has confirmed all messages;
    with a page it stays until SIGINT or SIGTERM, which end it at any time.

    Raises:
        BrokerError, RecordingError, StateError: the recording cannot be read, or the page or the
            broker is not available; in exception groups.
    """
    with ExitStack() as stack:
        listener = None
        if http is not None:
            try:
                listener = listen(http.host, http.port, "--http")
            except OSError as error:
                raise RecordingError(str(error.strerror)) from None
            stack.enter_context(closing(listener))
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, view, nursery.cancel_scope, announce)
            if listener is not None and http is not None:
                nursery.start_soon(serve_http, listener, _site(view, http).app())
                announce(f"status page of the replay: {url_of(listener)}")
            async with _republishing(view, broker, destination, announce, run_sync) as watchers:
                await play([view, *watchers], view.before)
                view.ended = True
            if listener is not None:
                announce("the recording has ended; the page stays up until Ctrl-C")
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _republishing(
    view: LiveView,
    broker: AbstractAsyncContextManager[Broker] | None,
    destination: str,
    announce: Callable[[str], object],
    run_sync: RunSync,
) -> AsyncIterator[Sequence[Watcher]]:
    """Publish the messages of the block's replay, if there is a broker; yields the watchers for it."""
    if broker is None:
        yield ()
        return
    async with broker as opened:
        view.broker = opened
        announce(f"messages go to {destination}")
        async with republishing(opened, run_sync) as republisher:
            view.republisher = republisher
            yield (republisher,)
            if not opened.connected:
                announce(
                    "the broker is unavailable: the remaining messages are published when it is back; "
                    "Ctrl-C discards them"
                )
        view.broker = None  # closed on purpose, so not shown as lost
        announce(f"{republisher.published} messages were published and confirmed")


def _site(view: LiveView, address: HttpAddress) -> Site:
    async def command(_verb: Verb, _by: str) -> None:
        raise CommandError(READ_ONLY)

    return Site(
        status=view.status,
        metrics=view.monitor.metrics,
        command=command,
        failure=CommandError,
        token=None,
        host=address.host,
        without_token=READ_ONLY,
    )


async def _stop_on_signal(
    view: LiveView,
    scope: trio.CancelScope,
    announce: Callable[[str], object],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel ``scope`` on the first signal, after announcing what remains unpublished."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if not view.ended:
                now_ns = view.clock()
                announce(
                    f"stopped at {format_time(now_ns)}"
                    if now_ns
                    else "stopped before the first step"
                )
            if view.republisher is not None and view.republisher.waiting:
                announce(f"{view.republisher.waiting} messages were not published")
            scope.cancel()
            return
