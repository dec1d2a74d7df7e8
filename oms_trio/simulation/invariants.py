"""What must hold after every run, whatever struck: checked from outside, against the exchange's log.

1  an action becomes at most one order
2  every fill counts exactly once: our position is the exchange's
3  the agent is told exactly what the rules give for the exchange's own fills
4  a valid action is an order, a refusal or a dead letter; a malformed one is a dead letter
5  with every open order filled the position stays within the cap
6  no secret is in the journal, in a log or in a message
7  the journal's inputs give the recorded outputs and states again
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import itemgetter
from typing import Any

import attrs
import msgspec

from oms_trio.amqp.codec import REJECT_KEY
from oms_trio.core.model import PositionReport, Side, TradeId
from oms_trio.sim.values import Fill, Order
from oms_trio.simulation.agent import Act
from oms_trio.simulation.oracle import Message, Oracle, TrueFill
from oms_trio.simulation.replay import Replay
from oms_trio.simulation.world import SCOPE, SECRETS, World

ROUNDING = 1e-9
"""Rewards are floats made of exact sums in different ways."""


@attrs.frozen
class Violation:
    """A broken invariant (its number, or a word) and one line about it."""

    invariant: str
    what: str


@attrs.define
class Expected:
    """What the agent is owed, and which trade was open when."""

    states: dict[str, int]
    messages: list[Message] = attrs.Factory(list)
    behind: list[tuple[int, int, int]] = attrs.Factory(list)
    """By trade id of a match: the number of the trade behind it, and its direction."""
    shifted: set[int] = attrs.Factory(set)
    """Trades in which fills were booked out of the exchange's order, or somebody traded by hand:
    the exchange's own figures of profit and drawdown are about another position then."""

    def drawdowns(self, reports: Iterable[PositionReport], trade: int) -> Iterator[float]:
        """Give the loss ratios of the reports that are of this trade."""
        for report in reports:
            if report.upl_ratio is None or report.pos == 0 or report.trade_id is None:
                continue
            at = bisect_right(self.behind, int(report.trade_id), key=itemgetter(0)) - 1
            if at < 0:
                continue
            _, number, sign = self.behind[at]
            if number == trade and (report.pos > 0) is (sign > 0):
                yield report.upl_ratio


def state_id_of(order: Order) -> int:
    """Read the state id out of an order's name, as an outsider who knows the format."""
    return int(order.cl_ord_id[3:11], 16)


@attrs.define
class Auditor:
    """Holds a finished run against the invariants."""

    world: World
    acts: list[Act]
    replay: Replay
    found: list[Violation] = attrs.Factory(list)

    def audit(self) -> list[Violation]:
        """Check everything and return what is broken."""
        heard = {message.message_id: message for message in self.world.heard}.values()
        told = [msgspec.json.decode(m.body) | {"message_id": m.message_id} for m in heard]
        refusals = [
            text
            for text, message in zip(told, heard, strict=True)
            if message.routing_key == REJECT_KEY
        ]
        executions = [
            text
            for text, message in zip(told, heard, strict=True)
            if message.routing_key != REJECT_KEY
        ]
        orders = [o for o in self.world.exchange.truth.orders() if o.tag == SCOPE.tag]
        self._one_order_each(orders)
        self._same_position()
        self._told_exactly(executions, orders)
        self._every_action(orders, refusals)
        self._within_cap()
        self._no_secret()
        self._same_again()
        return self.found

    def _break(self, invariant: int | str, what: str) -> None:
        self.found.append(Violation(str(invariant), what))

    # 1 and 2

    def _one_order_each(self, orders: list[Order]) -> None:
        names = Counter(order.cl_ord_id for order in orders)
        states = Counter(map(state_id_of, orders))
        acted = {act.state_id for act in self.acts}
        for name, count in names.items():
            if count > 1:
                self._break(1, f"{count} orders with the name {name}")
        for state_id, count in states.items():
            if count > 1:
                self._break(1, f"{count} orders for state_id {state_id}")
            if state_id not in acted:
                self._break(1, f"an order for state_id {state_id}, which nobody acted in")

    def _same_position(self) -> None:
        ours, theirs = self.replay.state.book.position, self.world.exchange.engine.ledger.pos
        if ours != theirs:
            self._break(2, f"our position is {ours}, the exchange's {theirs}")

    # 3

    def _told_exactly(self, executions: list[dict[str, Any]], orders: list[Order]) -> None:
        fills = self._in_order()
        expected = self._expected(fills, orders)
        closures = iter(self.replay.closed)
        trade = 0
        for number, (text, message) in enumerate(zip(executions, expected.messages, strict=False)):
            kind, ord_id, portions, gain = message
            said = (text["is_trade_closed"], text["okx_id"], text["state_id"])
            if said != (kind == "closure", ord_id, expected.states[ord_id]):
                self._break(3, f"message {number} is {text}, and should be {kind} of {ord_id}")
                return
            if kind == "closure":
                if text["filled_portions"] != [{name: part} for name, part in portions]:
                    self._break(3, f"portions {text['filled_portions']}, not {portions}")
                closed = next(closures, None)
                if closed is None or closed.message_id != text["message_id"]:
                    self._break(3, f"closure {text['message_id']} is not in the journal's order")
                    return
                if trade not in expected.shifted:
                    must = expected.drawdowns(self.replay.pushed[: closed.pushed], trade)
                    may = expected.drawdowns(self.replay.asked[: closed.asked], trade)
                    self._reward(text, gain, must, may)
                trade += 1
        if len(executions) != len(expected.messages):
            self._break(3, f"{len(executions)} messages instead of {len(expected.messages)}")

    def _in_order(self) -> list[Fill]:
        """Return the fills in the order of the exchange, or as booked where that was unknowable."""
        happened = [fill for fill in self.world.exchange.truth.fills() if fill.tag == SCOPE.tag]
        displaced = self.world.faults.displaced
        if not displaced:
            return happened
        places = {fill.trade_id: place for place, fill in enumerate(self.replay.booked)}
        if set(places) != {fill.trade_id for fill in happened}:
            return happened
        booked = sorted(happened, key=lambda fill: places[TradeId(fill.trade_id)])
        rest = [[f for f in fills if f.trade_id not in displaced] for fills in (happened, booked)]
        return booked if rest[0] == rest[1] else happened

    def _touched(self) -> set[int]:
        """Return our matches while, or after, somebody traded by hand since the one before."""
        touched = set()
        by_hand = Fraction(0)
        lately = False
        for fill in self.world.exchange.truth.fills():
            if fill.tag != SCOPE.tag:
                by_hand += fill.side.sign * Fraction(fill.sz)
                lately = True
            else:
                if by_hand or lately:
                    touched.add(fill.trade_id)
                lately = False
        return touched

    def _expected(self, fills: list[Fill], orders: list[Order]) -> Expected:
        """Let the oracle say what is owed for these fills."""
        sizes = {order.ord_id: Fraction(order.sz) for order in orders}
        oracle = Oracle(Fraction(self.world.exchange.instrument.multiplier))
        expected = Expected({order.ord_id: state_id_of(order) for order in orders})
        touched = self._touched()
        trade = 0
        balance = 0
        usual = sorted(fills, key=lambda fill: fill.trade_id)
        for fill, due in zip(fills, usual, strict=True):
            told = len(oracle.messages)
            size, sz, px = sizes[fill.ord_id], Fraction(fill.sz), Fraction(fill.px)
            before = trade
            oracle.fill(TrueFill(fill.ord_id, fill.side.sign, size, sz, px))
            trade += sum(1 for message in oracle.messages[told:] if message[0] == "closure")
            position = oracle.position
            sign = (position > 0) - (position < 0)
            expected.behind.append((fill.trade_id, trade, sign))
            balance += fill.trade_id - due.trade_id
            if balance or fill is not due or fill.trade_id in touched:
                expected.shifted |= {before, trade}
        expected.messages = oracle.messages
        expected.behind.sort()
        return expected

    def _reward(
        self, text: dict[str, Any], gain: float, must: Iterable[float], may: Iterable[float]
    ) -> None:
        worst = min([0.0, *must])
        candidates = [worst, *(ratio for ratio in may if ratio < worst)]
        sign = (gain < 0) - (gain > 0)
        rewards = [gain * (1 + sign * 2 * abs(ratio)) for ratio in candidates]
        reward = text["reward"]
        if not any(math.isclose(reward, r, rel_tol=ROUNDING, abs_tol=1e-7) for r in rewards):
            self._break(
                3, f"reward {reward} of {text['message_id']}, not {rewards[0]} (drawdown {worst})"
            )

    # 4

    def _every_action(self, orders: list[Order], refusals: list[dict[str, Any]]) -> None:
        dead = Counter(letter.body for letter in self.world.broker.dead_letters)
        ordered = set(map(state_id_of, orders))
        refused = {text["state_id"] for text in refusals}
        for act in {(act.body, act.message_id): act for act in self.acts}.values():
            if act.state_id is None:
                if not dead[act.body]:
                    self._break(4, f"malformed {act.body.hex()} is no dead letter")
            elif act.state_id not in ordered | refused and not dead[act.body]:
                self._break(4, f"state_id {act.state_id} is neither order, refusal nor dead letter")
        for state_id in sorted(ordered & refused):
            self._break(4, f"state_id {state_id} was refused, and is an order")

    # 5

    def _within_cap(self) -> None:
        position = Fraction(0)
        open_orders: dict[str, Order] = {}
        for happened in self.world.exchange.truth:
            order = happened.order
            if order.tag != SCOPE.tag:
                continue
            new = order.ord_id not in open_orders and not order.acc_fill_sz and order.is_open
            if happened.fill is not None:
                position += order.side.sign * Fraction(happened.fill.sz)
            if order.is_open:
                open_orders[order.ord_id] = order
            else:
                open_orders.pop(order.ord_id, None)
            if not new:
                continue
            cap = self.world.caps.get(order.cl_ord_id)
            if cap is None:
                self._break(5, f"order {order.cl_ord_id} was never decided")
                continue
            reached = order.side.sign * position + sum(
                Fraction(other.remaining)
                for other in open_orders.values()
                if other.side is order.side
            )
            if reached > cap:
                side = "long" if order.side is Side.BUY else "short"
                self._break(
                    5, f"{float(reached)} contracts {side} with {order.cl_ord_id}, cap {float(cap)}"
                )

    # 6 and 7

    def _no_secret(self) -> None:
        places = {
            path.name: path.read_bytes() for path in sorted(self.world.room.folder.iterdir())
        } | {"messages": b"".join(message.body for message in self.world.heard)}
        for place, content in places.items():
            if any(secret.encode() in content for secret in SECRETS):
                self._break(6, f"a secret is in {place}")

    def _same_again(self) -> None:
        if self.replay.differing:
            seqs = self.replay.differing
            self._break(7, f"{len(seqs)} records have other effects, the first is {seqs[0]}")
        for life in self.world.lives:
            seq, digest = life.recovered
            if digest and self.replay.digests.get(seq) != digest:
                self._break(7, f"a life began with another state than record {seq} leaves")
                return
