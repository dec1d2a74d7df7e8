"""The journal of a live run, with faults and two kills, gives the same messages again."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from random import Random

import trio

from oms_trio.amqp.codec import encode_action
from oms_trio.core.model import OrderType
from oms_trio.journal.journal import Journal
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.report.summary import Summary
from oms_trio.replay.verify import Verifier
from oms_trio.service.runtime import JOURNAL
from oms_trio.service.state_codec import digest
from tests.rabbitmq import RabbitNode
from tests.service.producer import PikaAgent, agent_on
from tests.service.programs import broker_at, environment, run, running, simulated_exchange

RUNS = 3
ACTIONS = 45
"""In each run of the service."""

PAUSE_S = 0.03
READY_S = 60.0
"""A fault lasts 8 s, and the pause before the next attempt can be as long as all before it."""

SETTLE_S = 3.0
"""A request to the exchange that a fault has hit is repeated within this time."""


def act(agent: PikaAgent, run_number: int, random: Random) -> None:
    """Publish actions around the market, so that many of them fill and trades close."""
    for number in range(ACTIONS):
        state_id = run_number * ACTIONS + number
        order_type = random.choice((OrderType.MARKET, OrderType.LIMIT))
        price = random.choice((-1, 1)) * random.uniform(1e-6, 0.05)
        body = encode_action(state_id, order_type, price, random.uniform(0.2, 2), Decimal(67_000))
        agent.publish([(f"run-{state_id}", body)])
        time.sleep(PAUSE_S)


async def test_live_run_with_faults_and_kills_replays_bit_for_bit(
    rabbitmq_node: RabbitNode, tmp_path: Path
) -> None:
    """Every message of all three runs, in order, and the digest of the running service's state."""
    random = Random(5)
    state = tmp_path / "state"
    faults = ("--faults", "30", "--fault-seconds", "8", "--fault-seed", "5")
    with (
        agent_on(rabbitmq_node, "replayed") as agent,
        simulated_exchange(tmp_path, *faults) as exchange,
    ):
        settings = {**exchange, **broker_at(rabbitmq_node.port), "OMS_STATE_DIR": str(state)}
        env = environment(tmp_path, **settings)
        for run_number in range(RUNS):
            with running("run", env=env, output=tmp_path / f"run-{run_number}.log") as program:
                program.wait_for(r"\bready\b", patience_s=READY_S)
                act(agent, run_number, random)
                if run_number == RUNS - 1:
                    # The snapshot at the end is written only when no request is open.
                    await trio.sleep(SETTLE_S)
                    assert program.stop().code == 0
        received = {
            message.properties.message_id: message.body.decode() for message in agent.hear()
        }

    replayed = run("replay", str(state), "--messages", env=env)
    assert replayed.code == 0, replayed.text
    assert replayed.out.splitlines() == list(received.values())
    verified = run("replay", str(state), "--verify", env=env)
    assert (verified.code, verified.err) == (0, "")
    assert verified.out.startswith("verified: ")

    with Journal.open(state / JOURNAL, read_only=True) as journal:
        snapshot = journal.latest_snapshot()
        assert snapshot is not None
        assert snapshot.seq == journal.last_seq
    with open_recording(state) as recording:
        verifier, summary = Verifier(recording.digests), Summary()
        ended = await play(recording, [verifier, summary])
        assert verifier.digests_compared >= 1
        assert digest(ended) == snapshot.digest
    assert summary.fills > 20
    assert dict(summary.rows())["starts"] == str(RUNS)
    assert verifier.outputs > len(received) > 20
