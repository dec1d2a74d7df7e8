"""Are the outputs of then those of now? Message by message, and the state's digest as well."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import msgspec

from oms_trio.core.shape import same_shape
from oms_trio.core.state import TradeState
from oms_trio.records import encode_effects
from oms_trio.replay.model import Moment, Recording, RecordingError, Step
from oms_trio.replay.play import Until, play


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

    Raises (when called):
        Different: with both sides of the first message that differs.
    """

    digests: Mapping[int, str]
    steps: int = 0
    messages: int = 0
    digests_seen: int = 0
    digests_of_others: int = 0
    """Digests of a state of another shape, so of another release: they cannot be compared."""

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
            raise _difference(step, now)
        told = self.digests.get(step.seq)
        if told is not None:
            self._compare(step, told, moment.state.digest())

    def _compare(self, step: Step, told: str, digest: str) -> None:
        if not same_shape(told, digest):
            self.digests_of_others += 1
            return
        self.digests_seen += 1
        if digest != told:
            raise Different(step, told, digest, "the digest of the state behind it")


def _difference(step: Step, now: bytes) -> Different:
    """Find the first message that differs; both sides are None past their ends."""
    then_all = msgspec.json.decode(step.outputs) if step.outputs else []
    now_all = msgspec.json.decode(now) if now else []
    index = 0
    while then_all[index : index + 1] == now_all[index : index + 1] != []:
        index += 1
    return Different(
        step,
        then_all[index] if index < len(then_all) else None,
        now_all[index] if index < len(now_all) else None,
        f"message {index + 1}",
    )


async def state_before(recording: Recording, step: Step) -> TradeState:
    """Return the state before a step, by playing up to it once more."""
    return await play(recording, until=Until(seq=step.seq - 1))
