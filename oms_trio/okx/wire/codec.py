"""Decodes frames of the private WebSocket. Pure, and on the path of every fill.

One decoder reads the envelope and leaves ``data`` raw; one decoder per shape of ``data`` then reads
that once. Unknown keys and events are ignored, because the exchange adds some without notice; a known
field of a wrong type is a ``ProtocolError`` with its path.
"""

from __future__ import annotations

from typing import Final

import msgspec

from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.fields import OnIgnored, unreported
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
from oms_trio.okx.wire.row_reader import balance_of, orders_of, positions_of
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
    text: str | bytes,
    inst_id: str,
    tag: str | None = None,
    on_ignored: OnIgnored = unreported,
) -> Frame:
    """Decode one frame; rows of other instruments than ``inst_id`` are left out of pushes.

    The unreadable row of an order is ignored, and passed to ``on_ignored``, unless ``tag`` marks it as
    ours; None is for recorded frames, see ``row_reader``.

    Raises:
        ProtocolError: it is not a JSON object, or a field does not have its documented type or has
            an impossible value.
    """
    if text in ("pong", b"pong"):  # the only frame that is not JSON
        return Pong()
    envelope = fields.decoding(_envelope, text)
    if envelope.event is not None:
        return _event(envelope, envelope.event)
    if envelope.op is not None:
        return _op_response(envelope, envelope.op)
    if envelope.arg is not None:
        return _push(envelope, envelope.arg.channel, inst_id, tag, on_ignored)
    return UnknownFrame("")


def decode_answer(text: str | bytes) -> OpResponse | ErrorEvent:
    """Decode the answer to an op: a frame, or the body of REST's answer to the same request.

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
            # A rejected login is an "error" event; the code is checked all the same, because going on
            # without a login would fail later, with a less specific error.
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


def _push(
    envelope: _Envelope, channel: str, inst_id: str, tag: str | None, on_ignored: OnIgnored
) -> Frame:
    match channel:
        case "orders":
            return OrdersPush(
                orders_of(
                    envelope.data, _DATA, inst_id, pushed=True, tag=tag, on_ignored=on_ignored
                )
            )
        case "positions":
            return PositionsPush(
                positions_of(envelope.data, _DATA, inst_id, on_ignored),
                envelope.event_type,
                envelope.cur_page,
                envelope.last_page,
            )
        case "account":
            return AccountPush(balance_of(envelope.data, _DATA, on_ignored))
        case _:
            return UnknownFrame(channel)
