"""A headless Chromium, steered over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

PATIENCE_S = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


@attrs.define
class Tab:
    """One page."""

    connection: WebSocketConnection
    errors: list[str] = attrs.Factory(list)
    session: str = ""
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method; what the page complains of meanwhile is kept in ``errors``."""
        number = next(self._ids)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self.connection.send_message(json.dumps(message))
        with trio.fail_after(PATIENCE_S):
            while True:
                heard = json.loads(await self.connection.get_message())
                if heard.get("id") == number:
                    assert "error" not in heard, heard
                    result: dict[str, Any] = heard["result"]
                    return result
                self._note(heard)

    def _note(self, heard: dict[str, Any]) -> None:
        params = heard.get("params", {})
        match heard.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case _:
                pass

    async def open(self, url: str) -> None:
        """Open a page."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Evaluate an expression on the page."""
        said = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until an expression is true; gives its value."""
        with trio.fail_after(PATIENCE_S):
            while not (value := await self.value(expression)):  # noqa: ASYNC110 - it is polled
                await trio.sleep(0.05)
        return value

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Look at the page on a screen of this size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, file: Path) -> None:
        """Keep a picture of the whole page."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await trio.Path(file).write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """Run a browser for the block.

    Raises:
        AssertionError: there is none; scripts/test installs it.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program is not None, "no chromium is installed: scripts/test installs it with apt-get"
    command = [
        program,
        "--headless=new",
        "--no-sandbox",  # the suite may run as root, and opens pages of its own only
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "about:blank",
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(_run, command, folder)
        url = ""
        with trio.fail_after(PATIENCE_S):
            port_file = folder / "DevToolsActivePort"
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert process.returncode is None, (folder / "stderr").read_text()
                await trio.sleep(0.05)
            port, path = port_file.read_text().split()
            url = f"ws://127.0.0.1:{port}{path}"
        async with open_websocket_url(url, max_message_size=1 << 25) as connection:
            yield Tab(connection)
        nursery.cancel_scope.cancel()


async def _run(
    command: list[str],
    folder: Path,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a tiny local file
    home = {**os.environ, "HOME": str(folder)}
    with (folder / "stderr").open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.DEVNULL, stderr=stderr, env=home
        )
        task_status.started(process)
        try:
            await process.wait()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
