"""vnpy_okx: the text of an ``orders`` push through ``on_message`` to events in its queue.

The file in the argument has one push a line. Prints nanoseconds, one for each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from vnpy.event import EventEngine
from vnpy.trader.constant import Exchange, Product
from vnpy.trader.object import ContractData
from vnpy_okx.okx_gateway import OkxGateway


def main() -> None:
    """Feed every line."""
    gateway = OkxGateway(EventEngine(), "OKX")
    contract = ContractData(
        symbol="BTCUSDT_SWAP_OKX",
        exchange=Exchange.GLOBAL,
        name="BTC-USDT-SWAP",
        product=Product.SWAP,
        size=0.01,
        pricetick=0.1,
        min_volume=0.01,
        gateway_name="OKX",
    )
    contract.extra = {"instType": "SWAP"}
    gateway.on_contract(contract)
    costs = []
    for line in Path(sys.argv[1]).read_text().splitlines():
        began = time.perf_counter_ns()
        gateway.private_api.on_message(line)
        costs.append(time.perf_counter_ns() - began)
    print(json.dumps({"push": costs}))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
