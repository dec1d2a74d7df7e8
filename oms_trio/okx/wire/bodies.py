"""Decodes the bodies of REST answers. Pure: replay decodes recorded bodies with the same functions.

Every function takes a whole body, and raises ``ProtocolError`` if it does not have its documented
shape. Rejections are handled before (``envelope``, ``query_outcome``); here every code other than 0
is an error, so that a rejection is never read as "nothing there".
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, TypeVar

import attrs
import msgspec

from oms_trio.core.model import Funding, Instrument, OrderReport, PositionReport
from oms_trio.okx.errors import InstrumentNotTradableError, ProtocolError
from oms_trio.okx.wire import fields, row_reader
from oms_trio.okx.wire.codes import QueryOutcome, query_outcome
from oms_trio.okx.wire.fields import OnIgnored, unreported
from oms_trio.okx.wire.frames import Balance, FillRecord
from oms_trio.okx.wire.rows import SETTLE_CCY

PAGE: Final = 100
"""Rows of a full page; a shorter page is the last."""

_T = TypeVar("_T")


class Envelope(msgspec.Struct, frozen=True):
    """The part that every answer has; errors of the gateway have no ``data``."""

    code: str
    msg: str = ""


class _Body(msgspec.Struct, frozen=True):
    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _TimeRow(msgspec.Struct, frozen=True):
    ts: str


class _InstrumentRow(msgspec.Struct, frozen=True, rename="camel"):
    inst_id: str
    state: str
    ct_val: str
    ct_mult: str
    tick_sz: str
    lot_sz: str
    min_sz: str
    ct_type: str = ""
    settle_ccy: str = ""
    inst_id_code: int | None = None


class _ConfigRow(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    acct_lv: str
    pos_mode: str
    perm: str = ""


class _MarkPriceRow(msgspec.Struct, frozen=True, rename="camel"):
    inst_id: str
    mark_px: str


class _CursorRow(msgspec.Struct, frozen=True, rename="camel"):
    """The position of a row in a list, whatever its other fields are."""

    ord_id: Any = ""
    bill_id: Any = ""
    c_time: Any = ""
    u_time: Any = ""


class _LeverageRow(msgspec.Struct, frozen=True, rename="camel"):
    lever: str
    inst_id: str = ""
    mgn_mode: str = "cross"


_envelope: Final = msgspec.json.Decoder(Envelope).decode
_body: Final = msgspec.json.Decoder(_Body).decode
_times: Final = msgspec.json.Decoder(list[_TimeRow])
_instruments: Final = msgspec.json.Decoder(list[_InstrumentRow])
_configs: Final = msgspec.json.Decoder(list[_ConfigRow])
_mark_prices: Final = msgspec.json.Decoder(list[_MarkPriceRow])
_leverages: Final = msgspec.json.Decoder(list[_LeverageRow])
_cursor_rows: Final = msgspec.json.Decoder(list[_CursorRow])

_DATA: Final = "$.data"


@attrs.frozen
class AccountConfig:
    """The account's configuration (``GET /account/config``)."""

    acct_lv: str
    """1 spot, 2 futures, 3 multi-currency, 4 portfolio; swaps need 2 or 3."""
    pos_mode: str
    perm: frozenset[str]
    uid: str = ""
    """The exchange's id of the account."""

    @property
    def net_mode(self) -> bool:
        """Whether an instrument has a single net position, as our orders require."""
        return self.pos_mode == "net_mode"

    @property
    def may_trade(self) -> bool:
        """Whether this key and account mode can trade swaps."""
        return "trade" in self.perm and self.acct_lv in {"2", "3"}


def envelope(body: str) -> Envelope:
    """Decode code and message of an answer of any HTTP status."""
    return fields.decoding(_envelope, body)


def server_time(body: str) -> int:
    """``GET /public/time``: Unix milliseconds."""
    return fields.time_ms(_one(_times, body).ts, f"{_DATA}[0]", "ts")


def instrument(body: str, inst_id: str) -> Instrument:
    """``GET /public/instruments``: the rules of ``inst_id``.

    Raises:
        InstrumentNotTradableError: it is not live, or not a linear USDT contract.
    """
    for index, row in enumerate(_rows(_instruments, body)):
        if row.inst_id == inst_id:
            return _instrument(row, f"{_DATA}[{index}]")
    raise ProtocolError(_DATA, f"no instrument {inst_id}")


def _instrument(row: _InstrumentRow, where: str) -> Instrument:
    if row.state != "live":
        raise InstrumentNotTradableError(f"{row.inst_id} is in state {row.state}, not live")
    if row.ct_type != "linear" or row.settle_ccy != SETTLE_CCY:
        raise InstrumentNotTradableError(
            f"{row.inst_id} is not a linear contract settled in {SETTLE_CCY}"
        )
    if row.inst_id_code is None:
        raise InstrumentNotTradableError(f"{row.inst_id} has no instIdCode, which orders need")
    return Instrument(
        inst_id=row.inst_id,
        inst_id_code=row.inst_id_code,
        ct_val=_positive(row.ct_val, where, "ctVal"),
        ct_mult=_positive(row.ct_mult, where, "ctMult"),
        tick_sz=_positive(row.tick_sz, where, "tickSz"),
        lot_sz=_positive(row.lot_sz, where, "lotSz"),
        min_sz=_positive(row.min_sz, where, "minSz"),
    )


def account_config(body: str) -> AccountConfig:
    """``GET /account/config``."""
    row = _one(_configs, body)
    return AccountConfig(row.acct_lv, row.pos_mode, frozenset(row.perm.split(",")), row.uid)


def leverage(body: str) -> Decimal:
    """``GET /account/leverage-info`` or the answer to ``set-leverage``."""
    return _positive(_one(_leverages, body).lever, f"{_DATA}[0]", "lever")


def mark_price(body: str, inst_id: str) -> Decimal:
    """``GET /public/mark-price?instId=``."""
    for index, row in enumerate(_rows(_mark_prices, body)):
        if row.inst_id == inst_id:
            return fields.price(row.mark_px, f"{_DATA}[{index}]", "markPx")
    raise ProtocolError(_DATA, f"no mark price of {inst_id}")


def balance(body: str, on_ignored: OnIgnored = unreported) -> Balance | None:
    """``GET /account/balance``: USDT, or None when the account has never held USDT."""
    return row_reader.balance_of(_data(body), _DATA, on_ignored)


def position(body: str, inst_id: str, on_ignored: OnIgnored = unreported) -> PositionReport | None:
    """``GET /account/positions?instId=``: None, like ``pos`` 0, means that the position is flat."""
    found = row_reader.positions_of(_data(body), _DATA, inst_id, on_ignored)
    return found[0] if found else None


def orders(
    body: str, inst_id: str, *, tag: str | None = None, on_ignored: OnIgnored = unreported
) -> tuple[OrderReport, ...]:
    """A page of orders of ``inst_id``, ours or not."""
    return row_reader.orders_of(
        _data(body), _DATA, inst_id, pushed=False, tag=tag, on_ignored=on_ignored
    )


def order(body: str, inst_id: str) -> OrderReport | None:
    """``GET /trade/order``: None when the exchange knows no such order (51603)."""
    if query_outcome(envelope(body).code) is QueryOutcome.NOT_FOUND:
        return None
    found = row_reader.orders_of(
        _data(body), _DATA, inst_id, pushed=False, tag=None, on_ignored=unreported, by_name=True
    )
    if len(found) != 1:
        raise ProtocolError(_DATA, f"expected one order, got {len(found)}")
    return found[0]


def fills(
    body: str, inst_id: str, *, tag: str | None = None, on_ignored: OnIgnored = unreported
) -> tuple[FillRecord, ...]:
    """A page of fills of ``inst_id``, ours or not, newest first."""
    return row_reader.fills_of(_data(body), _DATA, inst_id, tag=tag, on_ignored=on_ignored)


def bills(
    body: str, inst_id: str, *, strict: bool = False, on_ignored: OnIgnored = unreported
) -> tuple[Funding | FillRecord, ...]:
    """A page of bills of ``inst_id``: funding, and fills of the exchange's orders on our position."""
    return row_reader.bills_of(_data(body), _DATA, inst_id, strict=strict, on_ignored=on_ignored)


def orders_cursor(body: str) -> str | None:
    """Return where the next page of orders starts (``after``), or None on the last page."""
    rows = _rows(_cursor_rows, body)
    return _cursor(rows[-1].ord_id, "ordId") if len(rows) >= PAGE else None


def bills_cursor(body: str) -> str | None:
    """Return where the next page of fills or bills starts, or None on the last page."""
    rows = _rows(_cursor_rows, body)
    return _cursor(rows[-1].bill_id, "billId") if len(rows) >= PAGE else None


def created_since(body: str, since_ms: int) -> bool:
    """Whether any order of a page was created at ``since_ms`` or later."""
    return any(_may_be_since(row.c_time, since_ms) for row in _rows(_cursor_rows, body))


def changed_since(body: str, since_ms: int) -> bool:
    """Whether any order of a page changed at ``since_ms`` or later."""
    return any(_may_be_since(row.u_time, since_ms) for row in _rows(_cursor_rows, body))


def _may_be_since(time: object, since_ms: int) -> bool:
    if isinstance(time, str) and time.isascii() and time.isdigit():
        return int(time) >= since_ms
    return True


def _cursor(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ProtocolError(f"{_DATA}[{PAGE - 1}].{name}", "expected a string")
    return fields.required(value, f"{_DATA}[{PAGE - 1}]", name)


def _data(body: str) -> msgspec.Raw:
    whole = fields.decoding(_body, body)
    if whole.code != "0":
        raise ProtocolError("$.code", f"expected success, got {whole.code} ({whole.msg})")
    return whole.data


def _rows(decoder: msgspec.json.Decoder[list[_T]], body: str) -> list[_T]:
    return fields.decoding(decoder.decode, _data(body), _DATA)


def _one(decoder: msgspec.json.Decoder[list[_T]], body: str) -> _T:
    rows = _rows(decoder, body)
    if not rows:
        raise ProtocolError(_DATA, "expected one element, got none")
    return rows[0]


def _positive(text: str, where: str, name: str) -> Decimal:
    value = fields.decimal(text, where, name)
    if value <= 0:
        raise ProtocolError(f"{where}.{name}", "expected a positive number")
    return value
