"""Tries everything that the service needs, without trading, and says what to do about failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio
from rich.console import Console
from rich.table import Table

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.model import BrokerError
from oms_trio.config import Config
from oms_trio.core.model import Rules
from oms_trio.live import broker_settings, connector, open_rest
from oms_trio.okx.errors import OkxError
from oms_trio.okx.rest import Rest
from oms_trio.okx.session import Ready

PATIENCE_S = 30.0

SKEW_WARN_NS = 5_000_000_000
"""The exchange refuses logins that are 30 s off; a clock that is 5 s off is not kept."""


@attrs.frozen
class Finding:
    """What was tried, and what came of it: ok, warn or fail."""

    what: str
    result: str
    detail: str


Test = Callable[[], Awaitable[Finding]]


async def check(config: Config) -> bool:
    """Print the settings and what was tried; returns whether the service could run."""
    console = Console()
    _print_settings(config, console)
    findings: list[Finding] = []
    async with open_rest(config) as rest:
        tests: dict[str, Test] = {
            "clock": partial(_clock, rest),
            "instrument": partial(_instrument, rest, config.rules()),
            "account": partial(_account, rest, config.rules()),
            "session": partial(_session, config, rest),
            "broker": partial(_broker, config),
        }
        for what, test in tests.items():
            findings.append(await _tried(what, test))
    _print_findings(findings, console)
    return all(finding.result != "fail" for finding in findings)


async def _tried(what: str, test: Test) -> Finding:
    try:
        with trio.fail_after(PATIENCE_S):
            return await test()
    except (OkxError, BrokerError) as error:
        return Finding(what, "fail", str(error))
    except trio.TooSlowError:
        return Finding(what, "fail", f"no answer in {PATIENCE_S:.0f} s")


async def _clock(rest: Rest) -> Finding:
    offset_ns = await rest.measure_offset()
    detail = f"the exchange is {offset_ns / 1e6:+.0f} ms from this machine"
    if abs(offset_ns) > SKEW_WARN_NS:
        return Finding("clock", "warn", f"{detail}: set the clock (NTP)")
    return Finding("clock", "ok", detail)


async def _instrument(rest: Rest, rules: Rules) -> Finding:
    instrument = await rest.instrument()
    detail = (
        f"{instrument.inst_id} (code {instrument.inst_id_code}): {instrument.multiplier} BTC per "
        f"contract, tick {instrument.tick_sz}, lot {instrument.lot_sz}, least {instrument.min_sz}"
    )
    if rules.step % instrument.lot_sz or rules.step < instrument.min_sz:
        advice = f"OMS_MIN_CONTRACTS={rules.step} must be a multiple of the lot"
        return Finding("instrument", "fail", f"{detail}; {advice}")
    return Finding("instrument", "ok", detail)


async def _account(rest: Rest, rules: Rules) -> Finding:
    config = await rest.account_config()
    lever = await rest.leverage()
    balance = await rest.balance()
    mode = "net mode" if config.net_mode else f"{config.pos_mode}, net mode will be set"
    leverage = f"leverage {lever}" + ("" if lever == rules.leverage else f" -> {rules.leverage}")
    cash = "no USDT" if balance is None else f"{balance.cash_bal} USDT"
    detail = f"{mode}, {leverage}, {cash}, permissions {', '.join(sorted(config.perm))}"
    if not config.may_trade:
        return Finding(
            "account", "fail", f"{detail}; the key needs 'trade', the account level 2 or 3"
        )
    if "withdraw" in config.perm:
        return Finding("account", "warn", f"{detail}; use a key that may not withdraw")
    return Finding("account", "ok", detail)


async def _session(config: Config, rest: Rest) -> Finding:
    async with connector(config, rest)() as link:
        async for heard in link:
            if isinstance(heard.event, Ready):
                break
    return Finding("session", "ok", "logged in, orders, positions and account subscribed")


async def _broker(config: Config) -> Finding:
    settings = broker_settings(config)
    async with open_broker(settings):
        pass
    detail = (
        f"{settings.address}: exchanges and queues declared, actions in {settings.action_queue}"
    )
    return Finding("broker", "ok", detail)


def _print_settings(config: Config, console: Console) -> None:
    table = Table(title="Settings", title_justify="left", box=None)
    for name in ("name", "value", "from"):
        table.add_column(name, overflow="fold")
    for row in config.table():
        table.add_row(row.name, row.value, row.source)
    console.print(table)


def _print_findings(findings: list[Finding], console: Console) -> None:
    table = Table(title="Tried", title_justify="left", box=None)
    for name in ("what", "result", "detail"):
        table.add_column(name, overflow="fold")
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for finding in findings:
        style = styles[finding.result]
        table.add_row(finding.what, f"[{style}]{finding.result}[/]", finding.detail)
    console.print(table)
