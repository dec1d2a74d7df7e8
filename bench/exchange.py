"""An exchange that takes every order, fills it at once, and stamps everything: one process.

REST gives what a start asks for, the WebSocket what a session needs. It speaks the protocols
itself, on a bare asyncio protocol: what it adds to a measurement is one socket read. All stamps
are ``time.perf_counter_ns``, which all processes of a machine share.

    GET /bench/state              {"subscribed": how many sessions have subscribed}
    GET /bench/stamps             {"orders": {state_id: ns}, "pushes": {state_id: ns}}; forgets
    GET /bench/reset              the account is flat again
    GET /bench/blast?N            sends N partial fills of one order, as fast as they go
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import time
from contextlib import suppress
from decimal import Decimal
from typing import Final, cast

import msgspec
import uvloop

from bench.recording import ANSWER, ORDER, POSITION, SNAPSHOT

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FIRST_ORDER: Final = 3967288020668928111
BLAST_STATE: Final = 0xB1A57

EMPTY: Final = '{"code":"0","msg":"","data":[]}'
REST: Final = {
    "/api/v5/public/instruments": SNAPSHOT.instrument,
    "/api/v5/account/balance": SNAPSHOT.balance,
    "/api/v5/account/config": '{"code":"0","msg":"","data":[{"acctLv":"2","posMode":"net_mode",'
    '"perm":"read_only,trade"}]}',
    "/api/v5/account/leverage-info": '{"code":"0","msg":"","data":[{"instId":"BTC-USDT-SWAP",'
    '"mgnMode":"cross","posSide":"net","lever":"100"}]}',
    "/api/v5/public/mark-price": '{"code":"0","msg":"","data":[{"instType":"SWAP",'
    '"instId":"BTC-USDT-SWAP","markPx":"67000","ts":"1790000000000"}]}',
}
ACCOUNT: Final = (
    '{"arg":{"channel":"account","ccy":"USDT","uid":"55001122"},"eventType":"event_update",'
    '"curPage":1,"lastPage":true,"data":[{"uTime":"%(ms)d","totalEq":"10000","details":'
    '[{"ccy":"USDT","eq":"10000","cashBal":"10000","uTime":"%(ms)d","upl":"0"}]}]}'
)
FLAT: Final = POSITION.replace('"avgPx":"67000"', '"avgPx":""')


class Market:
    """What all connections share: orders so far, the position, and the stamps."""

    def __init__(self) -> None:
        self.count = 0
        self.position = Decimal(0)
        self.orders: dict[int, int] = {}
        self.pushes: dict[int, int] = {}
        self.known: dict[str, dict[str, object]] = {}
        self.subscribed: list[Connection] = []

    def position_push(self, ms: int) -> str:
        """The push of the position as it is now."""
        fields = {"sz": self.position, "digit": 0, "trade": 1000 + self.count, "ms": ms}
        return (POSITION if self.position else FLAT) % fields

    def rest(self, path: str) -> str:
        """Answer a query of a service that starts, or of the bench."""
        match path.partition("?"):
            case "/bench/state", _, _:
                return json.dumps({"subscribed": len(self.subscribed)})
            case "/bench/stamps", _, _:
                told = json.dumps({"orders": self.orders, "pushes": self.pushes})
                self.orders, self.pushes = {}, {}
                return told
            case "/bench/reset", _, _:
                self.position, self.known = Decimal(0), {}
                return "{}"
            case "/bench/blast", _, count:
                self.subscribed[-1].blast(int(count))
                return "{}"
            case "/api/v5/public/time", _, _:
                return f'{{"code":"0","msg":"","data":[{{"ts":"{time.time_ns() // 1_000_000}"}}]}}'
            case "/api/v5/account/positions", _, _ if self.position:
                row = json.loads(self.position_push(time.time_ns() // 1_000_000))["data"]
                return json.dumps({"code": "0", "msg": "", "data": row})
            case "/api/v5/trade/order", _, query:
                return self._order(query.rpartition("clOrdId=")[2])
            case plain, _, _:
                return REST.get(plain, EMPTY)
        raise AssertionError(path)

    def _order(self, name: str) -> str:
        if (fields := self.known.get(name)) is None:
            return '{"code":"51603","msg":"Order does not exist","data":[]}'
        return json.dumps({"code": "0", "msg": "", "data": json.loads(ORDER % fields)["data"]})


class Connection(asyncio.Protocol):
    """One client: HTTP until it upgrades, then frames."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.buffer = bytearray()
        self.framed = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget a session."""
        with suppress(ValueError):
            self.market.subscribed.remove(self)

    def data_received(self, data: bytes) -> None:
        """Stamp first, read then."""
        stamp = time.perf_counter_ns()
        self.buffer += data
        if not self.framed:
            self._http()
        while self.framed and (text := self._frame()) is not None:
            self._message(text, stamp)

    def send(self, text: str) -> None:
        """Send a text frame."""
        payload = text.encode()
        size = len(payload)
        head = b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size))
        self.transport.write(head + payload)

    def blast(self, count: int) -> None:
        """Fill one order in so many parts."""
        market = self.market
        market.count += 1
        name = f"oms{BLAST_STATE:08x}{'0' * 20}"
        fields: dict[str, object] = {
            "ord": FIRST_ORDER + market.count,
            "name": name,
            "side": "buy",
            "sz": f"{count}",
            "px": "67000",
            "pnl": "0",
            "ms": time.time_ns() // 1_000_000,
            "state": "partially_filled",
            "fill": "0.1",
        }
        market.pushes[BLAST_STATE] = time.perf_counter_ns()
        for number in range(1, count + 1):
            market.count += 1
            market.position += Decimal("0.1")
            fields |= {"acc": Decimal(number) / 10, "trade": 1000 + market.count}
            self.send(ORDER % fields)
        market.known[name] = fields

    def _http(self) -> None:
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:])
            }
            size = end + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < size:
                return
            del self.buffer[:size]
            if (key := headers.get("sec-websocket-key")) is not None:
                self.framed = True
                proof = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())  # noqa: S324 - RFC 6455
                self.transport.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + proof + b"\r\n\r\n"
                )
                return
            body = self.market.rest(lines[0].split(" ")[1]).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )

    def _frame(self) -> bytes | None:
        buffer = self.buffer
        if len(buffer) < 6:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size == 126:
            (size,), start = struct.unpack_from("!H", buffer, 2), 4
        end = start + 4 + size
        if len(buffer) < end:
            return None
        opcode = buffer[0] & 0x0F
        mask = bytes(buffer[start : start + 4]) * (size // 4 + 1)
        sent = int.from_bytes(buffer[start + 4 : end]) ^ int.from_bytes(mask[:size])
        del buffer[:end]
        if opcode == 8:
            self.transport.close()
            return None
        return sent.to_bytes(size) if opcode == 1 else b"ping"

    def _message(self, text: bytes, stamp: int) -> None:
        if text == b"ping":
            self.send("pong")
            return
        message = msgspec.json.decode(text)
        match message["op"]:
            case "login":
                self.send('{"event":"login","msg":"","code":"0","connId":"b0"}')
            case "subscribe":
                for arg in message["args"]:
                    told = {"event": "subscribe", "arg": arg, "connId": "b0"}
                    self.send(json.dumps(told))
                self.market.subscribed.append(self)
            case "order" | "batch-orders":
                for order in message["args"]:
                    self._order(message, order, stamp)
            case "cancel-order" | "batch-cancel-orders" as op:
                # Every order has filled by now, whatever the client knows of it yet.
                results = [
                    {"ordId": arg["ordId"], "clOrdId": "", "sCode": "51402", "sMsg": "completed"}
                    for arg in message["args"]
                ]
                told = {"id": message["id"], "op": op, "code": "1", "msg": "", "data": results}
                self.send(json.dumps(told))
            case other:
                raise AssertionError(other)

    def _order(self, message: dict[str, str], order: dict[str, str], stamp: int) -> None:
        market = self.market
        market.count += 1
        state_id = int(order["clOrdId"][3:11], 16)
        market.orders[state_id] = stamp
        buys = order["side"] == "buy"
        market.position += Decimal(order["sz"]) * (1 if buys else -1)
        sz, px = order["sz"], order["px"]
        ms = time.time_ns() // 1_000_000
        fields: dict[str, object] = {
            "ord": FIRST_ORDER + market.count,
            "name": order["clOrdId"],
            "side": order["side"],
            "sz": sz,
            "acc": sz,
            "fill": sz,
            "state": "filled",
            "px": px,
            "pnl": "0" if buys else "0.1575",
            "trade": 1000 + market.count,
            "ms": ms,
        }
        market.known[order["clOrdId"]] = fields
        answer = ANSWER % fields
        answer = answer.replace(f'"id":"r{fields["ord"]}"', f'"id":"{message["id"]}"')
        self.send(answer.replace('"op":"order"', f'"op":"{message["op"]}"'))
        market.pushes[state_id] = time.perf_counter_ns()
        self.send(ORDER % fields)
        self.send(market.position_push(ms))
        self.send(ACCOUNT % fields)


async def _serve() -> None:
    market = Market()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(market), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - told to who started us
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve())
