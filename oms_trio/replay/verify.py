"""Compare the recorded outputs with those computed now, and the digests of the state."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from itertools import zip_longest
from operator import eq
from typing import Any, Final

import attrs
import msgspec

from oms_trio.core.effects import (
    FillBooked,
    LookUpOrder,
    RequestFills,
    RequestListing,
    RequestSnapshot,
)
from oms_trio.core.state import TradeState
from oms_trio.replay.player import Until, play
from oms_trio.replay.recordings.recording import (
    PlayedStep,
    RecordedStep,
    Recording,
    RecordingError,
)
from oms_trio.service.journaled_inputs import encode_effects
from oms_trio.service.state_codec import digest, same_schema, schema_fingerprint

NOT_IN_EVERY_RELEASE: Final = frozenset(
    {
        # Requests for data of the exchange: the answers are on record.
        *(kind.__name__ for kind in (RequestSnapshot, RequestListing, RequestFills, LookUpOrder)),
        FillBooked.__name__,
        "RecallOrders",  # of earlier releases; now the send generation of an order has its purpose
    }
)
"""Outputs that reach neither the agent nor an order: another release may lack them."""

TEXTS: Final = frozenset({"detail"})
"""Fields for people to read: another release may word them otherwise."""


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
    digest after it is of another schema; there, ``NOT_IN_EVERY_RELEASE``, ``TEXTS`` and fields that
    the record lacks are not compared.

    Raises (when called):
        MismatchError: with both sides of the first output that differs.
        RecordingError: the recording has no outputs.
    """

    digests: Mapping[int, str]
    steps: int = 0
    outputs: int = 0
    digests_compared: int = 0
    digests_skipped: int = 0
    """Digests of a state of another schema, that is of another release, which cannot be compared."""
    equivalent: int = 0
    """Records of another release that are not identical, but equal in what is compared."""

    def __call__(self, played: PlayedStep) -> None:
        """Compare the effects of one step with those on record."""
        step = played.step
        if step.outputs is None:
            raise RecordingError(
                "this recording has no outputs to compare with: --verify needs a journal"
            )
        self.steps += 1
        self.outputs += len(played.effects)
        replayed = encode_effects(played.effects)
        if replayed != step.outputs:
            lenient = self._is_of_another_release(step.seq)
            difference = _difference(step, replayed, lenient=lenient)
            if difference is not None:
                raise difference
            self.equivalent += 1
        recorded = self.digests.get(step.seq)
        if recorded is not None:
            self._compare(step, recorded, digest(played.state))

    @cached_property
    def _digest_seqs(self) -> list[int]:
        return sorted(self.digests)

    def _is_of_another_release(self, seq: int) -> bool:
        index = bisect_left(self._digest_seqs, seq)
        if index == len(self._digest_seqs):
            return False
        recorded = self.digests[self._digest_seqs[index]]
        return not same_schema(recorded, f"{schema_fingerprint(TradeState)}:")

    def _compare(self, step: RecordedStep, recorded: str, replayed: str) -> None:
        if not same_schema(recorded, replayed):
            self.digests_skipped += 1
            return
        self.digests_compared += 1
        if replayed != recorded:
            raise MismatchError(step, recorded, replayed, "the digest of the state after it")


RecordedOutput = list[Any]
"""An effect in the form in which it is recorded: its name and its fields."""


def _difference(step: RecordedStep, replayed: bytes, *, lenient: bool) -> MismatchError | None:
    """Return the first output that differs; a side that has no such output is None."""
    recorded_all: list[RecordedOutput] = msgspec.json.decode(step.outputs or b"[]")
    replayed_all: list[RecordedOutput] = msgspec.json.decode(replayed or b"[]")
    if lenient:
        recorded_all, replayed_all = (
            _comparable(recorded_all),
            _comparable(replayed_all),
        )
    same = _equivalent if lenient else eq
    for number, (recorded, now) in enumerate(zip_longest(recorded_all, replayed_all), 1):
        if not same(recorded, now):
            return MismatchError(step, recorded, now, f"output {number}")
    return None


def _comparable(outputs: list[RecordedOutput]) -> list[RecordedOutput]:
    return [output for output in outputs if output[0] not in NOT_IN_EVERY_RELEASE]


def _equivalent(recorded: RecordedOutput | None, replayed: RecordedOutput | None) -> bool:
    if recorded is None or replayed is None or recorded[0] != replayed[0]:
        return False
    fields = replayed[1]
    return all(
        name in TEXTS or (name in fields and fields[name] == value)
        for name, value in recorded[1].items()
    )


async def state_before(recording: Recording, step: RecordedStep) -> TradeState:
    """Return the state before a step, by playing the recording up to it again."""
    return await play(recording, until=Until(seq=step.seq - 1))
