"""A journal as a recording; also one that a running service is writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import msgspec

from oms_trio.core.effects import Effect
from oms_trio.core.model import Rules
from oms_trio.core.state import TradeState
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import StateSnapshot
from oms_trio.okx.errors import OkxError
from oms_trio.okx.wire.recorded import SnapshotBodies
from oms_trio.replay.recordings.model import Beginning, RecordingError, Step
from oms_trio.service import earlier_formats, journaled_inputs
from oms_trio.service.journaled_inputs import DecodeContext, JournaledInput, Kind
from oms_trio.service.state_codec import decode_state

LOOKED_AT = 10_000
"""Records in which the instrument is looked for; the first answer by REST comes within seconds."""


class _InstrumentId(msgspec.Struct, rename="camel"):
    inst_id: str


class _InstrumentBody(msgspec.Struct):
    data: list[_InstrumentId]


@attrs.define
class JournalRecording:
    """Every input since the journal began, or since the oldest snapshot of a compacted one."""

    journal: Journal
    title: str
    _snapshots: list[StateSnapshot] = attrs.field(init=False)
    """Newest first."""
    _scope: DecodeContext = attrs.field(init=False)
    _first: int = attrs.field(init=False)
    _read: int = 0

    def __attrs_post_init__(self) -> None:
        """Look at what is there."""
        self._first = self._read = self.journal.first_seq
        if self._first > self.journal.last_seq:
            raise RecordingError(f"{self.title} has no records: nothing was recorded yet")
        self._snapshots = []
        found = self.journal.latest_snapshot()
        while found is not None:
            self._snapshots.append(found)
            found = self.journal.latest_snapshot(found.seq - 1)
        self._scope = self._find_scope()

    @property
    def inst_id(self) -> str:
        """See ``Recording.inst_id``."""
        return self._scope.inst_id

    @property
    def digests(self) -> Mapping[int, str]:
        """See ``Recording.digests``."""
        return {snapshot.seq: snapshot.digest for snapshot in self._snapshots}

    def begin(self, near_ns: int | None = None) -> Beginning:
        """See ``Recording.begin``."""
        if near_ns is not None:
            for one in self._snapshots:
                if self._time(one) <= near_ns and (state := _state(one)) is not None:
                    return Beginning(state, self._steps(one.seq))
        if self._first == 1:
            return Beginning(TradeState(self._rules()), self._steps(0))
        for one in reversed(self._snapshots):
            if (state := _state(one)) is not None:
                return Beginning(state, self._steps(one.seq))
        raise self._begins_otherwise()

    def _begins_otherwise(self) -> RecordingError:
        return RecordingError(
            f"{self.title} begins with a state of another release; replay it with that one"
        )

    def progress(self) -> float:
        """See ``Recording.progress``."""
        return min(1.0, (self._read - self._first + 1) / (self.journal.last_seq - self._first + 1))

    def answers(self, _effects: tuple[Effect, ...], _state: TradeState) -> list[JournaledInput]:
        """Answer nothing: what the exchange answered is on record."""
        return []

    def _steps(self, after: int) -> Iterator[Step]:
        for seq, record in self.journal.tail(after):
            self._read = seq
            try:
                arrival = journaled_inputs.read(
                    record.kind, record.raw, record.context, self._scope
                )
            except (ValueError, AssertionError, msgspec.MsgspecError, OkxError) as error:
                raise _unreadable(seq, error) from error
            yield Step(seq, record.at_ns, arrival, earlier_formats.effects(record.outputs))

    def _time(self, snapshot: StateSnapshot) -> int:
        """Return when the last record before a snapshot was taken in, or the first behind it."""
        found = next(self.journal.tail(max(snapshot.seq, self._first) - 1), None)
        return 0 if found is None else found[1].at_ns

    def _rules(self) -> Rules:
        _, first = next(self.journal.tail(self._first - 1))
        if first.kind != Kind.STARTED.value:
            raise RecordingError(f"{self.title} does not begin with the start of a service")
        try:
            return msgspec.json.decode(first.raw, type=Rules)
        except msgspec.MsgspecError as error:
            raise _unreadable(self._first, error) from error

    def _find_scope(self) -> DecodeContext:
        """Find the instrument and the tag, which do not change within a journal."""
        states = [state for one in self._snapshots if (state := _state(one)) is not None]
        for state in states:
            if state.instrument is not None:
                return DecodeContext(state.instrument.inst_id, state.rules.tag)
        if self._first > 1 and not states:
            raise self._begins_otherwise()
        tag = states[0].rules.tag if states else self._rules().tag
        for seq, record in self.journal.tail(self._first - 1):
            if record.kind == Kind.SNAPSHOT.value:
                bodies = msgspec.json.decode(record.raw, type=SnapshotBodies)
                body = msgspec.json.decode(bodies.instrument, type=_InstrumentBody)
                return DecodeContext(body.data[0].inst_id, tag)
            if seq > self._first + LOOKED_AT:
                break
        return DecodeContext(
            "", tag
        )  # the exchange never answered, so there is nothing of any instrument


def _state(snapshot: StateSnapshot) -> TradeState | None:
    """Read a state back; None for one of another release that this one cannot read."""
    try:
        return decode_state(snapshot.blob)
    except msgspec.DecodeError:
        return None


def _unreadable(seq: int, error: Exception) -> RecordingError:
    return RecordingError(
        f"record {seq} cannot be read ({type(error).__name__} {error}): it was written by another "
        "release; replay it with that one"
    )
