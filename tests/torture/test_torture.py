"""Nothing lost, nothing doubled: real processes, really killed. ``scripts/torture`` does more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.rabbitmq import RabbitNode
from tests.torture.conductor import Report, torture
from tests.torture.plan import RANDOM, Kill, Plan
from tests.torture.victim import POINTS, SABOTAGES

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(180)]

LIVES: dict[str, tuple[str, ...]] = {
    "ack_before_commit": ("after_receive",) * 4,
    "random_names": ("after_send_before_journal", "after_journal_before_ack") * 2,
    "outbox_in_memory": ("between_commit_and_publish",) * 3,
}
"""By sabotage: the kills within which it has to be seen."""


async def test_every_promise_holds_through_a_kill_at_every_point(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """All points once, some kills at random, and the broker killed on the way."""
    plan = Plan.draw(seed=2026, kills=len(POINTS) + 2)
    assert {kill.point for kill in plan.kills} == {*POINTS, RANDOM}
    report = await torture(plan, rabbitmq_node, tmp_path)
    assert not report.problems, report
    assert report.kills.total() == len(plan.kills)
    assert report.strikes["broker_kill"] == 1
    assert report.orders > 10
    assert report.fills > report.orders


async def test_every_promise_holds_through_kills_at_any_instant(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    random = Plan.draw(seed=7, kills=8, broker_kill=False)
    lives = tuple(Kill(RANDOM, 0, kill.after_s) for kill in random.kills)
    report = await torture(Plan(7, lives, None), rabbitmq_node, tmp_path)
    assert not report.problems, report
    assert report.kills == Counter({RANDOM: len(lives)})


async def test_what_breaks_a_promise_is_seen(rabbitmq_node: RabbitNode, tmp_path: Path) -> None:
    """The checks are worth something: each of three wrong services fails them."""
    reports: dict[str, Report] = {}

    async def run(wrong: str) -> None:
        lives = tuple(Kill(point, 1 + number % 3, 0.0) for number, point in enumerate(LIVES[wrong]))
        folder = tmp_path / wrong
        folder.mkdir()
        plan = Plan(1, lives, None, exchange_faults=False)
        reports[wrong] = await torture(plan, rabbitmq_node, folder, wrong=wrong, quiet_s=22.0)

    async with trio.open_nursery() as nursery:
        for wrong in SABOTAGES:
            nursery.start_soon(run, wrong)
    # Whether what was on its way when the process died was an action, or malformed, is chance.
    lost = str(reports["ack_before_commit"].problems)
    assert "neither ordered, refused nor dead" in lost or "malformed" in lost
    assert "orders and refusals for" in str(reports["random_names"].problems)
    # Executions are missing, or refusals, without which an action has no end.
    assert reports["outbox_in_memory"].problems
