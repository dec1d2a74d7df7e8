"""Inputs on their way to the trade-state task, raw as received, and back from their records.

Whatever the trade-state task takes in is an ``JournaledInput``: what the journal keeps of it (kind, raw
bytes, context), and how it becomes inputs of the core. ``read`` makes the same arrival from the
record, so that replay goes through the same code as the live service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial

import attrs
import msgspec

from oms_trio.amqp.codec import ActionLayout, DecodedAction, decode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import Effect
from oms_trio.core.inputs import (
    Action,
    CancelAnswer,
    Command,
    Drain,
    Input,
    OrderAnswer,
    SessionDown,
    SessionUp,
    Started,
    Tick,
    Verb,
    Verdict,
)
from oms_trio.core.model import ClOrdId, RejectReason, Rules
from oms_trio.okx.wire.answers import cancel_answers, order_answers, updates
from oms_trio.okx.wire.codec import decode_answer, decode_frame
from oms_trio.okx.wire.frames import (
    AccountPush,
    ErrorEvent,
    OpResponse,
    OrdersPush,
    PositionsPush,
    Push,
)
from oms_trio.okx.wire.recorded import (
    FillsBodies,
    ListingBodies,
    LookupBody,
    SnapshotBodies,
    decode_fills,
    decode_listing,
    decode_lookup,
    decode_snapshot,
)
from oms_trio.service import earlier_formats

MakeInputs = Callable[[int], tuple[Input, ...]]
"""Builds inputs with the time (``at_ns``) at which they are taken in."""


class Kind(Enum):
    """What a record holds; the names are part of the journal's format."""

    ACTION = "action"
    PUSH = "push"
    ORDER_ANSWER = "order_answer"
    CANCEL_ANSWER = "cancel_answer"
    OWN_ANSWER = "own_answer"
    SNAPSHOT = "snapshot"
    LISTING = "listing"
    FILLS = "fills"
    LOOKUP = "lookup"
    SESSION_UP = "session_up"
    SESSION_DOWN = "session_down"
    STARTED = "started"
    COMMAND = "command"
    TICK = "tick"
    DRAIN = "drain"


@attrs.frozen
class JournaledInput:
    """One thing that came in; ``inputs`` makes what the core takes."""

    kind: Kind
    raw: bytes
    context: str
    inputs: MakeInputs = attrs.field(repr=False, eq=False)
    durable: Callable[[], object] | None = attrs.field(default=None, repr=False, eq=False)
    """Called once the record is on disk."""


@attrs.frozen
class DeliveryMetadata:
    """What a record of an action keeps beside its 25 bytes."""

    message_id: str | None
    redelivered: bool
    received_ns: int
    delivery: int
    known: bool = False
    expired: bool = False


@attrs.frozen
class OwnAnswer:
    """What we know ourselves of requests that got no answer: never sent, or lost on the way."""

    names: tuple[ClOrdId, ...]
    cancel: bool
    verdict: Verdict
    detail: str
    reason: RejectReason = RejectReason.EXCHANGE


@attrs.frozen
class DecodeContext:
    """What reading records needs of the settings: they do not change within a journal."""

    inst_id: str
    tag: str


_json = msgspec.json.Encoder().encode


def encode_effects(effects: tuple[Effect, ...]) -> bytes:
    """Write down what an input caused: equal effects give equal bytes, none give none."""
    return _json([(type(effect).__name__, effect) for effect in effects]) if effects else b""


def action(
    delivery: Delivery, decoded: DecodedAction, received_ns: int, *, known: bool = False
) -> JournaledInput:
    """An action from the broker; ``known`` says that the journal has it already."""
    origin = DeliveryMetadata(
        delivery.message_id,
        delivery.redelivered,
        received_ns,
        delivery.tag,
        known=known,
        expired=delivery.expired,
    )
    make = partial(_action, delivery.body, decoded, origin)
    return JournaledInput(Kind.ACTION, delivery.body, _json(origin).decode(), make)


def push(text: str, event: Push) -> JournaledInput:
    """A push of the exchange."""
    return JournaledInput(Kind.PUSH, text.encode(), "", partial(updates, event))


def order_answer(
    text: str, frame: OpResponse | ErrorEvent, names: Sequence[ClOrdId]
) -> JournaledInput:
    """The exchange's answer to a request that placed the orders of these names.

    ``text`` is a frame of the WebSocket, or the body of REST for the same request.
    """
    make = partial(order_answers, frame, names)
    return JournaledInput(Kind.ORDER_ANSWER, text.encode(), " ".join(names), make)


def cancel_answer(
    text: str, frame: OpResponse | ErrorEvent, names: Sequence[ClOrdId]
) -> JournaledInput:
    """The exchange's answer, by frame or by body, to a request that cancelled these orders."""
    make = partial(cancel_answers, frame, names)
    return JournaledInput(Kind.CANCEL_ANSWER, text.encode(), " ".join(names), make)


def own_answer(answer: OwnAnswer) -> JournaledInput:
    """Our own knowledge of requests without an answer."""
    return JournaledInput(Kind.OWN_ANSWER, _json(answer), "", partial(_own_answer, answer))


def snapshot(bodies: SnapshotBodies, scope: DecodeContext) -> JournaledInput:
    """The exchange's state by REST."""
    return JournaledInput(
        Kind.SNAPSHOT,
        _json(bodies),
        "",
        lambda at_ns: (decode_snapshot(bodies, at_ns=at_ns, inst_id=scope.inst_id, tag=scope.tag),),
    )


def listing(bodies: ListingBodies, scope: DecodeContext) -> JournaledInput:
    """What the exchange lists now, by REST."""
    return JournaledInput(
        Kind.LISTING,
        _json(bodies),
        "",
        lambda at_ns: (decode_listing(bodies, at_ns=at_ns, inst_id=scope.inst_id, tag=scope.tag),),
    )


def fills(bodies: FillsBodies, scope: DecodeContext) -> JournaledInput:
    """All fills of one order by REST."""
    return JournaledInput(
        Kind.FILLS,
        _json(bodies),
        "",
        lambda at_ns: (decode_fills(bodies, at_ns=at_ns, inst_id=scope.inst_id),),
    )


def lookup(body: LookupBody, scope: DecodeContext) -> JournaledInput:
    """One order by REST."""
    return JournaledInput(
        Kind.LOOKUP,
        _json(body),
        "",
        lambda at_ns: (decode_lookup(body, at_ns=at_ns, inst_id=scope.inst_id),),
    )


def session_up(offset_ns: int = 0) -> JournaledInput:
    """A session is ready; ``offset_ns`` is the exchange's clock minus ours, as measured for it."""
    raw = str(offset_ns).encode()
    return JournaledInput(Kind.SESSION_UP, raw, "", lambda at_ns: (SessionUp(at_ns, offset_ns),))


def session_down(why: str) -> JournaledInput:
    """No session is left."""
    return JournaledInput(
        Kind.SESSION_DOWN, why.encode(), "", lambda at_ns: (SessionDown(at_ns, why),)
    )


def started(rules: Rules) -> JournaledInput:
    """A process begins with these rules."""
    return JournaledInput(Kind.STARTED, _json(rules), "", lambda at_ns: (Started(at_ns, rules),))


def command(verb: Verb, by: str, durable: Callable[[], object] | None = None) -> JournaledInput:
    """The operator's word; ``durable`` is called when it cannot be forgotten any more."""
    return JournaledInput(
        Kind.COMMAND, verb.value.encode(), by, partial(_command, verb, by), durable
    )


TICK = JournaledInput(Kind.TICK, b"", "", lambda at_ns: (Tick(at_ns),))
DRAIN = JournaledInput(Kind.DRAIN, b"", "", lambda at_ns: (Drain(at_ns),))


def read(kind: str, raw: bytes, context: str, scope: DecodeContext) -> JournaledInput:  # noqa: C901, PLR0912 - a table
    """Make the arrival that a record was written from.

    Raises:
        ValueError: a kind that this version does not know.
        ProtocolError, MalformedAction, msgspec.ValidationError: it was not written by this
            service, or for another instrument.
    """
    match Kind(earlier_formats.kind(kind)):
        case Kind.ACTION:
            origin = msgspec.json.decode(context, type=DeliveryMetadata)
            # It was accepted then, whatever is accepted today.
            make = partial(_action, raw, decode_action(raw, ActionLayout.BOTH), origin)
            return JournaledInput(Kind.ACTION, raw, context, make)
        case Kind.PUSH:
            event = decode_frame(raw, scope.inst_id)
            assert isinstance(event, OrdersPush | PositionsPush | AccountPush)
            return push(raw.decode(), event)
        case Kind.ORDER_ANSWER | Kind.CANCEL_ANSWER as answered:
            frame = decode_answer(raw)
            build = order_answer if answered is Kind.ORDER_ANSWER else cancel_answer
            return build(raw.decode(), frame, [ClOrdId(name) for name in context.split()])
        case Kind.OWN_ANSWER:
            return own_answer(msgspec.json.decode(earlier_formats.own_answer(raw), type=OwnAnswer))
        case Kind.SNAPSHOT:
            return snapshot(msgspec.json.decode(raw, type=SnapshotBodies), scope)
        case Kind.LISTING:
            return listing(msgspec.json.decode(raw, type=ListingBodies), scope)
        case Kind.FILLS:
            return fills(msgspec.json.decode(raw, type=FillsBodies), scope)
        case Kind.LOOKUP:
            return lookup(msgspec.json.decode(raw, type=LookupBody), scope)
        case Kind.SESSION_UP:
            # The first release measured, and did not keep it.
            return session_up(int(raw)) if raw else session_up()
        case Kind.SESSION_DOWN:
            return session_down(raw.decode())
        case Kind.STARTED:
            return started(msgspec.json.decode(raw, type=Rules))
        case Kind.COMMAND:
            return command(Verb(raw.decode()), context)
        case Kind.TICK:
            return TICK
        case Kind.DRAIN:
            return DRAIN


def _action(
    body: bytes, decoded: DecodedAction, origin: DeliveryMetadata, at_ns: int
) -> tuple[Input, ...]:
    return (
        Action(
            at_ns=at_ns,
            received_ns=origin.received_ns,
            state_id=decoded.state_id,
            order_type=decoded.order_type,
            price=decoded.price,
            volume=decoded.volume,
            mid=decoded.mid,
            body=body,
            message_id=origin.message_id,
            redelivered=origin.redelivered,
            delivery=origin.delivery,
            known=origin.known,
            expired=origin.expired,
        ),
    )


def _command(verb: Verb, by: str, at_ns: int) -> tuple[Input, ...]:
    return (Command(at_ns, verb, by),)


def _own_answer(answer: OwnAnswer, at_ns: int) -> tuple[Input, ...]:
    if answer.cancel:
        return tuple(
            CancelAnswer(at_ns, name, answer.verdict, detail=answer.detail) for name in answer.names
        )
    return tuple(
        OrderAnswer(at_ns, name, answer.verdict, detail=answer.detail, reason=answer.reason)
        for name in answer.names
    )
