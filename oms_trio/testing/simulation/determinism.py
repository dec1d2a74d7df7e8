"""One seed decides everything: the order in which Trio runs tasks, and every random byte.

Trio can schedule deterministically, for Hypothesis; the switch and its generator are
private, so ``check_scheduler`` raises when a release of Trio has changed them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import trio
import trio.testing

_RUN: Final[Any] = trio._core._run  # noqa: SLF001 - private, hence check_scheduler

WALL_CLOCK_START_NS: Final = 1_789_000_000_000_000_000
"""Unix time at which every simulation begins; the value is arbitrary."""


class SchedulerChangedError(RuntimeError):
    """This release of Trio lacks what a repeatable run needs."""


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Make ``trio.run`` inside the block depend on ``seed`` alone.

    WebSocket masks and handshake keys come from ``os.urandom``, protocol pings of trio-websocket
    from the global generator; both are drawn from the seed. Only one block at a time.
    """
    generator = Random(f"bytes {seed}")  # noqa: S311 - it repeats a run and protects nothing
    kept = _RUN._ALLOW_DETERMINISTIC_SCHEDULING, _RUN._r.getstate()  # noqa: SLF001 - see the top
    urandom, state = os.urandom, random.getstate()
    _RUN._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    _RUN._r.seed(f"scheduler {seed}")  # noqa: SLF001
    random.seed(f"global {seed}")
    os.urandom = generator.randbytes
    try:
        yield
    finally:
        os.urandom = urandom
        random.setstate(state)
        _RUN._ALLOW_DETERMINISTIC_SCHEDULING = kept[0]  # noqa: SLF001
        _RUN._r.setstate(kept[1])  # noqa: SLF001


def check_scheduler() -> None:
    """Check that a seed decides the order of tasks, and that another seed gives another order.

    Raises:
        SchedulerChangedError: with this release of Trio it does not.
    """
    for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r"):
        if not hasattr(_RUN, name):
            raise SchedulerChangedError(
                f"trio {trio.__version__} has no trio._core._run.{name}, which repeatable simulations "
                "need; adapt oms_trio/testing/simulation/determinism.py, or install the locked release"
            )
    orders = {seed: {_order_of_tasks(seed) for _ in range(3)} for seed in range(4)}
    repeats = all(len(found) == 1 for found in orders.values())
    differs = len({order for found in orders.values() for order in found}) > 1
    if not repeats or not differs:
        raise SchedulerChangedError(
            f"trio {trio.__version__} no longer orders tasks by the seed of its generator; adapt "
            "oms_trio/testing/simulation/determinism.py, or install the locked release"
        )


def _order_of_tasks(seed: int) -> tuple[int, ...]:
    order: list[int] = []

    async def step(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(step, number)

    with repeatable(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return tuple(order)
