"""What runs beside a service for its operator: status page, control socket, systemd, dead man's switch.

They observe the service and send it commands. One that crashes is logged and restarted; trading is
not affected.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import attrs
import structlog
import trio

from oms_trio.amqp.model import Broker
from oms_trio.journal.worker import JournalWorker
from oms_trio.okx.pending_requests import PendingRequests
from oms_trio.okx.rest import Rest
from oms_trio.ops.control.protocol import SOCKET
from oms_trio.ops.control.protocol import listen as listen_for_control
from oms_trio.ops.control.server import serve_control
from oms_trio.ops.monitor import Monitor
from oms_trio.ops.operator_commands import CommandError, OperatorCommands
from oms_trio.ops.status import Status, Store, encode_status
from oms_trio.ops.systemd import Notifier
from oms_trio.ops.watchdog import Watchdog
from oms_trio.ops.web.server import listen as listen_for_http
from oms_trio.ops.web.server import serve_http, url_of
from oms_trio.ops.web.site import Site
from oms_trio.service.channels import Inbox
from oms_trio.service.intake_gate import Gate
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.settings.config import Config
from oms_trio.tasks.deadman import DeadMan, keep_armed
from oms_trio.tasks.trade_state import Observer

log = structlog.get_logger()

AGAIN_S = 5.0
"""Pause before a crashed task is restarted."""

OUTBOX_EVERY_S = 5.0
"""Counting the outbox reads the disk, so it is not done for every status."""

NOTIFY_EVERY_S = 1.0


@attrs.define
class Operations:
    """The operator's side of one service."""

    config: Config
    notifier: Notifier
    control: socket.socket
    http: socket.socket | None
    monitor: Monitor
    watchdog: Watchdog
    dead_man: DeadMan = attrs.Factory(DeadMan)
    outbox: int = 0

    @property
    def url(self) -> str | None:
        """Where the status page is."""
        return None if self.http is None else url_of(self.http)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """What the trade-state task calls after each input."""
        return (self.watchdog.observe, self.monitor.observe)

    def started(self) -> None:
        """Notify the supervisor that the state is reconciled and actions are taken."""
        self.notifier.notify("READY=1", "STATUS=taking actions")

    async def run(
        self,
        inbox: Inbox,
        gate: Gate,
        requests: PendingRequests,
        *,
        rest: Rest,
        broker: Broker,
        disk: JournalWorker,
        stop: trio.Event,
    ) -> None:
        """Run beside the service until cancelled."""
        commands = OperatorCommands(inbox)

        def status() -> Status | None:
            return self.monitor.status(
                reasons=gate.reasons,
                okx_up=requests.connection is not None,
                broker_up=broker.connected,
                dead_man_s=self.dead_man.left_s(),
                store=Store(disk.journal.last_seq, self.outbox),
                unroutable=broker.unroutable,
            )

        async with trio.open_nursery() as nursery:

            def start(name: str, part: Callable[[], Awaitable[None]]) -> None:
                nursery.start_soon(_restarted, name, part)

            start("monitor", self.monitor.watch)
            start("outbox", partial(self._count_outbox, disk))
            start("supervisor", partial(self._notify_supervisor, status, stop))
            control = partial(
                serve_control,
                self.control,
                status=partial(_encoded, status),
                command=commands.command,
                failure=CommandError,
            )
            start("control", control)
            if self.http is not None:
                start("http", partial(serve_http, self.http, self._site(status, commands).app()))
            if self.config.dead_man_s is not None:
                switch = partial(
                    keep_armed,
                    self.dead_man,
                    rest=rest,
                    gate=gate,
                    timeout_s=self.config.dead_man_s,
                    tag=self.config.order_tag,
                    stop=stop,
                )
                start("dead_man", switch)

    def _site(self, status: Callable[[], Status | None], commands: OperatorCommands) -> Site:
        token, address = self.config.http_token, self.config.http
        assert address is not None
        return Site(
            status=status,
            metrics=self.monitor.metrics,
            command=commands.command,
            failure=CommandError,
            token=None if token is None else token.reveal(),
            host=address.host,
        )

    async def _count_outbox(self, disk: JournalWorker) -> None:
        while True:
            self.outbox = await disk.run(disk.journal.outbox_size)
            await trio.sleep(OUTBOX_EVERY_S)

    async def _notify_supervisor(
        self, status: Callable[[], Status | None], stop: trio.Event
    ) -> None:
        """Send the supervisor the status line whenever it has changed."""
        sent = ""
        while not stop.is_set():
            now = status()
            if now is not None and now.line != sent:
                sent = now.line
                self.notifier.notify(f"STATUS={sent}")
            with trio.move_on_after(NOTIFY_EVERY_S):
                await stop.wait()
        self.notifier.notify("STOPPING=1", "STATUS=stopping: finishing what is in flight")


def _encoded(status: Callable[[], Status | None]) -> bytes | None:
    now = status()
    return None if now is None else encode_status(now)


async def _restarted(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """Run a task, and restart it if it crashes; ends with the task, or by cancellation."""
    while True:
        try:
            await part()
        except Exception:
            log.exception("sidecar_task_failed", task=name, retry_in_s=AGAIN_S)
            await trio.sleep(AGAIN_S)
        else:
            return


@contextmanager
def open_operations(config: Config, clock: Clock = system_clock) -> Iterator[Operations]:
    """Open the sockets before the service starts; the caller holds the lock of the state folder.

    Raises:
        OSError: an address cannot be used.
    """
    with ExitStack() as stack:
        control = stack.enter_context(closing(listen_for_control(config.state_dir)))
        stack.callback((config.state_dir / SOCKET).unlink, missing_ok=True)
        http = None
        if config.http is not None:
            http = stack.enter_context(closing(listen_for_http(*attrs.astuple(config.http))))
        notifier = stack.enter_context(closing(Notifier.from_environ(os.environ)))
        yield Operations(
            config=config,
            notifier=notifier,
            control=control,
            http=http,
            monitor=Monitor(config.instrument, clock, can_control=config.http_token is not None),
            watchdog=Watchdog(notifier),
        )
