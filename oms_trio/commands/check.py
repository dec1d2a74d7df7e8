"""Tests everything that the service needs, without trading, and says what to do about failures."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio
from rich.console import Console
from rich.table import Table

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.model import BrokerError, BrokerMisconfigured
from oms_trio.core.model import Rules
from oms_trio.journal.errors import JournalOfAnotherAccount, StateError
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Account
from oms_trio.okx.errors import OkxError, StepMismatchError
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import Event, OkxSession, Ready, Send
from oms_trio.okx.websocket import OkxConnection
from oms_trio.okx.wire.bodies import AccountConfig
from oms_trio.okx.wire.requests import PING
from oms_trio.okx.wire.signing import Credentials
from oms_trio.service.runtime import JOURNAL, account_of, broker_settings, connector, open_rest
from oms_trio.settings.config import Config
from oms_trio.tasks.reconciler import ensure_step

_T = TypeVar("_T")

TIMEOUT_S = 30.0

SKEW_WARN_NS = 5_000_000_000
"""The exchange rejects logins that are 30 s off; a clock that is 5 s off is not synchronized."""

ROUND_TRIP_WARN_MS = 500.0
"""The price moves in that time, and orders are sized by an older one."""

FSYNC_WARN_MS = 50.0
"""Acknowledging an action and publishing an execution wait for one fsync each."""

ACCOUNT_LEVELS = {"1": "spot", "2": "futures", "3": "multi-currency", "4": "portfolio"}

ROUND_TRIPS = 8
FSYNCS = 60
BLOCK = bytes(4096)


class CheckResult(Enum):
    """Whether the service could run; ``MISCONFIGURED``: a person has to change something first."""

    USABLE = "usable"
    FAILED = "failed"
    MISCONFIGURED = "misconfigured"


@attrs.frozen
class Finding:
    """What was tested, and the result: ok, warn or fail."""

    what: str
    result: str
    detail: str
    configuration: bool = False
    """Whether it failed because of settings, and would fail again."""


Test = Callable[[], Awaitable[Finding]]


async def check(config: Config) -> CheckResult:
    """Print the settings and the result of each test."""
    console = Console()
    _print_settings(config, console)
    findings: list[Finding] = []
    async with open_rest(config) as rest:
        # One request for both tests: the exchange allows few per account, which may be trading now.
        account_config = _once(rest.account_config)
        tests: dict[str, Test] = {
            "disk": partial(_disk, config.state_dir),
            "clock": partial(_clock, rest),
            "rest": partial(_round_trips, rest),
            "instrument": partial(_instrument, rest, config.rules()),
            "account": partial(_account, account_config),
            "state": partial(_state, config, account_config),
            "leverage": partial(_leverage, rest, config.rules()),
            "balance": partial(_balance, rest, config.rules()),
            "session": partial(_session, config, rest),
            "broker": partial(_broker, config),
        }
        for what, test in tests.items():
            findings.append(await _run_test(what, test))
    _print_findings(findings, console)
    failed = [finding for finding in findings if finding.result == "fail"]
    if any(finding.configuration for finding in failed):
        return CheckResult.MISCONFIGURED
    return CheckResult.FAILED if failed else CheckResult.USABLE


async def _run_test(what: str, test: Test) -> Finding:
    try:
        with trio.fail_after(TIMEOUT_S):
            finding = await test()
    except* (OkxError, BrokerError, StateError) as group:
        why = str(first := _first(group))
        configuration = isinstance(first, BrokerMisconfigured | JournalOfAnotherAccount)
    except* trio.TooSlowError:
        why, configuration = f"no answer within {TIMEOUT_S:.0f} s", False
    else:
        return finding
    return Finding(what, "fail", why, configuration)


def _once(request: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
    """Keep the first answer; a request that failed is repeated."""
    answers: list[_T] = []

    async def cached() -> _T:
        if not answers:
            answers.append(await request())
        return answers[0]

    return cached


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _clock(rest: Rest) -> Finding:
    offset_ns = await rest.measure_offset()
    detail = f"the exchange's clock differs by {offset_ns / 1e6:+.0f} ms from this machine's"
    if abs(offset_ns) > SKEW_WARN_NS:
        return Finding("clock", "warn", f"{detail}: synchronize this machine's (NTP)")
    return Finding("clock", "ok", detail)


async def _instrument(rest: Rest, rules: Rules) -> Finding:
    instrument = await rest.instrument()
    detail = (
        f"{instrument.inst_id} (code {instrument.inst_id_code}): {instrument.multiplier} "
        f"{instrument.inst_id.partition('-')[0]} per contract, tick {instrument.tick_sz}, "
        f"lot {instrument.lot_sz}, smallest order {instrument.min_sz}"
    )
    try:
        ensure_step(instrument, rules.step)
    except StepMismatchError as error:
        return Finding("instrument", "fail", f"{detail}; {error}", configuration=True)
    return Finding("instrument", "ok", detail)


async def _account(account_config: Callable[[], Awaitable[AccountConfig]]) -> Finding:
    config = await account_config()
    mode = "net mode" if config.net_mode else f"{config.pos_mode} (net mode will be set)"
    level = ACCOUNT_LEVELS.get(config.acct_lv, "unknown")
    detail = (
        f"{mode}, account level {config.acct_lv} ({level}), "
        f"permissions {', '.join(sorted(config.perm))}"
    )
    if not config.may_trade:
        return Finding(
            "account",
            "fail",
            f"{detail}; the key needs the permission 'trade', the account level 2 or 3",
        )
    if "withdraw" in config.perm:
        return Finding("account", "warn", f"{detail}; use a key without the permission 'withdraw'")
    return Finding("account", "ok", detail)


async def _state(config: Config, account_config: Callable[[], Awaitable[AccountConfig]]) -> Finding:
    """Compare the account of the state folder with the account of the key."""
    account = account_of(config, (await account_config()).uid)
    path = config.state_dir / JOURNAL
    if not path.exists():
        return Finding("state", "ok", f"{config.state_dir} is new and will belong to {account}")
    recorded = await trio.to_thread.run_sync(_recorded_account, path)
    if recorded is None:
        return Finding("state", "ok", f"{config.state_dir} will belong to {account}")
    if not recorded.is_same(account):
        raise JournalOfAnotherAccount(path, recorded, account)
    return Finding("state", "ok", f"{config.state_dir} belongs to {account}")


def _recorded_account(path: Path) -> Account | None:
    with Journal.open(path, create=False, read_only=True) as journal:
        return journal.account


async def _leverage(rest: Rest, rules: Rules) -> Finding:
    lever = await rest.leverage()
    if lever == rules.leverage:
        return Finding("leverage", "ok", f"{lever}")
    return Finding("leverage", "ok", f"{lever} ({rules.leverage} will be set)")


async def _balance(rest: Rest, rules: Rules) -> Finding:
    balance = await rest.balance()
    if balance is None:
        return Finding("balance", "warn", "no USDT: every action will be rejected")
    instrument, mark_px = await rest.instrument(), await rest.mark_price()
    least = rules.step * mark_px * instrument.multiplier / rules.leverage
    reach = balance.cash_bal * rules.max_margin_fraction
    detail = f"{balance.cash_bal} USDT; the smallest order needs {least:.2f} of margin"
    if reach < least:
        return Finding(
            "balance",
            "warn",
            f"{detail}, but only {reach:.2f} may be used: deposit, or lower OMS_MIN_CONTRACTS",
        )
    loss = rules.limits.max_daily_loss
    if loss is not None and loss >= balance.cash_bal:
        detail = f"{detail}; OMS_MAX_DAILY_LOSS={loss} would never trip: set it below the balance"
        return Finding("balance", "warn", detail)
    return Finding("balance", "ok", detail)


async def _round_trips(rest: Rest) -> Finding:
    took = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await rest.leverage()
        took.append((time.perf_counter() - began) * 1000)
    # The first one opens the connection.
    return _judged("rest", "round trip", took[1:], ROUND_TRIP_WARN_MS)


def _judged(what: str, name: str, took_ms: list[float], most_ms: float) -> Finding:
    """Judge durations by their 99th percentile."""
    ordered = sorted(took_ms)
    last = len(ordered) - 1
    p50, p99 = ordered[last // 2], ordered[round(last * 0.99)]
    detail = f"{name} {p50:.1f} ms, p99 {p99:.1f} ms"
    if p99 > most_ms:
        return Finding(
            what, "warn", f"{detail}: above {most_ms:.0f} ms orders and acknowledgements are late"
        )
    return Finding(what, "ok", detail)


async def _disk(folder: Path) -> Finding:
    try:
        took = await trio.to_thread.run_sync(_fsyncs, folder)
    except OSError as error:
        return Finding("disk", "fail", f"{folder} cannot be written to: {error.strerror}")
    finding = _judged("disk", "fsync", took, FSYNC_WARN_MS)
    return attrs.evolve(finding, detail=f"{folder}: {finding.detail}")


def _fsyncs(folder: Path) -> list[float]:
    """Write blocks into the state folder, and return how long each fsync takes, in ms."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(BLOCK)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return took


class _PingedSession(OkxSession):
    """A session that sets an event when a pong arrives."""

    pong: trio.Event

    def receive(self, text: str | bytes, now: float) -> tuple[Send | Event, ...]:
        if text == "pong":
            self.pong.set()
        return super().receive(text, now)


async def _session(config: Config, rest: Rest) -> Finding:
    sessions: list[_PingedSession] = []

    def make(key: Credentials, inst_id: str) -> OkxSession:
        sessions.append(_PingedSession(key, inst_id))
        return sessions[-1]

    async with connector(config, rest, make_session=make)() as connection:
        async for received in connection:
            if isinstance(received.event, Ready):
                break
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, connection)
            took = [await _ping(connection, sessions[-1]) for _ in range(ROUND_TRIPS)]
            nursery.cancel_scope.cancel()
    finding = _judged("session", "ping", took, ROUND_TRIP_WARN_MS)
    detail = f"logged in and subscribed to orders, positions and account; {finding.detail}"
    return attrs.evolve(finding, detail=detail)


async def _listen(connection: OkxConnection) -> None:
    async for _ in connection:
        pass


async def _ping(connection: OkxConnection, session: _PingedSession) -> float:
    session.pong = trio.Event()
    began = time.perf_counter()
    await connection.send(PING)
    await session.pong.wait()
    return (time.perf_counter() - began) * 1000


async def _broker(config: Config) -> Finding:
    settings = attrs.evolve(broker_settings(config), exclusive=False)  # a service may be running
    async with open_broker(settings):
        pass
    detail = f"{settings.address}: exchanges and queues are declared, actions are in {settings.action_queue}"
    return Finding("broker", "ok", detail)


def _print_settings(config: Config, console: Console) -> None:
    table = Table(title="Settings", title_justify="left", box=None)
    for name in ("name", "value", "from"):
        table.add_column(name, overflow="fold")
    for row in config.table():
        table.add_row(row.name, row.value, row.source)
    console.print(table)


def _print_findings(findings: list[Finding], console: Console) -> None:
    table = Table(title="Tests", title_justify="left", box=None)
    for name in ("test", "result", "detail"):
        table.add_column(name, overflow="fold")
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for finding in findings:
        style = styles[finding.result]
        table.add_row(finding.what, f"[{style}]{finding.result}[/]", finding.detail)
    console.print(table)
