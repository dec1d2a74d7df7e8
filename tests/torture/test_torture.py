"""Nothing is lost or doubled when real processes are killed. ``scripts/torture`` does more of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.rabbitmq import RabbitNode
from tests.torture.conductor import TortureReport, torture
from tests.torture.plan import RANDOM, PlannedKill, TorturePlan
from tests.torture.victim import POINTS, SABOTAGES

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(180)]

KILLS: dict[str, tuple[str, ...]] = {
    "ack_before_commit": ("after_receive",) * 4,
    "random_names": ("after_send_before_journal", "after_journal_before_ack") * 2,
    "outbox_in_memory": ("between_commit_and_publish",) * 3,
}
"""By sabotage: the kills after which it must have been found."""


async def test_nothing_is_lost_or_doubled_by_a_kill_at_every_point(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """Every point once, some kills at random, and one kill of the broker."""
    plan = TorturePlan.draw(seed=2026, kills=len(POINTS) + 2)
    assert {kill.point for kill in plan.kills} == {*POINTS, RANDOM}
    report = await torture(plan, rabbitmq_node, tmp_path)
    assert not report.problems, report
    assert report.kills.total() == len(plan.kills)
    assert report.faults["broker_kill"] == 1
    assert report.orders > 10
    assert report.fills > report.orders


async def test_nothing_is_lost_or_doubled_by_kills_at_random(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    random = TorturePlan.draw(seed=7, kills=8, broker_kill=False)
    kills = tuple(PlannedKill(RANDOM, 0, kill.after_s) for kill in random.kills)
    report = await torture(TorturePlan(7, kills, None), rabbitmq_node, tmp_path)
    assert not report.problems, report
    assert report.kills == Counter({RANDOM: len(kills)})


async def test_checks_find_a_service_that_loses_or_doubles(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """Each of three wrong services fails the checks."""
    reports: dict[str, TortureReport] = {}

    async def run(wrong: str) -> None:
        kills = tuple(
            PlannedKill(point, 1 + number % 3, 0.0) for number, point in enumerate(KILLS[wrong])
        )
        folder = tmp_path / wrong
        folder.mkdir()
        plan = TorturePlan(1, kills, None, exchange_faults=False)
        reports[wrong] = await torture(plan, rabbitmq_node, folder, wrong=wrong, quiet_s=22.0)

    async with trio.open_nursery() as nursery:
        for wrong in SABOTAGES:
            nursery.start_soon(run, wrong)
    # Whether the action on its way was a valid one when the process was killed is chance.
    lost = str(reports["ack_before_commit"].problems)
    assert "without an order, a rejection or a dead letter" in lost or "malformed" in lost
    assert "orders and rejections for" in str(reports["random_names"].problems)
    # Executions are missing, or rejections.
    assert reports["outbox_in_memory"].problems
