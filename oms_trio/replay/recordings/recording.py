"""What a recording is: a state to begin with, and one recorded step after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from oms_trio.core.effects import Effect, FillBooked
from oms_trio.core.state import TradeState
from oms_trio.service.journaled_inputs import JournaledInput


class RecordingError(Exception):
    """A recording cannot be read or used as requested; the text is one line for the user."""


@attrs.frozen
class RecordedStep:
    """One recorded input; ``seq`` is its number, ``at_ns`` (Unix) when the trade state took it.

    ``outputs`` are the recorded effects, encoded; None in recordings that have no outputs.
    """

    seq: int
    at_ns: int
    journaled_input: JournaledInput
    outputs: bytes | None = None


@attrs.frozen
class Beginning:
    """The state at some instant, and the steps that follow."""

    state: TradeState
    steps: Iterator[RecordedStep]


class Recording(Protocol):
    """A journal of this service, or recorded frames of the exchange."""

    @property
    def title(self) -> str:
        """A short description, for headings."""

    @property
    def inst_id(self) -> str:
        """The instrument that was traded; empty when the recording does not name it."""

    @property
    def digests(self) -> Mapping[int, str]:
        """Digests of the state that the service recorded, by the number of the step before each."""

    def begin(self, near_ns: int | None = None) -> Beginning:
        """Begin with the latest snapshot not after ``near_ns``, else with the first step.

        Raises (also while the steps are read):
            RecordingError, StateError: the recording cannot be read.
        """

    def progress(self) -> float:
        """Return the fraction that has been read, 0 to 1."""

    def answers(
        self, effects: tuple[Effect, ...], state: TradeState, now_ns: int
    ) -> Iterable[JournaledInput]:
        """Make up the answers of the exchange to ``effects`` that the recording lacks.

        The iterator is advanced only after the previous answer has been applied.
        """


@attrs.frozen
class PlayedStep:
    """A step after it was applied, with its effects; ``state`` is the state after it, read-only."""

    step: RecordedStep
    effects: tuple[Effect, ...]
    state: TradeState

    @property
    def booked(self) -> list[FillBooked]:
        """The fills that were booked in this step."""
        return [effect for effect in self.effects if isinstance(effect, FillBooked)]


class Watcher(Protocol):
    """Is called with every step of a replay; what it keeps must be bounded."""

    def __call__(self, played: PlayedStep, /) -> None:
        """Process one step."""
