"""Tells the trading state that time passes."""

from __future__ import annotations

import trio

from oms_trio.channels import Inbox
from oms_trio.records import TICK

EVERY_S = 0.25
"""Ages and retries are judged this often; the shortest of their times is half a second."""


async def tick(inbox: Inbox) -> None:
    """Tick for ever; ends only by cancellation."""
    while True:
        await inbox.send(TICK)
        await trio.sleep(EVERY_S)
