"""How dense a run is: how busy its agent and market are, and how often something breaks.

The code is the same at every pace. What differs is how much happens in an hour, and so how many
hours a second of computing lasts.
"""

from __future__ import annotations

from typing import Final

import attrs

Mood = tuple[float, float]
"""How busy the agent is: the mean seconds between its actions, and how long that lasts."""


@attrs.frozen(kw_only=True)
class Pace:
    """Times in seconds."""

    name: str
    strike_every_s: float
    """Mean time between faults, without what each waits for its moment."""
    patience_s: float
    """How long a strike waits for its moment; then it comes anyway."""
    moods: tuple[Mood, ...]
    market_s: float
    """The market moves this often."""
    crowds: float
    """The chance that a mood of an agent that crowds the book begins by that."""
    step_ticks: int
    """How far the market moves at once, at most, in ticks."""
    push_s: float | None = None
    """How often position and account are pushed while nothing changes; None: as subscribed."""
    check_s: float = 60.0
    """How often the service compares everything with the exchange."""
    quiet_s: float = 1.0
    """How often time is told to the trading state while nothing is due."""


BUSY: Final = Pace(
    name="busy",
    strike_every_s=25.0,
    patience_s=30.0,
    moods=((0.3, 8.0), (4.0, 120.0), (25.0, 600.0), (600.0, 1800.0)),
    # A real market moves more often, but what matters to the service is that an order's life has
    # many moments, and those are far below a second.
    market_s=1.0,
    crowds=0.2,
    step_ticks=30,
)
"""A hundred faults and some hundred actions an hour: what is rare meets what is rare."""

HARSH: Final = attrs.evolve(
    BUSY, name="harsh", strike_every_s=6.0, moods=((0.3, 8.0), (3.0, 120.0), (12.0, 300.0))
)
"""More faults than usual and no sleep: a mutant shows itself only when something strikes."""

CALM: Final = Pace(
    name="calm",
    strike_every_s=240.0,
    patience_s=600.0,
    moods=((0.3, 8.0), (20.0, 300.0), (240.0, 3600.0), (3600.0, 14400.0)),
    market_s=20.0,
    crowds=0.5,
    step_ticks=130,
    push_s=90.0,
    check_s=900.0,
    quiet_s=30.0,
)
"""For days on end: an agent that mostly sleeps, and a fault every few minutes, aimed at the
moments in which something happens."""

PACES: Final = {pace.name: pace for pace in (BUSY, HARSH, CALM)}
