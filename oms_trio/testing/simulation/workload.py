"""How much happens in a run: how busy its agent and its market are, and how often faults come.

The code that runs is the same with every workload. What differs is how much happens in a simulated
hour, and so how many simulated hours a second of computing covers.
"""

from __future__ import annotations

from typing import Final

import attrs

Mood = tuple[float, float]
"""How busy the agent is: mean seconds between two actions, and mean seconds until it changes."""


@attrs.frozen(kw_only=True)
class Workload:
    """One degree of density. All times are in virtual seconds."""

    name: str
    fault_every_s: float
    """Mean time between faults, not counting what each waits for its moment."""
    patience_s: float
    """How long a fault waits for its moment; after that it comes anyway."""
    moods: tuple[Mood, ...]
    market_s: float
    """Time between two moves of the price."""
    crowds: float
    """The chance that a mood begins with a crowd of small orders, in runs that have crowds."""
    step_ticks: int
    """The largest single move of the price, in ticks."""
    push_s: float | None = None
    """Time between pushes of position and account while nothing changes; None: as subscribed."""
    check_s: float = 60.0
    """Time between two comparisons of everything with the exchange by the service."""
    quiet_s: float = 1.0
    """Time between ticks of the trading state while nothing is due."""


BUSY: Final = Workload(
    name="busy",
    fault_every_s=25.0,
    patience_s=30.0,
    moods=((0.3, 8.0), (4.0, 120.0), (25.0, 600.0), (600.0, 1800.0)),
    # A real price moves more often, but what matters to the service happens within milliseconds of
    # an order's life, whatever the price does.
    market_s=1.0,
    crowds=0.2,
    step_ticks=30,
)
"""About a hundred faults and actions an hour, so that rare things coincide."""

HARSH: Final = attrs.evolve(
    BUSY, name="harsh", fault_every_s=6.0, moods=((0.3, 8.0), (3.0, 120.0), (12.0, 300.0))
)
"""More faults, and an agent that never rests: a mutant shows itself only around faults."""

CALM: Final = Workload(
    name="calm",
    fault_every_s=240.0,
    patience_s=600.0,
    moods=((0.3, 8.0), (20.0, 300.0), (240.0, 3600.0), (3600.0, 14400.0)),
    market_s=20.0,
    crowds=0.5,
    step_ticks=130,
    push_s=90.0,
    check_s=900.0,
    quiet_s=30.0,
)
"""For runs of days: an agent that mostly rests, and a fault every few minutes, timed to the moments
in which something happens."""

WORKLOADS: Final = {workload.name: workload for workload in (BUSY, HARSH, CALM)}
