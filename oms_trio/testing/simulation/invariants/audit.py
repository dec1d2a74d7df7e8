"""Invariants that are checked after a run, from outside, against the exchange's own log.

1  an action becomes at most one order
2  every fill counts exactly once: our position is the exchange's
3  the agent receives exactly the messages that follow from the exchange's fills
4  a valid action becomes an order or a rejection, a malformed one a dead letter
6  no secret is in the journal, in a log event or in a message
7  the journal's inputs give the recorded effects and states again

The others are checked while a run goes on (``monitor``). docs/simulation.md lists all of them.
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
from oms_trio.testing.simulation.invariants.expected_messages import expected_messages, state_id_of
from oms_trio.testing.simulation.invariants.violation import Violation
from oms_trio.testing.simulation.random_agent import PublishedAction
from oms_trio.testing.simulation.replayed import JournalReplay
from oms_trio.testing.simulation.run_settings import CONTEXT
from oms_trio.testing.simulation.world import SECRETS, SimulatedWorld

ROUNDING = 1e-9
"""Service and oracle compute rewards exactly, and round them to floats in different places."""


@attrs.frozen
class ActionCount:
    """How many actions an agent has published in one state.

    Messages without a ``message_id`` and with equal bytes count as at least one action and at most
    as many as there were: a redelivered one cannot be told from another one.
    """

    least: int
    most: int
    bodies: frozenset[bytes]


def count_actions(published: Iterable[PublishedAction]) -> dict[int, ActionCount]:
    """Count the actions of each state."""
    states: dict[int, list[PublishedAction]] = {}
    for action in published:
        if action.state_id is not None:
            states.setdefault(action.state_id, []).append(action)
    found = {}
    for state_id, actions in states.items():
        named = {(one.message_id, one.body) for one in actions if one.message_id is not None}
        unnamed = [one.body for one in actions if one.message_id is None]
        bodies = frozenset(one.body for one in actions)
        found[state_id] = ActionCount(
            len(named) + len(set(unnamed)), len(named) + len(unnamed), bodies
        )
    return found


@attrs.define
class Auditor:
    """Checks the invariants of a finished run; what is broken is in ``found``."""

    world: SimulatedWorld
    published: list[PublishedAction]
    replay: JournalReplay
    found: list[Violation] = attrs.Factory(list)
    actions: dict[int, ActionCount] = attrs.field(init=False)
    """By state id."""

    def __attrs_post_init__(self) -> None:
        """Count the actions without their repeats."""
        self.actions = count_actions(self.published)

    def audit(self) -> list[Violation]:
        """Check all invariants and return what is broken."""
        messages = {message.message_id: message for message in self.world.received}.values()
        rejections: list[dict[str, Any]] = []
        executions: list[dict[str, Any]] = []
        for message in messages:
            kind = rejections if message.routing_key == REJECT_KEY else executions
            header = {"message_id": message.message_id, "cause": message.cause}
            kind.append(msgspec.json.decode(message.body) | header)
        orders = [o for o in self.world.exchange.ground_truth.orders() if o.tag == CONTEXT.tag]
        # Orders that close the position for the operator come from no action.
        for_agent = [order for order in orders if not order.reduce_only]
        self._check_orders(for_agent)
        self._check_position()
        self._check_messages(executions)
        self._check_actions(for_agent, rejections)
        self._check_secrets()
        self._check_replay()
        return self.found

    def _break(self, invariant: int | str, what: str) -> None:
        self.found.append(Violation(str(invariant), what))

    # 1 and 2

    def _check_orders(self, orders: list[ExchangeOrder]) -> None:
        names = Counter(order.cl_ord_id for order in orders)
        for name, count in names.items():
            if count > 1:
                self._break(1, f"{count} orders have the clOrdId {name}")
        for state_id, count in Counter(map(state_id_of, orders)).items():
            most = self.actions[state_id].most if state_id in self.actions else 0
            if count > most:
                self._break(1, f"{count} orders came of {most} actions in state {state_id}")

    def _check_position(self) -> None:
        ours, theirs = self.replay.state.book.position, self.world.exchange.engine.ledger.pos
        if ours != theirs:
            self._break(2, f"our position is {ours}, the exchange's {theirs}")

    # 3

    def _check_messages(self, executions: list[dict[str, Any]]) -> None:
        expected = expected_messages(self.world, self.replay)
        closures = iter(self.replay.closed)
        for number, (got, message) in enumerate(zip(executions, expected.messages, strict=False)):
            closes = message.kind == "closure"
            fields = (got["is_trade_closed"], got["okx_id"], got["state_id"])
            if fields != (closes, message.ord_id, message.state_id):
                self._break(3, f"message {number} is {got}; expected {message}")
                return
            if got["cause"] != message.cause:
                self._break(
                    3, f"message {number} has the cause {got['cause']!r}; expected {message}"
                )
            if not closes:
                continue
            if got["filled_portions"] != [{name: part} for name, part in message.portions]:
                self._break(
                    3, f"filled_portions are {got['filled_portions']}; expected {message.portions}"
                )
            closed = next(closures, None)
            if closed is None or closed.message_id != got["message_id"]:
                self._break(3, f"closure {got['message_id']} did not come in the journal's order")
                return
            if message.trade not in expected.inexact_trades:
                must = expected.drawdowns(self.replay.pushed[: closed.pushed], message.trade)
                may = expected.drawdowns(self.replay.asked[: closed.asked], message.trade)
                self._check_reward(got, message.gains, must, may)
        if len(executions) != len(expected.messages):
            self._break(
                3,
                f"the agent received {len(executions)} messages; expected {len(expected.messages)}",
            )

    def _check_reward(
        self,
        got: dict[str, Any],
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
        reward = got["reward"]
        if not any(math.isclose(reward, r, rel_tol=ROUNDING, abs_tol=1e-7) for r in rewards):
            self._break(
                3,
                f"the reward of {got['message_id']} is {reward}; expected {rewards[0]} (drawdown {worst})",
            )

    # 4

    def _check_actions(self, orders: list[ExchangeOrder], rejections: list[dict[str, Any]]) -> None:
        dead = Counter(letter.body for letter in self.world.broker.dead_letters)
        deleted = Counter(body for body, _ in self.world.deleted)
        malformed = [one.body for one in self.published if one.state_id is None]
        for body in dict.fromkeys(malformed):
            if not dead[body] and not deleted[body]:
                self._break(4, f"malformed {body.hex()} is not among the dead letters")
        ended = Counter(map(state_id_of, orders)) + Counter(one["state_id"] for one in rejections)
        for state_id, actions in self.actions.items():
            lost = sum(deleted[body] for body in actions.bodies)
            if ended[state_id] < actions.least - lost:
                self._break(
                    4,
                    f"{ended[state_id]} orders and rejections came of {actions.least} actions in state "
                    f"{state_id}",
                )
            if ended[state_id] > actions.most:
                self._break(
                    4,
                    f"{ended[state_id]} orders and rejections came of {actions.most} actions in state "
                    f"{state_id}",
                )

    # 6 and 7

    def _check_secrets(self) -> None:
        places = {
            path.name: path.read_bytes()
            for path in sorted(self.world.disk.folder.iterdir())
            if path.is_file()
        } | {"messages": b"".join(message.body for message in self.world.received)}
        for place, content in places.items():
            if any(secret.encode() in content for secret in SECRETS):
                self._break(6, f"a secret is in {place}")

    def _check_replay(self) -> None:
        if self.replay.differing:
            seqs = self.replay.differing
            self._break(
                7, f"{len(seqs)} records have other effects when replayed, the first is {seqs[0]}"
            )
        for process in self.world.processes:
            seq, digest = process.recovered
            if digest and self.replay.digests.get(seq) != digest:
                self._break(
                    7, f"a process recovered another state than a replay has after record {seq}"
                )
                return
