"""A replay that can be watched from outside: status page, metrics, and an agent's queue.

The page, the metrics and the publisher are the service's own. They see the recording's state at the
recording's time; nothing on them steers, and everything on them says that it is a replay.
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
from oms_trio.ops.operator_commands import NotObeyedError
from oms_trio.ops.status import Replay, Status, Store
from oms_trio.ops.web.server import listen, serve_http, url_of
from oms_trio.ops.web.site import Site
from oms_trio.replay.pace import Pace
from oms_trio.replay.player import Before
from oms_trio.replay.recordings.model import Moment, Recording, RecordingError, Step, Watcher
from oms_trio.replay.relay import Relay, relaying
from oms_trio.replay.times import iso
from oms_trio.settings.config import HttpAddress

Perform = Callable[[Sequence[Watcher], Before], Awaitable[object]]
"""Plays the recording with these watchers, awaiting something before each step."""

READ_ONLY = "this is a replay: there is nothing to steer"


@attrs.frozen(kw_only=True)
class Doors:
    """Where a replay can be watched; ``where`` says for a person where the broker's messages go."""

    http: HttpAddress | None = None
    broker: AbstractAsyncContextManager[Broker] | None = None
    where: str = ""


@attrs.define
class Stage:
    """What a replay shows: as a watcher it sees each step, ``status`` tells how things are."""

    recording: Recording
    pace: Pace
    monitor: Monitor
    broker: Broker | None = None
    relay: Relay | None = None
    ended: bool = False
    _state: TradeState | None = attrs.field(default=None, init=False)
    _seq: int = attrs.field(default=0, init=False)

    def __call__(self, moment: Moment) -> None:
        """See ``Watcher``."""
        self._state, self._seq = moment.state, moment.step.seq
        self.monitor.observe(moment.step.arrival, moment.effects, moment.state)
        # Here counting holds nobody up, and at full speed a task of its own would come too late.
        while self.monitor.fold():
            pass

    async def before(self, step: Step) -> None:
        """Let go what the step before has told, and wait for this one."""
        if self.relay is not None:
            await self.relay.send()
        await self.pace.wait(step)

    def status(self) -> Status | None:
        """Say how everything was; None before the first step."""
        return self.monitor.status(
            reasons=self._reasons(),
            okx_up=self._state is not None and self._state.sync.has_session,
            broker_up=None if self.broker is None else self.broker.connected,
            dead_man_s=None,
            store=Store(self._seq, 0 if self.relay is None else self.relay.waiting),
            unroutable=0 if self.broker is None else self.broker.unroutable,
            replay=Replay(
                self.recording.title, self.pace.speed, self.recording.progress(), self.ended
            ),
        )

    def _reasons(self) -> dict[str, str]:
        """Nothing is ever ready in a replay; why the service then was not, comes behind that."""
        reasons = {"replay": "a recording is played, nothing is traded"}
        if self._state is not None and not self._state.ready:
            reasons["state"] = self._state.sync.why
        return reasons


async def watch(
    stage: Stage,
    perform: Perform,
    doors: Doors,
    say: Callable[[str], object],
    *,
    run_sync: RunSync = trio.to_thread.run_sync,
) -> None:
    """Play while others watch.

    It ends with the recording when the broker has confirmed what was told; with a page it stays
    up until SIGINT or SIGTERM, which end it at any time. ``say`` is told what a user has to know.

    Raises:
        BrokerError, RecordingError, StateError: it cannot be played, or not there; in groups.
    """
    with ExitStack() as stack:
        listener = None
        if doors.http is not None:
            try:
                listener = listen(doors.http.host, doors.http.port, "--http")
            except OSError as error:
                raise RecordingError(str(error.strerror)) from None
            stack.enter_context(closing(listener))
        async with trio.open_nursery() as nursery:
            everything = nursery.cancel_scope
            await nursery.start(_leave_on_signal, stage, everything, say)
            if listener is not None and doors.http is not None:
                nursery.start_soon(serve_http, listener, _site(stage, doors.http).app())
                say(f"status page of the replay: {url_of(listener)}")
            async with _connected(stage, doors, say, run_sync) as listeners:
                await perform([stage, *listeners], stage.before)
                stage.ended = True
            if listener is not None:
                say("the recording is over; the page stays up until Ctrl-C")
                await trio.sleep_forever()
            everything.cancel()


@asynccontextmanager
async def _connected(
    stage: Stage, doors: Doors, say: Callable[[str], object], run_sync: RunSync
) -> AsyncIterator[Sequence[Watcher]]:
    """Publish what the block's watchers are told, if there is a broker."""
    if doors.broker is None:
        yield ()
        return
    async with doors.broker as broker:
        say(f"messages go to {doors.where}")
        stage.broker = broker
        async with relaying(broker, run_sync) as relay:
            stage.relay = relay
            yield (relay,)
            if not broker.connected:
                say("the broker is away: what is left goes out when it is back, Ctrl-C gives it up")
        stage.broker = None  # left on purpose, so not shown as lost
        say(f"{relay.published} messages are published and confirmed")


def _site(stage: Stage, address: HttpAddress) -> Site:
    async def command(_verb: Verb, _by: str) -> None:
        raise NotObeyedError(READ_ONLY)

    return Site(
        status=stage.status,
        metrics=stage.monitor.metrics,
        command=command,
        failure=NotObeyedError,
        token=None,
        host=address.host,
        shows_only=READ_ONLY,
    )


async def _leave_on_signal(
    stage: Stage,
    everything: trio.CancelScope,
    say: Callable[[str], object],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """End it all by the first signal, and say what remains undone."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if not stage.ended:
                now_ns = stage.pace()
                say(f"stopped at {iso(now_ns)}" if now_ns else "stopped before the first step")
            if stage.relay is not None and stage.relay.waiting:
                say(f"{stage.relay.waiting} messages were not published")
            everything.cancel()
            return
