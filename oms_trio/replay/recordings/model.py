"""What a recording is: where to begin, and one step after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Protocol

import attrs

from oms_trio.core.effects import Effect, PublishClosure
from oms_trio.core.model import Fill, OrdId, Side
from oms_trio.core.orders import OrderInfo
from oms_trio.core.state import TradeState
from oms_trio.service.journaled_inputs import JournaledInput


class RecordingError(Exception):
    """The recording cannot be read, or not in the way that was asked for; one line for a user."""


@attrs.frozen
class Step:
    """One recorded input. ``at_ns`` (Unix) is when it was taken in, ``seq`` its number.

    ``outputs`` are the effects as they were recorded, None in recordings that keep none.
    """

    seq: int
    at_ns: int
    arrival: JournaledInput
    outputs: bytes | None = None


@attrs.frozen
class Beginning:
    """The state at some instant and the steps behind it."""

    state: TradeState
    steps: Iterator[Step]


class Recording(Protocol):
    """A journal of ours, or frames that somebody kept."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""

    @property
    def inst_id(self) -> str:
        """The instrument that was traded; empty where nothing tells of it."""

    @property
    def digests(self) -> Mapping[int, str]:
        """Digests that the running service took of its state, by the step behind which it did."""

    def begin(self, near_ns: int | None = None) -> Beginning:
        """Start at the last known state not past ``near_ns``, else at the very beginning.

        Reading raises ``RecordingError`` or ``StateError`` for what cannot be read.
        """

    def progress(self) -> float:
        """Return the part that has been read, 0 to 1."""

    def answers(
        self, effects: tuple[Effect, ...], state: TradeState, now_ns: int
    ) -> Iterable[JournaledInput]:
        """Make what the exchange would have answered, where the recording lacks its answers.

        Each is made when the one before it has been applied.
        """


@attrs.frozen
class Booked:
    """One fill as the trade state booked it.

    ``trade`` is the trade that was open before it, of which it closed ``reduced`` contracts;
    ``gain`` is the PnL of that in USDT. ``opened`` is the trade that it opened. ``max_drawdown``,
    ``cumulative`` (what it has gained, in the reward's unit) and ``reward`` are the old trade's
    behind this fill, ``position`` and ``entry_px`` those that hold from now on. ``closed`` says
    that the fill closed the old trade; ``closure`` is what the agent was told of that, None when
    no order of an agent was in the trade.
    """

    at_ns: int
    order: OrderInfo
    fill: Fill
    side: Side
    trade: OrdId | None
    opened: OrdId | None
    reduced: Decimal
    gain: Decimal
    max_drawdown: float
    cumulative: Decimal
    reward: float
    position: Decimal
    entry_px: Decimal | None
    closed: bool
    closure: PublishClosure | None


@attrs.frozen
class Moment:
    """One step and what came of it; ``state`` is the state behind it, to be read only."""

    step: Step
    effects: tuple[Effect, ...]
    booked: tuple[Booked, ...]
    state: TradeState


class Watcher(Protocol):
    """Sees every step of a replay; it keeps what it wants of it, within bounds."""

    def __call__(self, moment: Moment, /) -> None:
        """Look at one step."""
