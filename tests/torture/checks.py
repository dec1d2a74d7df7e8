"""What must hold at rest, checked against the exchange's own log.

Each check returns what is broken, in words. None of them uses the service's core, except that our
position is recovered from the journal as a restart would.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from oms_trio.core.model import Rules
from oms_trio.journal.journal import Journal
from oms_trio.service.journaled_inputs import DecodeContext
from oms_trio.service.recovery import recover
from oms_trio.testing.simulation.invariants.oracle import MessageSummary, Oracle, TrueFill
from tests.torture.agent import PublishedAction, ReceivedMessage
from tests.torture.plan import PlannedAction
from tests.torture.truth import ExchangeLog, Placed

MULTIPLIER = Fraction(1, 100)
TICK = Fraction(1, 10)
UPDATES = "execution.update"
REJECTIONS = "execution.reject"
SHOWN = 5

Key = tuple[int, str, Fraction | None]
"""What tells the orders of different actions apart: state id, side, limit price."""


@attrs.frozen
class Evidence:
    """Everything that is known at rest."""

    sent: Sequence[PublishedAction]
    received: Sequence[ReceivedMessage]
    dead: Sequence[ReceivedMessage]
    truth: ExchangeLog
    journal: Path
    log: Path
    secrets: Sequence[str]
    rules: Rules
    scope: DecodeContext


def check(evidence: Evidence) -> list[str]:
    """Return everything that is broken."""
    with Journal.open(evidence.journal, read_only=True) as journal:
        return [
            *one_order_an_action(evidence),
            *every_fill_once(evidence, journal),
            *messages_match_the_log(evidence, journal),
            *nothing_vanished(evidence),
            *cap_kept(evidence),
            *no_secret(evidence),
            *no_crash(evidence),
        ]


def one_order_an_action(evidence: Evidence) -> Iterator[str]:
    """At most one order per action and name, none without an action, none besides a rejection."""
    orders = evidence.truth.orders.values()
    names = Counter(order.cl_ord_id for order in orders)
    yield from (f"clOrdId {name} has {n} orders" for name, n in names.items() if n > 1)
    yield from (f"{order} has a foreign tag" for order in orders if order.tag != evidence.scope.tag)
    allowed = Counter(_key_of_action(action) for action in _identities(evidence.sent))
    made = Counter((order.state_id, order.side, order.px) for order in orders)
    yield from (
        f"{n} orders for {allowed[key]} actions of {key}"
        for key, n in made.items()
        if n > allowed[key]
    )
    by_state = Counter(action.state_id for action in _identities(evidence.sent))
    ended = Counter(order.state_id for order in orders) + Counter(
        _rejections(evidence.received).values()
    )
    yield from (
        f"state {state_id}: {n} orders and rejections for {by_state[state_id]} actions"
        for state_id, n in ended.items()
        if n > by_state[state_id]
    )


def nothing_vanished(evidence: Evidence) -> Iterator[str]:
    """Every valid action is an order, a rejection or a dead letter; malformed ones are the last."""
    reasons = {key: letter.reason for letter in evidence.dead for key in _letter_keys(letter)}
    ends = Counter(order.state_id for order in evidence.truth.orders.values())
    ends += Counter(_rejections(evidence.received).values())
    open_ends: Counter[int] = Counter()
    for action in _identities([sent for sent in evidence.sent if sent.certain]):
        if (action.body, action.message_id) not in reasons:
            open_ends[action.state_id] += 1
    yield from (
        f"state {state_id}: {n} actions without an order, a rejection or a dead letter, {ends[state_id]} ended"
        for state_id, n in open_ends.items()
        if n > ends[state_id]
    )
    for sent in evidence.sent:
        action = sent.action
        if action.malformed and sent.certain:
            reason = reasons.get((action.body, action.message_id), "")
            if "byte" not in reason and reason != "expired":
                yield f"malformed {action.body.hex()} is a dead letter because of {reason!r}"


def every_fill_once(evidence: Evidence, journal: Journal) -> Iterator[str]:
    """The position that a restart recovers is the exchange's, and every message is published."""
    state = recover(journal, evidence.rules, evidence.scope).state
    if Fraction(state.book.position) != evidence.truth.position:
        yield f"position {state.book.position}, the exchange has {evidence.truth.position}"
    if left := journal.outbox_size():
        yield f"{left} messages wait in the outbox"


def messages_match_the_log(evidence: Evidence, journal: Journal) -> Iterator[str]:
    """Without repeats, the agent received what follows from the exchange's fills, in order."""
    bodies: dict[str | None, bytes] = {}
    for message in evidence.received:
        if bodies.setdefault(message.message_id, message.body) != message.body:
            yield f"message {message.message_id} has two bodies"
    if None in bodies:
        yield "a message has no message_id"
    updates = {m.message_id: m.body for m in evidence.received if m.routing_key == UPDATES}
    received = [json.loads(body) for body in updates.values()]
    expected = list(_expected(evidence.truth, _Pushes.read(journal)))
    for number, (got, wanted) in enumerate(zip(received, expected, strict=False)):
        if (difference := wanted.difference(got)) is not None:
            yield f"message {number} of {len(expected)}: {difference}"
            return
    if len(received) != len(expected):
        yield f"{len(received)} messages received; {len(expected)} follow from the fills"


def cap_kept(evidence: Evidence) -> Iterator[str]:
    """No order could make the position exceed the cap when it was placed."""
    mids: dict[int, Fraction] = {}
    for sent in evidence.sent:
        raw = _raw_price(sent.action)
        mids[sent.action.state_id] = min(raw, mids.get(sent.action.state_id, raw))
    power = Fraction(evidence.rules.leverage) * Fraction(evidence.rules.max_margin_fraction)
    for order in evidence.truth.orders.values():
        px = order.px or mids.get(order.state_id)
        if px is not None and order.reach * px * MULTIPLIER > power * order.cash:
            yield f"{order.cl_ord_id} reaches {float(order.reach)} at a cap of {_cap(order, px, power)}"


def no_secret(evidence: Evidence) -> Iterator[str]:
    """No secret is in the journal or in what was printed."""
    for path in [evidence.log, *filter(Path.is_file, evidence.journal.parent.iterdir())]:
        content = path.read_bytes()
        for secret in evidence.secrets:
            if secret.encode() in content:
                yield f"a secret is in {path.name}"


def no_crash(evidence: Evidence) -> Iterator[str]:
    """Nothing unexpected was raised, and the position was never unexplained."""
    for number, line in enumerate(evidence.log.read_text(errors="replace").splitlines()):
        if "Traceback" in line or "position_mismatch" in line or "uncaught" in line:
            yield f"log line {number}: {line[:300]}"


def _identities(sent: Sequence[PublishedAction]) -> list[PlannedAction]:
    """Return the valid actions, each once by its ``message_id``, or as often as published without."""
    named = {s.action.message_id: s.action for s in sent if s.action.message_id is not None}
    unnamed = [s.action for s in sent if s.action.message_id is None]
    return [action for action in [*named.values(), *unnamed] if not action.malformed]


def _letter_keys(letter: ReceivedMessage) -> list[tuple[bytes, str | None]]:
    """Return what a dead letter may have been: AMQP clients add a ``message_id`` where none was."""
    return [(letter.body, letter.message_id), (letter.body, None)]


def _raw_price(action: PlannedAction) -> Fraction:
    return Fraction(action.mid) * (1 + Fraction(action.offset) / 1000)


def _key_of_action(action: PlannedAction) -> Key:
    if action.market:
        return (action.state_id, action.side, None)
    ticks = _raw_price(action) / TICK
    rounded = math.floor(ticks) if action.side == "buy" else math.ceil(ticks)
    return (action.state_id, action.side, rounded * TICK)


def _rejections(received: Sequence[ReceivedMessage]) -> dict[str | None, int]:
    """Return the state ids of the rejections by message id."""
    return {
        message.message_id: json.loads(message.body)["state_id"]
        for message in received
        if message.routing_key == REJECTIONS
    }


def _cap(order: Placed, px: Fraction, power: Fraction) -> float:
    return float(power * order.cash / (px * MULTIPLIER))


@attrs.frozen
class _Expected:
    """A message that must come; its reward may be weighed with any of ``drawdowns``."""

    message: MessageSummary
    state_id: int
    drawdowns: frozenset[float] = frozenset()

    def difference(self, got: dict[str, Any]) -> str | None:
        """Return how a received message differs, None when it does not."""
        kind, ord_id, portions, gain = self.message
        closes = kind == "closure"
        if (got["okx_id"], got["state_id"], got["is_trade_closed"]) != (
            ord_id,
            self.state_id,
            closes,
        ):
            return f"{got}, not {kind} of {ord_id} (state {self.state_id})"
        if not closes:
            return None
        parts = [(name, part) for one in got["filled_portions"] for name, part in one.items()]
        if [name for name, _ in parts] != [name for name, _ in portions] or not all(
            math.isclose(a, b, abs_tol=1e-9) for (_, a), (_, b) in zip(parts, portions, strict=True)
        ):
            return f"portions {parts}, not {portions}"
        rewards = [gain * (1 - math.copysign(2 * abs(dd), gain)) for dd in self.drawdowns]
        if not any(math.isclose(got["reward"], reward, abs_tol=1e-9) for reward in rewards):
            return f"reward {got['reward']} of a gain of {gain}, drawdowns {sorted(self.drawdowns)[:SHOWN]}"
        return None


@attrs.define
class _Pushes:
    """The journal's position pushes, and where each trade id came first in anything else."""

    positions: list[tuple[int, int, float]] = attrs.Factory(list)
    """Sequence, trade id, ``uplRatio``."""
    first_seq: dict[str, int] = attrs.Factory(dict)

    @classmethod
    def read(cls, journal: Journal) -> _Pushes:
        pushes = cls()
        for seq, record in journal.tail(journal.first_seq - 1):
            text = record.raw.decode("utf-8", errors="replace").replace('\\"', '"')
            if record.kind == "push" and '"channel":"positions"' in text:
                pushes._take(seq, json.loads(text)["data"])
            else:
                for part in text.split('"tradeId":"')[1:]:
                    pushes.first_seq.setdefault(part.split('"', 1)[0], seq)
        return pushes

    def _take(self, seq: int, data: list[dict[str, str]]) -> None:
        for report in data:
            if report["tradeId"] and report["uplRatio"]:
                self.positions.append((seq, int(report["tradeId"]), float(report["uplRatio"])))

    def seen(self, trade_ids: set[int], closing: int) -> float:
        """Return the worst drawdown that the service certainly had on record before the close."""
        end = self.first_seq.get(str(closing), 0)
        seen = [ratio for seq, by, ratio in self.positions if by in trade_ids and seq < end]
        return min([0.0, *seen])


def _expected(truth: ExchangeLog, pushes: _Pushes) -> Iterator[_Expected]:
    """Yield the messages that follow from the exchange's fills.

    A reward depends on the drawdown that the service was informed of. Pushes are lost with their
    connection or with the process, so that is not always the exchange's worst one. It must be a value
    that the exchange's position really had in that trade, and no better than the worst one that the
    journal holds from before the close.
    """
    oracle = Oracle()
    trade_ids: set[int] = set()
    for fill in truth.fills:
        order = truth.orders[fill.ord_id]
        known = len(oracle.summaries)
        oracle.fill(
            TrueFill(fill.ord_id, order.sign, order.sz, fill.sz, fill.px, multiplier=MULTIPLIER)
        )
        for message in oracle.summaries[known:]:
            if message[0] == "execution":
                yield _Expected(message, order.state_id)
                continue
            priced = {ratio for by in trade_ids for ratio in truth.priced.get(by, ())}
            seen = pushes.seen(trade_ids, fill.trade_id)
            possible = {ratio for ratio in priced if ratio <= seen + 1e-12 and ratio < 0}
            yield _Expected(
                message, order.state_id, frozenset(possible | ({0.0} if seen == 0 else set()))
            )
            trade_ids = set()
        if oracle.position:
            trade_ids.add(fill.trade_id)
