"""What must hold after every run, whatever struck: checked from outside, against the exchange's log.

1  an action becomes at most one order
2  every fill counts exactly once: our position is the exchange's
3  the agent is told exactly what the rules give for the exchange's own fills
4  a valid action is an order or a rejection; a malformed one is a dead letter
6  no secret is in the journal, in a log or in a message
7  the journal's inputs give the recorded outputs and states again

The others are watched while a run goes on (``monitor``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs
import msgspec

from oms_trio.amqp.codec import REJECT_KEY
from oms_trio.testing.okx_server.values import ExchangeOrder
from oms_trio.testing.simulation.agent import Act
from oms_trio.testing.simulation.invariants.owed import owed, state_id_of
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.replayed import Replay
from oms_trio.testing.simulation.setting import CONTEXT
from oms_trio.testing.simulation.world import SECRETS, World

ROUNDING = 1e-9
"""Rewards are floats made of exact sums in different ways."""


@attrs.frozen
class Actions:
    """How many actions an agent has taken in one state.

    Equal bytes without a ``message_id`` are as many actions as they came, or as few as one: a
    redelivered one cannot be told from the other.
    """

    least: int
    most: int
    bodies: frozenset[bytes]


def actions_of(acts: Iterable[Act]) -> dict[int, Actions]:
    """Count the actions of each state."""
    states: dict[int, list[Act]] = {}
    for act in acts:
        if act.state_id is not None:
            states.setdefault(act.state_id, []).append(act)
    found = {}
    for state_id, taken in states.items():
        named = {(act.message_id, act.body) for act in taken if act.message_id is not None}
        unnamed = [act.body for act in taken if act.message_id is None]
        bodies = frozenset(act.body for act in taken)
        found[state_id] = Actions(len(named) + len(set(unnamed)), len(named) + len(unnamed), bodies)
    return found


@attrs.define
class Auditor:
    """Holds a finished run against the invariants."""

    world: World
    acts: list[Act]
    replay: Replay
    found: list[Violation] = attrs.Factory(list)
    actions: dict[int, Actions] = attrs.field(init=False)
    """By state id."""

    def __attrs_post_init__(self) -> None:
        """Tell the actions from their repeats."""
        self.actions = actions_of(self.acts)

    def audit(self) -> list[Violation]:
        """Check everything and return what is broken."""
        heard = {message.message_id: message for message in self.world.heard}.values()
        told = [
            msgspec.json.decode(m.body) | {"message_id": m.message_id, "cause": m.cause}
            for m in heard
        ]
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
        orders = [o for o in self.world.exchange.ground_truth.orders() if o.tag == CONTEXT.tag]
        # Orders that close the position for the operator have no action behind them.
        for_agent = [order for order in orders if not order.reduce_only]
        self._one_order_each(for_agent)
        self._same_position()
        self._told_exactly(executions)
        self._every_action(for_agent, refusals)
        self._no_secret()
        self._same_again()
        return self.found

    def _break(self, invariant: int | str, what: str) -> None:
        self.found.append(Violation(str(invariant), what))

    # 1 and 2

    def _one_order_each(self, orders: list[ExchangeOrder]) -> None:
        names = Counter(order.cl_ord_id for order in orders)
        for name, count in names.items():
            if count > 1:
                self._break(1, f"{count} orders with the name {name}")
        for state_id, count in Counter(map(state_id_of, orders)).items():
            most = self.actions[state_id].most if state_id in self.actions else 0
            if count > most:
                self._break(1, f"{count} orders for {most} actions in state {state_id}")

    def _same_position(self) -> None:
        ours, theirs = self.replay.state.book.position, self.world.exchange.engine.ledger.pos
        if ours != theirs:
            self._break(2, f"our position is {ours}, the exchange's {theirs}")

    # 3

    def _told_exactly(self, executions: list[dict[str, Any]]) -> None:
        due = owed(self.world, self.replay)
        closures = iter(self.replay.closed)
        for number, (text, message) in enumerate(zip(executions, due.messages, strict=False)):
            closes = message.kind == "closure"
            said = (text["is_trade_closed"], text["okx_id"], text["state_id"])
            if said != (closes, message.ord_id, message.state_id):
                self._break(3, f"message {number} is {text}, and should be {message}")
                return
            if text["cause"] != message.cause:
                self._break(3, f"message {number} has the cause {text['cause']!r}: {message}")
            if not closes:
                continue
            if text["filled_portions"] != [{name: part} for name, part in message.portions]:
                self._break(3, f"portions {text['filled_portions']}, not {message.portions}")
            closed = next(closures, None)
            if closed is None or closed.message_id != text["message_id"]:
                self._break(3, f"closure {text['message_id']} is not in the journal's order")
                return
            if message.trade not in due.shifted:
                must = due.drawdowns(self.replay.pushed[: closed.pushed], message.trade)
                may = due.drawdowns(self.replay.asked[: closed.asked], message.trade)
                self._reward(text, message.gains, must, may)
        if len(executions) != len(due.messages):
            self._break(3, f"{len(executions)} messages instead of {len(due.messages)}")

    def _reward(
        self,
        text: dict[str, Any],
        gains: tuple[float, ...],
        must: Iterable[float],
        may: Iterable[float],
    ) -> None:
        worst = min([0.0, *must])
        candidates = [worst, *(ratio for ratio in may if ratio < worst)]
        rewards = [
            gain * (1 + ((gain < 0) - (gain > 0)) * 2 * abs(ratio))
            for gain in gains
            for ratio in candidates
        ]
        reward = text["reward"]
        if not any(math.isclose(reward, r, rel_tol=ROUNDING, abs_tol=1e-7) for r in rewards):
            self._break(
                3, f"reward {reward} of {text['message_id']}, not {rewards[0]} (drawdown {worst})"
            )

    # 4

    def _every_action(self, orders: list[ExchangeOrder], refusals: list[dict[str, Any]]) -> None:
        dead = Counter(letter.body for letter in self.world.broker.dead_letters)
        gone = Counter(body for body, _ in self.world.gone)
        for act in {(act.body, act.message_id): act for act in self.acts}.values():
            if act.state_id is None and not dead[act.body] and not gone[act.body]:
                self._break(4, f"malformed {act.body.hex()} is no dead letter")
        ended = Counter(map(state_id_of, orders)) + Counter(t["state_id"] for t in refusals)
        for state_id, actions in self.actions.items():
            lost = sum(gone[body] for body in actions.bodies)
            if ended[state_id] < actions.least - lost:
                self._break(
                    4,
                    f"{ended[state_id]} orders and rejections for {actions.least} actions in state "
                    f"{state_id}",
                )
            if ended[state_id] > actions.most:
                self._break(
                    4,
                    f"{ended[state_id]} orders and rejections for {actions.most} actions in state "
                    f"{state_id}",
                )

    # 6 and 7

    def _no_secret(self) -> None:
        places = {
            path.name: path.read_bytes()
            for path in sorted(self.world.room.folder.iterdir())
            if path.is_file()
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
