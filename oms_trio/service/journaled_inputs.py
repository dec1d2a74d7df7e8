"""What the trade-state task takes in: the core's events, with what the journal keeps of them.

A ``JournaledInput`` is built once, whole, where it arrives. ``read`` builds the same value from its
record by the same decoders, so replay goes through the same code as the live service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import attrs
import msgspec

from oms_trio.amqp.codec import ActionLayout, decode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import Effect
from oms_trio.core.events import (
    Action,
    CancelAnswer,
    Command,
    Drain,
    Event,
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
    """One thing that came in: ``raw`` and ``context`` as the journal keeps it, ``events`` decoded."""

    kind: Kind
    raw: bytes
    context: str
    events: tuple[Event, ...]
    on_durable: Callable[[], object] | None = attrs.field(default=None, repr=False, eq=False)
    """Called once the record is on disk."""


@attrs.frozen
class DeliveryMetadata:
    """What a record of an action keeps besides its bytes."""

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


def action(action: Action) -> JournaledInput:
    """An action from the broker."""
    metadata = DeliveryMetadata(
        action.message_id,
        action.redelivered,
        action.received_ns,
        action.delivery,
        known=action.known,
        expired=action.expired,
    )
    return JournaledInput(Kind.ACTION, action.body, _json(metadata).decode(), (action,))


def push(text: str, event: Push) -> JournaledInput:
    """A push of the exchange."""
    return JournaledInput(Kind.PUSH, text.encode(), "", updates(event))


def order_answer(
    text: str, frame: OpResponse | ErrorEvent, names: Sequence[ClOrdId]
) -> JournaledInput:
    """The exchange's answer to a request that placed the orders of these names.

    ``text`` is a frame of the WebSocket, or the body of REST for the same request.
    """
    events = order_answers(frame, names)
    return JournaledInput(Kind.ORDER_ANSWER, text.encode(), " ".join(names), events)


def cancel_answer(
    text: str, frame: OpResponse | ErrorEvent, names: Sequence[ClOrdId]
) -> JournaledInput:
    """The exchange's answer, by frame or by body, to a request that cancelled these orders."""
    events = cancel_answers(frame, names)
    return JournaledInput(Kind.CANCEL_ANSWER, text.encode(), " ".join(names), events)


def own_answer(answer: OwnAnswer) -> JournaledInput:
    """Our own knowledge of requests without an answer."""
    events: tuple[Event, ...]
    if answer.cancel:
        events = tuple(
            CancelAnswer(name, answer.verdict, detail=answer.detail) for name in answer.names
        )
    else:
        events = tuple(
            OrderAnswer(name, answer.verdict, detail=answer.detail, reason=answer.reason)
            for name in answer.names
        )
    return JournaledInput(Kind.OWN_ANSWER, _json(answer), "", events)


def snapshot(bodies: SnapshotBodies, scope: DecodeContext) -> JournaledInput:
    """The exchange's state by REST."""
    event = decode_snapshot(bodies, inst_id=scope.inst_id, tag=scope.tag)
    return JournaledInput(Kind.SNAPSHOT, _json(bodies), "", (event,))


def listing(bodies: ListingBodies, scope: DecodeContext) -> JournaledInput:
    """What the exchange lists now, by REST."""
    event = decode_listing(bodies, inst_id=scope.inst_id, tag=scope.tag)
    return JournaledInput(Kind.LISTING, _json(bodies), "", (event,))


def fills(bodies: FillsBodies, scope: DecodeContext) -> JournaledInput:
    """All fills of one order by REST."""
    event = decode_fills(bodies, inst_id=scope.inst_id)
    return JournaledInput(Kind.FILLS, _json(bodies), "", (event,))


def lookup(body: LookupBody, scope: DecodeContext) -> JournaledInput:
    """One order by REST."""
    event = decode_lookup(body, inst_id=scope.inst_id)
    return JournaledInput(Kind.LOOKUP, _json(body), "", (event,))


def session_up(offset_ns: int = 0) -> JournaledInput:
    """A session is ready; ``offset_ns`` is the exchange's clock minus ours, as measured for it."""
    return JournaledInput(Kind.SESSION_UP, str(offset_ns).encode(), "", (SessionUp(offset_ns),))


def session_down(why: str) -> JournaledInput:
    """No session is left."""
    return JournaledInput(Kind.SESSION_DOWN, why.encode(), "", (SessionDown(why),))


def started(rules: Rules) -> JournaledInput:
    """A process begins with these rules."""
    return JournaledInput(Kind.STARTED, _json(rules), "", (Started(rules),))


def command(verb: Verb, by: str, on_durable: Callable[[], object] | None = None) -> JournaledInput:
    """An operator's command; ``on_durable`` is called when it can no longer be lost."""
    raw = verb.value.encode()
    return JournaledInput(Kind.COMMAND, raw, by, (Command(verb, by),), on_durable)


TICK = JournaledInput(Kind.TICK, b"", "", (Tick(),))
DRAIN = JournaledInput(Kind.DRAIN, b"", "", (Drain(),))


def read(kind: str, raw: bytes, context: str, scope: DecodeContext) -> JournaledInput:  # noqa: C901, PLR0912 - a table
    """Build the input that a record was written from.

    Raises:
        ValueError: a kind that this version does not know.
        OkxError, MalformedAction, msgspec.ValidationError: it was not written by this service, or
            for another instrument.
    """
    match Kind(earlier_formats.kind(kind)):
        case Kind.ACTION:
            found = msgspec.json.decode(context, type=DeliveryMetadata)
            delivery = Delivery(
                found.delivery, raw, found.message_id, found.redelivered, found.expired
            )
            # It was accepted then, whatever is accepted today.
            decoded = decode_action(delivery, found.received_ns, ActionLayout.BOTH)
            return action(attrs.evolve(decoded, known=found.known))
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
