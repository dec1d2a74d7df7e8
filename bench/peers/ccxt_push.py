"""ccxt.pro: the text of an ``orders`` push through its client's JSON and ``handle_message``.

The file in the argument has one push a line. Prints nanoseconds, one for each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.peers.ccxt_markets import client


async def main(lines: list[str]) -> None:
    """Feed every line."""
    exchange = client("ws://127.0.0.1:1/ws/v5/private", "k", "s", "p")
    socket = exchange.client(exchange.get_url("orders", "private"))
    costs = []
    for line in lines:
        # Somebody has to wait for the update, or there is none to make.
        socket.future("orders::BTC/USDT:USDT")
        began = time.perf_counter_ns()
        socket.handle_text_or_binary_message(line)
        costs.append(time.perf_counter_ns() - began)
    print(json.dumps({"push": costs}))  # noqa: T201 - the result
    await exchange.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text().splitlines()))
