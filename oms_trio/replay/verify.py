"""Compare the recorded outputs with those computed now: every message, and digests of the state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from itertools import zip_longest
from operator import eq
from typing import Any, Final

import attrs
import msgspec

from oms_trio.core.effects import LookUpOrder, RequestFills, RequestListing, RequestSnapshot
from oms_trio.core.shape import same_shape, shape_of
from oms_trio.core.state import TradeState
from oms_trio.replay.player import Until, play
from oms_trio.replay.recordings.recording import (
    PlayedStep,
    RecordedStep,
    Recording,
    RecordingError,
)
from oms_trio.service.journaled_inputs import encode_effects

REQUESTS: Final = frozenset(
    kind.__name__ for kind in (RequestSnapshot, RequestListing, RequestFills, LookUpOrder)
)
"""Effects that only request data from the exchange; the answers are on record."""


class MismatchError(RecordingError):
    """A replayed output differs from the recorded one; raised at the first such step."""

    def __init__(self, step: RecordedStep, recorded: object, replayed: object, what: str) -> None:
        super().__init__(f"record {step.seq}: {what} differs from what was recorded")
        self.step = step
        self.recorded = recorded
        self.replayed = replayed
        self.what = what


@attrs.define
class Verifier:
    """Compares every step, and ends the replay at the first difference; a watcher.

    Records of this release must be identical. A record was written by another release when the next
    digest after it has another shape; there, fields missing in the record and requests for data are
    not compared.

    Raises (when called):
        MismatchError: with both sides of the first message that differs.
        RecordingError: the recording has no outputs.
    """

    digests: Mapping[int, str]
    steps: int = 0
    messages: int = 0
    digests_compared: int = 0
    digests_skipped: int = 0
    """Digests of a state of another shape, that is of another release, which cannot be compared."""
    equivalent: int = 0
    """Records of another release that differ only in added fields or in requests for data."""

    def __call__(self, played: PlayedStep) -> None:
        """Compare the effects of one step with those on record."""
        step = played.step
        if step.outputs is None:
            raise RecordingError(
                "this recording has no outputs to compare with: --verify needs a journal"
            )
        self.steps += 1
        self.messages += len(played.effects)
        replayed = encode_effects(played.effects)
        if replayed != step.outputs:
            lenient = self._is_of_another_release(step.seq)
            difference = _difference(step, replayed, lenient=lenient)
            if difference is not None:
                raise difference
            self.equivalent += 1
        recorded = self.digests.get(step.seq)
        if recorded is not None:
            self._compare(step, recorded, played.state.digest())

    @cached_property
    def _digest_seqs(self) -> list[int]:
        return sorted(self.digests)

    def _is_of_another_release(self, seq: int) -> bool:
        index = bisect_left(self._digest_seqs, seq)
        if index == len(self._digest_seqs):
            return False
        recorded = self.digests[self._digest_seqs[index]]
        return not same_shape(recorded, f"{shape_of(TradeState)}:")

    def _compare(self, step: RecordedStep, recorded: str, replayed: str) -> None:
        if not same_shape(recorded, replayed):
            self.digests_skipped += 1
            return
        self.digests_compared += 1
        if replayed != recorded:
            raise MismatchError(step, recorded, replayed, "the digest of the state after it")


RecordedMessage = list[Any]
"""A message in the form in which it is recorded: the name of its kind, and its fields."""


def _difference(step: RecordedStep, replayed: bytes, *, lenient: bool) -> MismatchError | None:
    """Return the first message that differs; a side that has no such message is None."""
    recorded_all: list[RecordedMessage] = msgspec.json.decode(step.outputs or b"[]")
    replayed_all: list[RecordedMessage] = msgspec.json.decode(replayed or b"[]")
    if lenient:
        recorded_all, replayed_all = (
            _without_requests(recorded_all),
            _without_requests(replayed_all),
        )
    same = _equivalent if lenient else eq
    for number, (recorded, now) in enumerate(zip_longest(recorded_all, replayed_all), 1):
        if not same(recorded, now):
            return MismatchError(step, recorded, now, f"message {number}")
    return None


def _without_requests(messages: list[RecordedMessage]) -> list[RecordedMessage]:
    return [message for message in messages if message[0] not in REQUESTS]


def _equivalent(recorded: RecordedMessage | None, replayed: RecordedMessage | None) -> bool:
    if recorded is None or replayed is None or recorded[0] != replayed[0]:
        return False
    fields = replayed[1]
    return all(name in fields and fields[name] == value for name, value in recorded[1].items())


async def state_before(recording: Recording, step: RecordedStep) -> TradeState:
    """Return the state before a step, by playing the recording up to it again."""
    return await play(recording, until=Until(seq=step.seq - 1))
