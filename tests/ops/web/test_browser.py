"""The status page in a real browser, while orders come and go."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ops.web.browser import Tab, browser
from tests.service.programs import environment, running
from tests.service.station import serving

TOKEN = "a-token-of-the-test"
KEPT = os.environ.get("SCREENSHOTS")
"""A folder to keep pictures in, to look at."""


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browser(tmp_path / "chromium") as opened:
        yield opened
        assert not opened.errors


def text(name: str) -> str:
    """The text of an element; undefined while the page is loading."""
    return f"document.getElementById('{name}')?.textContent"


async def test_values_appear_and_change_while_the_demo_runs(tab: Tab, tmp_path: Path) -> None:
    env = environment(tmp_path)
    demo = ("demo", "--http", "--seconds", "60", "--seed", "3")
    with running(*demo, env=env, output=tmp_path / "log") as program:
        program.wait_for(r"status page: \S+\n")
        await tab.open(re.findall(r"status page: (\S+)", program.text)[0])
        await tab.until(f"{text('state')} === 'taking actions'")
        assert await tab.value(text("instrument")) == "BTC-USDT-SWAP"
        orders = f"Number({text('counts')}.match(/orders(\\d+)/)?.[1])"
        first = await tab.until(orders)
        await tab.until(f"{orders} > {first} + 5")
        await tab.until("document.querySelectorAll('#orders .bar').length > 2")
        await tab.until("document.querySelectorAll('#latest tr').length > 3")
        await tab.until("document.querySelectorAll('polyline[points*=\" \"]').length >= 5")
        await tab.until(f"{text('trade')} !== 'flat'")
        for name, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            for dark in (False, True):
                await tab.resize(width, height, dark=dark)
                await tab.until(f"innerWidth === {width}")
                wide = await tab.value("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name}: it must not scroll sideways"
                if KEPT:
                    scheme = "dark" if dark else "light"
                    await tab.screenshot(Path(KEPT) / f"{name}-{scheme}.png")
        program.process.send_signal(signal.SIGINT)
        program.ended()


async def test_a_page_shows_that_its_service_is_gone(tab: Tab, tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        await tab.open(station.url)
        await tab.until(f"{text('state')} === 'taking actions'")
    await tab.until(f"{text('state')}?.startsWith('unknown')")
    tab.errors.clear()  # the browser reports that the connection was refused


async def test_without_a_token_the_page_has_no_commands(tab: Tab, tmp_path: Path) -> None:
    async with serving(tmp_path) as station:
        await tab.open(station.url)
        await tab.until(f"{text('state')} === 'taking actions'")
        assert await tab.value("document.getElementById('steer').hidden")


async def test_commands_work_with_the_keyboard_and_the_token(tab: Tab, tmp_path: Path) -> None:
    async with serving(tmp_path, OMS_HTTP_TOKEN=TOKEN) as station:
        await tab.open(station.url)
        await tab.until("document.getElementById('steer')?.hidden === false")
        await tab.value("document.getElementById('token').focus()")
        await tab.call("Input.insertText", text=TOKEN)
        for key, code in (("Tab", 9), ("Enter", 13)):
            for kind in ("rawKeyDown", "char", "keyUp"):
                what = {"text": "\r"} if (key, kind) == ("Enter", "char") else {}
                if kind != "char" or what:
                    await tab.call(
                        "Input.dispatchKeyEvent",
                        type=kind,
                        key=key,
                        code=key,
                        windowsVirtualKeyCode=code,
                        **what,
                    )
        await tab.until(f"{text('outcome')} === 'pause: done, and on disk'")
        await tab.until(f"{text('state')} === 'paused'")
        assert await tab.value(text("why")) == "pause by http 127.0.0.1"
        assert (await station.ask("status"))["controls"]["paused_by"] == "operator"


async def test_a_page_of_another_origin_neither_reads_nor_steers(tab: Tab, tmp_path: Path) -> None:
    """What a web site that the operator happens to visit could try."""
    async with serving(tmp_path, OMS_HTTP_TOKEN=TOKEN) as station:
        await tab.open("data:text/html,elsewhere")
        await tab.until("document.body?.textContent === 'elsewhere'")
        read = f"fetch('{station.url}status').then(() => 'read', () => 'blocked')"
        assert await tab.value(read) == "blocked"
        for mode in ("cors", "no-cors"):
            steer = f"fetch('{station.url}control/pause', {{method: 'POST', mode: '{mode}'}})"
            await tab.value(f"{steer}.then(() => 'sent', () => 'blocked')")
        guess = f"{{Authorization: 'Bearer {TOKEN}'}}"
        steer = f"fetch('{station.url}control/pause', {{method: 'POST', headers: {guess}}})"
        assert await tab.value(f"{steer}.then(() => 'sent', () => 'blocked')") == "blocked"
        assert (await station.ask("status"))["controls"]["paused"] is None
    tab.errors.clear()  # the browser says what it blocked


async def test_what_an_agent_or_the_exchange_says_is_text_and_nothing_else(
    tab: Tab, tmp_path: Path
) -> None:
    """A refusal's detail comes from outside; the page must show it, not run it."""
    async with serving(tmp_path) as station:
        station.exchange.reject_next_orders("<img src=x onerror=document.title='owned'>")
        await tab.open(station.url)
        await tab.until(f"{text('state')} === 'taking actions'")
        station.act(1)
        await tab.until("document.getElementById('latest').textContent.includes('onerror')")
        assert await tab.value("document.querySelectorAll('img').length") == 0
        assert await tab.value("document.title") != "owned"
