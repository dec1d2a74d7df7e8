"""Frames of the private WebSocket: text in, values out. Pure, and on the path of every fill.

One decoder looks at the envelope and leaves ``data`` alone; one decoder per shape of ``data``
then reads it once. Keys and events that we do not know are passed over, because the exchange
adds some without notice; a known field of a wrong type is a ``ProtocolError`` with its place.
"""

from __future__ import annotations

from typing import Final

import msgspec

from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.foreign import Note, ignore
from oms_trio.okx.wire.frames import (
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
from oms_trio.okx.wire.reports import balance_of, orders_of, positions_of
from oms_trio.okx.wire.rows import ResultRow, op_result


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
_results: Final = msgspec.json.Decoder(list[ResultRow]).decode

_DATA: Final = "$.data"


def decode_frame(
    text: str | bytes, inst_id: str, tag: str | None = None, note: Note = ignore
) -> Frame:
    """Read one frame; rows of pushes that are not of ``inst_id`` are left out.

    A row of an order that cannot be read is passed over (``note``) unless it is ours by ``tag``;
    None is for what was recorded, see ``foreign``.

    Raises:
        ProtocolError: it is no JSON object, or a field is not of its documented type or beyond
            what is possible.
    """
    if text in ("pong", b"pong"):  # the one frame that is no JSON
        return Pong()
    envelope = fields.decoding(_envelope, text)
    if envelope.event is not None:
        return _event(envelope, envelope.event)
    if envelope.op is not None:
        return _op_response(envelope, envelope.op)
    if envelope.arg is not None:
        return _push(envelope, envelope.arg.channel, inst_id, tag, note)
    return UnknownFrame("")


def decode_answer(text: str | bytes) -> OpResponse | ErrorEvent:
    """Read the answer to an op: a frame, or the body that REST answers the same request with.

    Raises:
        ProtocolError: it is neither.
    """
    envelope = fields.decoding(_envelope, text)
    if envelope.event is not None:
        frame = _event(envelope, envelope.event)
        if isinstance(frame, ErrorEvent):
            return frame
    elif envelope.op is not None or envelope.code:
        return _op_response(envelope, envelope.op or "")
    raise ProtocolError("$", "expected the answer to a request")


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


def _push(envelope: _Envelope, channel: str, inst_id: str, tag: str | None, note: Note) -> Frame:
    match channel:
        case "orders":
            reports = orders_of(envelope.data, _DATA, inst_id, pushed=True, tag=tag, note=note)
            return OrdersPush(reports)
        case "positions":
            return PositionsPush(
                positions_of(envelope.data, _DATA, inst_id, note),
                envelope.event_type,
                envelope.cur_page,
                envelope.last_page,
            )
        case "account":
            return AccountPush(balance_of(envelope.data, _DATA, note))
        case _:
            return UnknownFrame(channel)
