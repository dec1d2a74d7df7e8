"""A start that a broker's configuration keeps from succeeding: one line, and no restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rabbitmq import RabbitNode
from tests.service.programs import broker_at, environment, exchange_at, run

pytestmark = pytest.mark.rabbitmq


def test_a_queue_of_somebody_else_is_bad_configuration(
    tmp_path: Path, rabbitmq_node: RabbitNode
) -> None:
    connection = rabbitmq_node.connect()
    queue = f"actions-{tmp_path.name}"
    connection.channel().queue_declare(queue, durable=True)
    connection.close()
    settings = {**exchange_at(9), **broker_at(rabbitmq_node.port), "OMS_ACTION_QUEUE": queue}
    ended = run("run", env=environment(tmp_path, **settings))
    assert ended.code == 78
    assert "Traceback" not in ended.text
    line = ended.err.splitlines()[-1]
    assert line.startswith(f"oms-trio: queue '{queue}' on 127.0.0.1")
    assert f"rabbitmqctl delete_queue {queue}" in line
