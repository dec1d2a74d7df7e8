"""Are the outputs of then those of now? Message by message, and the state's digest as well."""

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
from oms_trio.replay.recordings.model import Moment, Recording, RecordingError, Step
from oms_trio.service.journaled_inputs import encode_effects
from oms_trio.service.state_codec import digest, same_schema, schema_fingerprint

NOT_IN_EVERY_RELEASE: Final = frozenset(
    {
        # Queries to the exchange: their answers are on record.
        *(kind.__name__ for kind in (RequestSnapshot, RequestListing, RequestFills, LookUpOrder)),
        FillBooked.__name__,
        "RecallOrders",  # earlier releases; today the order's send generation says it
    }
)
"""Effects that reach neither the agent nor an order: another release may do without them."""

TEXTS: Final = frozenset({"detail"})
"""Fields for people to read: another release may word them otherwise."""


class Different(RecordingError):  # noqa: N818 - reads as what it tells
    """Replay gave something else than was recorded: the first such step."""

    def __init__(self, step: Step, then: object, now: object, what: str) -> None:
        super().__init__(f"record {step.seq}: {what} differs from what was recorded")
        self.step = step
        self.then = then
        self.now = now
        self.what = what


@attrs.define
class Verifier:
    """Compares every step, and stops the replay at the first difference.

    Records of this release must be the same to the bit. Those of another one, as the next digest
    behind them tells, must say the same: fields that it did not know and texts are left out, and so are
    its queries to the exchange.

    Raises (when called):
        Different: with both sides of the first message that differs.
    """

    digests: Mapping[int, str]
    steps: int = 0
    messages: int = 0
    digests_seen: int = 0
    digests_of_others: int = 0
    """Digests of a state of another shape, so of another release: they cannot be compared."""
    in_other_words: int = 0
    """Records of another release that say the same and are not the same."""

    def __call__(self, moment: Moment) -> None:
        """Compare the effects of one step with those on record."""
        step = moment.step
        if step.outputs is None:
            raise RecordingError(
                "this recording keeps no outputs, so there is nothing to compare with; a journal does"
            )
        self.steps += 1
        self.messages += len(moment.effects)
        now = encode_effects(moment.effects)
        if now != step.outputs:
            by_other = self._is_of_another_release(step.seq)
            difference = _difference(step, now, in_other_words=by_other)
            if difference is not None:
                raise difference
            self.in_other_words += 1
        told = self.digests.get(step.seq)
        if told is not None:
            self._compare(step, told, digest(moment.state))

    @cached_property
    def _taken_at(self) -> list[int]:
        return sorted(self.digests)

    def _is_of_another_release(self, seq: int) -> bool:
        behind = bisect_left(self._taken_at, seq)
        if behind == len(self._taken_at):
            return False
        told = self.digests[self._taken_at[behind]]
        return not same_schema(told, f"{schema_fingerprint(TradeState)}:")

    def _compare(self, step: Step, told: str, now: str) -> None:
        if not same_schema(told, now):
            self.digests_of_others += 1
            return
        self.digests_seen += 1
        if now != told:
            raise Different(step, told, now, "the digest of the state after it")


Told = list[Any]
"""A message as it is recorded: the name of its kind, and its fields."""


def _difference(step: Step, now: bytes, *, in_other_words: bool) -> Different | None:
    """Find the first message that differs; both sides are None past their ends."""
    then_all: list[Told] = msgspec.json.decode(step.outputs) if step.outputs else []
    now_all: list[Told] = msgspec.json.decode(now) if now else []
    if in_other_words:
        then_all, now_all = _in_every_release(then_all), _in_every_release(now_all)
    same = _says_the_same if in_other_words else eq
    for number, (told, said) in enumerate(zip_longest(then_all, now_all), 1):
        if not same(told, said):
            return Different(step, told, said, f"message {number}")
    return None


def _in_every_release(messages: list[Told]) -> list[Told]:
    return [message for message in messages if message[0] not in NOT_IN_EVERY_RELEASE]


def _says_the_same(told: Told | None, said: Told | None) -> bool:
    if told is None or said is None or told[0] != said[0]:
        return False
    fields = said[1]
    return all(
        name in TEXTS or (name in fields and fields[name] == value)
        for name, value in told[1].items()
    )


async def state_before(recording: Recording, step: Step) -> TradeState:
    """Return the state before a step, by playing up to it once more."""
    return await play(recording, until=Until(seq=step.seq - 1))
