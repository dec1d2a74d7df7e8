"""Frames of the private WebSocket: text in, values out. Pure, and on the path of every fill.

One decoder looks at the envelope and leaves ``data`` alone; one decoder per shape of ``data``
then reads it once. Keys and events that we do not know are passed over, because the exchange
adds some without notice; a known field of a wrong type is a ``ProtocolError`` with its place.
"""

from __future__ import annotations

from typing import Final

import msgspec

from oms_trio.okx import fields
from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.frames import (
    AccountPush,
    ChannelCount,
    ChannelCountExceeded,
    ErrorEvent,
    Frame,
    LoggedIn,
    Notice,
    OpResponse,
    OrdersPush,
    Pong,
    PositionsPush,
    Subscribed,
    UnknownFrame,
    Unsubscribed,
)
from oms_trio.okx.rows import (
    AccountRow,
    OrderRow,
    PositionRow,
    ResultRow,
    is_our_position,
    op_result,
    order_report,
    position_report,
    usdt_balance,
)


class _Arg(msgspec.Struct, frozen=True, gc=False):
    channel: str = ""


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    event: str | None = None
    op: str | None = None
    arg: _Arg | None = None
    data: msgspec.Raw = msgspec.Raw()
    id: str = ""
    code: str = ""
    msg: str = ""
    conn_id: str = ""
    channel: str = ""
    event_type: str = ""
    cur_page: int | None = None
    last_page: bool | None = None
    in_time: str = ""
    out_time: str = ""


_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_orders: Final = msgspec.json.Decoder(list[OrderRow]).decode
_positions: Final = msgspec.json.Decoder(list[PositionRow]).decode
_account: Final = msgspec.json.Decoder(list[AccountRow]).decode
_results: Final = msgspec.json.Decoder(list[ResultRow]).decode

_DATA: Final = "$.data"


def decode_frame(text: str | bytes, inst_id: str) -> Frame:
    """Read one frame; rows of pushes that are not of ``inst_id`` are left out.

    Raises:
        ProtocolError: it is no JSON object, or a field is not of its documented type.
    """
    if text in ("pong", b"pong"):  # the one frame that is no JSON
        return Pong()
    envelope = fields.decoding(_envelope, text)
    if envelope.event is not None:
        return _event(envelope, envelope.event)
    if envelope.op is not None:
        return _op_response(envelope, envelope.op)
    if envelope.arg is not None:
        return _push(envelope, envelope.arg.channel, inst_id)
    return UnknownFrame("")


def _event(envelope: _Envelope, event: str) -> Frame:
    match event:
        case "login":
            # A refused login is an "error" event; the code is looked at all the same, because
            # going on without a login would only fail later and say less.
            if envelope.code != "0":
                return ErrorEvent(envelope.code, envelope.msg, envelope.id)
            return LoggedIn(envelope.conn_id)
        case "subscribe":
            return Subscribed(_channel(envelope))
        case "unsubscribe":
            return Unsubscribed(_channel(envelope))
        case "error":
            return ErrorEvent(envelope.code, envelope.msg, envelope.id)
        case "notice":
            return Notice(envelope.code, envelope.msg)
        case "channel-conn-count":
            return ChannelCount(envelope.channel)
        case "channel-conn-count-error":
            return ChannelCountExceeded(envelope.channel)
        case _:
            return UnknownFrame(event)


def _channel(envelope: _Envelope) -> str:
    if envelope.arg is None:
        raise ProtocolError("$.arg", "missing")
    return envelope.arg.channel


def _op_response(envelope: _Envelope, op: str) -> OpResponse:
    rows = fields.decoding(_results, envelope.data, _DATA) if envelope.data else []
    return OpResponse(
        id=envelope.id,
        op=op,
        code=envelope.code,
        msg=envelope.msg,
        results=tuple(map(op_result, rows)),
        in_time=fields.integer(envelope.in_time, "$", "inTime") if envelope.in_time else None,
        out_time=fields.integer(envelope.out_time, "$", "outTime") if envelope.out_time else None,
    )


def _push(envelope: _Envelope, channel: str, inst_id: str) -> Frame:
    match channel:
        case "orders":
            return OrdersPush(
                tuple(
                    order_report(row, f"{_DATA}[{index}]", pushed=True)
                    for index, row in enumerate(fields.decoding(_orders, envelope.data, _DATA))
                    if row.inst_id == inst_id
                )
            )
        case "positions":
            return PositionsPush(
                tuple(
                    position_report(row, f"{_DATA}[{index}]")
                    for index, row in enumerate(fields.decoding(_positions, envelope.data, _DATA))
                    if is_our_position(row, inst_id)
                ),
                envelope.event_type,
                envelope.cur_page,
                envelope.last_page,
            )
        case "account":
            return AccountPush(usdt_balance(fields.decoding(_account, envelope.data, _DATA), _DATA))
        case _:
            return UnknownFrame(channel)
