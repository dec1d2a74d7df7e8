"""What differs from run to run besides its faults: rules, habits of the agent, and clocks."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

import attrs

from oms_trio.core.model import Limits, RewardUnit, Rules
from oms_trio.service.journaled_inputs import DecodeContext

CONTEXT: Final = DecodeContext("BTC-USDT-SWAP", "omstrio")
RULES: Final = Rules(
    leverage=Decimal(100),
    step=Decimal("0.1"),
    max_margin_fraction=Decimal("0.01"),
    max_open_orders=12,
    max_order_age_ns=90_000_000_000,
    max_action_age_ns=5_000_000_000,
    reward_unit=RewardUnit.USDT,
    tag=CONTEXT.tag,
)
"""Limits are low, so that orders reach their age and number, and the cap, within minutes."""

COLLAR: Final = Decimal("0.02")
"""The service's default: how far from the mark price an order may be priced."""

MANY: Final = 300
"""The service's default: the most open orders. Reconciling so many after a lost session takes long."""


@attrs.frozen
class RunSettings:
    """The settings of one run."""

    rules: Rules = RULES
    crowds: bool = False
    """The agent sometimes crowds the book with small orders, up to the limit of open ones."""
    forgetful: bool = False
    """The agent sometimes restarts and counts its state ids from 1 again."""
    keep_s: float | None = None
    """How long the journal keeps records that a start does not need; None: always."""
    drift_ppm: tuple[int, int] = (0, 0)
    """Microseconds per second that the exchange's and the machine's wall clock gain."""


def draw_settings(random: Random) -> RunSettings:
    """Draw the settings of a run from its seed."""
    crowds = random.random() < 0.2
    rules = attrs.evolve(
        RULES,
        reward_unit=random.choice((RewardUnit.USDT, RewardUnit.USDT, *RewardUnit)),
        reward_net=random.random() < 0.3,
        limits=Limits(price_collar=COLLAR if random.random() < 0.4 else None),
    )
    if crowds:
        rules = attrs.evolve(rules, max_open_orders=MANY, max_order_age_ns=None)
    drifts = (0, random.randint(-200, 200))
    return RunSettings(
        rules=rules,
        crowds=crowds,
        forgetful=random.random() < 0.3,
        keep_s=random.choice((None, 60.0, 900.0)),
        drift_ppm=(random.choice(drifts), random.choice(drifts)),
    )
