"""The service as it runs for real: built from settings, watched for signals."""

from __future__ import annotations

import gc
import secrets
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom
from urllib.parse import urlsplit

import httpx
import structlog
import trio

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.codec import ActionLayout
from oms_trio.amqp.model import Broker, BrokerUnroutable, Outgoing
from oms_trio.amqp.settings import ACTION_KEY, BrokerSettings
from oms_trio.journal.journal import Journal
from oms_trio.journal.lock import StateLock
from oms_trio.journal.model import Account
from oms_trio.journal.worker import JournalWorker, open_journal_thread
from oms_trio.okx.rate_limits import OKX_LIMITS, OrderLimits
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import OkxSession
from oms_trio.okx.websocket import OkxConnection, open_okx_connection
from oms_trio.okx.wire.signing import Credentials
from oms_trio.ops.latency import TimedBroker, timed_commits
from oms_trio.ops.sidecar import open_operations
from oms_trio.service.app import run_service
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.recovery import recover
from oms_trio.settings.clock import Clock, service_clock, system_clock
from oms_trio.settings.config import Config
from oms_trio.settings.cpu import one_cpu
from oms_trio.tasks.ticker import QUIET_S
from oms_trio.tasks.trade_state import Observer

log = structlog.get_logger()

JOURNAL = "journal.sqlite"

YOUNG_OBJECTS = 20_000
"""Objects more than before until a collection: a millisecond or two of it, every few thousand
actions; whatever cycles hold until then is some megabytes."""

REST_TIMEOUT_S = 10.0
REST_CONNECTIONS = 24
"""Twice what look-ups take at once (``tasks.reconciler.LOOK_UPS``): the rest is for snapshots, the
operator and emergencies, which must not wait for hundreds of them."""


def broker_settings(config: Config) -> BrokerSettings:
    """Take what the broker's side needs from the settings."""
    return BrokerSettings(
        host=config.rabbitmq_host,
        port=config.rabbitmq_port,
        user=config.rabbitmq_user,
        password=config.rabbitmq_pass.reveal(),
        vhost=config.rabbitmq_vhost,
        tls=config.rabbitmq_tls,
        ca_file=config.rabbitmq_ca_file,
        action_exchange=config.action_exchange,
        action_queue=config.action_queue,
        execution_exchange=config.execution_exchange,
        dead_letter_exchange=config.dead_letter_exchange,
        dead_letter_queue=config.dead_letter_queue,
        message_ttl_ms=config.max_action_age_ns // 1_000_000,
        prefetch=config.prefetch,
    )


def account_of(config: Config, uid: str) -> Account:
    """Return the account that a state folder belongs to, given its number at the exchange."""
    return Account(uid, urlsplit(config.okx_rest_url).hostname or "", config.okx_demo)


def credentials(config: Config) -> Credentials:
    """Take the API key from the settings.

    Raises:
        ConfigError: it is not set.
    """
    key, secret, passphrase = config.okx_secrets()
    return Credentials(key.reveal(), secret.reveal(), passphrase.reveal())


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


@asynccontextmanager
async def open_rest(config: Config, clock: Clock = system_clock) -> AsyncIterator[Rest]:
    """Open the REST side of the exchange."""
    async with httpx.AsyncClient(
        base_url=config.okx_rest_url,
        verify=_tls(config.okx_ca_file),
        timeout=REST_TIMEOUT_S,
        limits=httpx.Limits(max_connections=REST_CONNECTIONS),
        # A proxy of the environment would see the key; this client talks to the exchange only.
        trust_env=False,
    ) as client:
        yield Rest(
            client,
            credentials(config),
            clock,
            inst_id=config.instrument,
            demo=config.okx_demo,
        )


def connector(
    config: Config,
    rest: Rest,
    clock: Clock = system_clock,
    make_session: Callable[[Credentials, str], OkxSession] | None = None,
) -> Callable[[], AbstractAsyncContextManager[OkxConnection]]:
    """Return what opens one private session after the other."""
    key, tls = credentials(config), _tls(config.okx_ca_file)

    def trading(key: Credentials, inst_id: str) -> OkxSession:
        return OkxSession(key, inst_id, config.order_tag, rest.ignored_rows)

    def connect() -> AbstractAsyncContextManager[OkxConnection]:
        session = (make_session or trading)(key, config.instrument)
        return open_okx_connection(
            config.okx_ws_url, session, clock, offset_ns=rest.offset_ns, ssl_context=tls
        )

    return connect


async def serve(
    config: Config,
    *,
    broker: AbstractAsyncContextManager[Broker] | None = None,
    stop: trio.Event | None = None,
    started: Callable[[], object] | None = None,
    observers: Sequence[Observer] = (),
    limits: OrderLimits = OKX_LIMITS,
    listening: Callable[[str], object] | None = None,
) -> None:
    """Run the service until SIGTERM, SIGINT or ``stop``.

    ``broker`` replaces RabbitMQ (the demo's is in memory), ``limits`` the exchange's rate limits;
    ``listening`` is called with the address of the status page, ``started`` when actions are taken
    for the first time.

    Raises:
        ConfigError: a credential is missing.
        StateError, BrokerError, OkxError: why it cannot start or go on; they come in exception
            groups.
        OSError: the address of the status page cannot be used.
    """
    context = DecodeContext(config.instrument, config.order_tag)
    stop = trio.Event() if stop is None else stop
    begun = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        nursery.start_soon(_cancel_start, stop, begun, nursery.cancel_scope)
        with (
            StateLock.acquire(config.state_dir),
            Journal.open(config.state_dir / JOURNAL) as journal,
            ExitStack() as stack,
        ):
            if config.one_cpu:
                stack.enter_context(one_cpu())
            recovered = recover(journal, config.rules(), context)
            state = recovered.state
            clock = service_clock(recovered.at_ns)
            log.info(
                "state_recovered",
                seq=recovered.seq,
                position=state.book.position,
                paused=state.risk.paused,
            )
            operations = stack.enter_context(open_operations(config, clock))
            if operations.url is not None:
                log.info("http_listening", url=operations.url)
                if listening is not None:
                    listening(operations.url)
            async with (
                broker or open_broker(broker_settings(config)) as open_side,
                open_rest(config, clock) as rest,
                open_journal_thread() as run_sync,
            ):
                begun.set()
                timed = TimedBroker(open_side, operations.monitor.confirmed)
                disk = JournalWorker(journal, timed_commits(run_sync, operations.monitor.committed))

                def on_started() -> None:
                    operations.started()
                    log.info("ready", instrument=config.instrument, queue=config.action_queue)
                    if started is not None:
                        started()

                _tune_interpreter()
                await run_service(
                    recovered,
                    broker=timed,
                    rest=rest,
                    connect=connector(config, rest, clock),
                    disk=disk,
                    rules=config.rules(),
                    context=context,
                    max_retries=config.max_retries,
                    random=SystemRandom(),
                    stop=stop,
                    on_started=on_started,
                    keep_ns=config.journal_keep_ns,
                    clock=clock,
                    observers=(*operations.observers, *observers),
                    sidecar=partial(operations.run, rest=rest, broker=timed, disk=disk, stop=stop),
                    on_account=lambda uid: journal.stamp(account_of(config, uid)),
                    limits=limits,
                    layout=ActionLayout(config.action_layout),
                    # The watchdog is notified at ticks.
                    quiet_s=min(QUIET_S, operations.notifier.keep_alive_s),
                )
        nursery.cancel_scope.cancel()
    log.info("stopped")


def _tune_interpreter() -> None:
    """Keep the interpreter from holding an order or a fill up; called when all is set up."""
    # A full collection walks over everything that was imported: 174 ms every few thousand
    # actions, 20 ms without. What is there now stays for good, so nobody needs to look at it.
    gc.collect()
    gc.freeze()
    # Hot objects are in no cycles: they go when nobody needs them any more, and the collector only
    # looks at what is on its way. By default it does so every 700 objects, which is in every tenth
    # action, for 0.1 to 1 ms.
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


async def send_action(config: Config, body: bytes) -> str:
    """Publish one action and wait for the broker's confirm; returns its ``message_id``.

    Raises:
        BrokerError: it could not be published, or no queue has taken it.
    """
    message_id = secrets.token_hex(16)
    async with open_broker(broker_settings(config).for_agent(message_id)) as broker:
        await broker.publish([Outgoing(message_id, ACTION_KEY, body)])
        if broker.unroutable:
            raise BrokerUnroutable(
                f"no queue is bound to {config.action_exchange} with {ACTION_KEY}: nobody gets the "
                "action; start the service once, it declares its queue, or check "
                "OMS_ACTION_EXCHANGE and RABBITMQ_VHOST"
            )
    return message_id


async def _watch_signals(
    stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stop`` on SIGTERM or SIGINT; a second signal ends the process at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                raise KeyboardInterrupt
            log.info("stopping", signal=signal.Signals(number).name)
            stop.set()


async def _cancel_start(stop: trio.Event, begun: trio.Event, everything: trio.CancelScope) -> None:
    """Cancel a start when ``stop`` is set before it has ended: a broker may keep it waiting for long."""
    await stop.wait()
    if not begun.is_set():
        everything.cancel()
