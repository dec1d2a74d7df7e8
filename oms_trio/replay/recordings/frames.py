"""Recorded frames as a recording: they become the inputs that the service would have made of them.

Such a recording has no REST answers. When the trade state requests one, the answer is made from
the frames: the given instrument, the position pushed last, and the fills pushed for an order. A
fill whose push is missing is therefore derived from the growth of its order's filled size, as it is
live when the exchange does not list the fill.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, cast
from zlib import crc32

import attrs
import msgspec

from oms_trio.amqp.codec import MalformedAction, decode_action
from oms_trio.amqp.model import Delivery
from oms_trio.core.effects import Effect, RequestFills, RequestSnapshot
from oms_trio.core.events import ExchangeSnapshot, FillsAnswer
from oms_trio.core.identity import order_name, state_id_of
from oms_trio.core.model import ClOrdId, Instrument, OrderReport, Rules, StateId
from oms_trio.core.state import TradeState
from oms_trio.okx.errors import ProtocolError
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.frames import (
    AccountPush,
    ErrorEvent,
    LoggedIn,
    OpResponse,
    OrdersPush,
    PositionsPush,
)
from oms_trio.okx.wire.requests import CHANNELS
from oms_trio.replay.recordings.json_lines import (
    ActionLine,
    FrameLine,
    RecordedLine,
    SessionLine,
    UnreadableLineError,
    read_line,
)
from oms_trio.replay.recordings.recording import Beginning, RecordedStep, RecordingError
from oms_trio.service import journaled_inputs
from oms_trio.service.journaled_inputs import JournaledInput, Kind

TICK_NS = 250_000_000
"""The service's interval between ticks; here a tick is due only when there is a line."""

SAMPLE: Final = 10_000
"""Lines that are searched for our own orders and actions before the replay begins."""

REQUESTS_KEPT: Final = 1024
"""Requests whose answers may still come; the exchange's rate limits keep the number far below."""


class _Arg(msgspec.Struct, rename="camel"):
    cl_ord_id: str = ""


class _Request(msgspec.Struct):
    """A request as it was sent; the arguments of a subscription have no ``clOrdId``."""

    op: str = ""
    id: str = ""
    args: list[_Arg] = []


_request: Final = msgspec.json.Decoder(_Request).decode


@attrs.define
class FramesRecording:
    """A file of JSON lines (see ``json_lines``), plain or ``.gz``.

    Only orders with our tag count in trades. ``all_orders`` counts every order as ours, with a
    ``clOrdId`` and a state id made from its ``ordId``; None does so when the file has neither orders
    of ours nor actions.
    """

    path: Path
    rules: Rules
    instrument: Instrument
    all_orders: bool | None = None
    skipped: int = 0
    """Lines and frames that could not be read."""
    _file: BinaryIO | None = None

    @property
    def title(self) -> str:
        """See ``Recording.title``."""
        return f"frames in {self.path.name}"

    @property
    def inst_id(self) -> str:
        """See ``Recording.inst_id``."""
        return self.instrument.inst_id

    @property
    def digests(self) -> Mapping[int, str]:
        """See ``Recording.digests``."""
        return MappingProxyType({})

    def begin(self, near_ns: int | None = None) -> Beginning:  # noqa: ARG002 - there are no snapshots
        """See ``Recording.begin``."""
        if self.all_orders is None:
            self.all_orders = not any(map(self._is_ours, islice(self._lines(), SAMPLE)))
        self.skipped = 0
        return Beginning(TradeState(self.rules), self._steps())

    def progress(self) -> float:
        """See ``Recording.progress``: measured in bytes of the file."""
        if self._file is None:
            return 0.0
        return 1.0 if self._file.closed else self._file.tell() / self.path.stat().st_size

    def answers(
        self, effects: tuple[Effect, ...], state: TradeState, now_ns: int
    ) -> Iterator[JournaledInput]:
        """See ``Recording.answers``."""
        for effect in effects:
            if isinstance(effect, RequestSnapshot):
                snapshot = self._snapshot(effect.request, state, now_ns)
                yield JournaledInput(Kind.SNAPSHOT, b"", "", (snapshot,))
            elif isinstance(effect, RequestFills):
                yield JournaledInput(Kind.FILLS, b"", "", (_fills(effect, state),))

    def _snapshot(self, request: int, state: TradeState, now_ns: int) -> ExchangeSnapshot:
        position = state.sync.exchange_pos
        return ExchangeSnapshot(now_ns, request, self.instrument, None, 0, position, (), ())

    def _steps(self) -> Iterator[RecordedStep]:
        seq = 0
        for seq, (at_ns, taken) in enumerate(_Reader(self).inputs(self._lines()), 1):
            yield RecordedStep(seq, at_ns, taken)
        if not seq:
            raise RecordingError(
                f"{self.path}: not a journal, and no line is a frame of the exchange, an action or "
                "a session change; docs/replay.md describes the formats"
            )

    def _lines(self) -> Iterator[RecordedLine]:
        with self.path.open("rb") as self._file:
            compressed = self._file.read(2) == b"\x1f\x8b"
            self._file.seek(0)
            # A recorder that was killed leaves a truncated archive.
            lines = gzip.GzipFile(fileobj=self._file) if compressed else self._file
            try:
                for text in cast("Iterable[bytes]", lines):
                    try:
                        yield read_line(text)
                    except UnreadableLineError:
                        self.skipped += bool(text.strip())
            except (EOFError, gzip.BadGzipFile, OSError):
                self.skipped += 1

    def _is_ours(self, line: RecordedLine) -> bool:
        tag = f'"tag":"{self.rules.tag}"'
        return isinstance(line, ActionLine) or (
            isinstance(line, FrameLine) and tag in line.text.replace(" ", "")
        )


def _fills(effect: RequestFills, state: TradeState) -> FillsAnswer:
    order = state.orders.find(None, effect.ord_id)
    return FillsAnswer(effect.ord_id, () if order is None else tuple(order.held.values()))


@attrs.define
class _Reader:
    """Makes inputs of lines; keeps the time, whether a session is up, and the open requests."""

    recording: FramesRecording
    now_ns: int = 0
    ticked_ns: int = 0
    has_session: bool = False
    deliveries: int = 0
    requests: dict[str, list[ClOrdId]] = attrs.Factory(dict)

    def inputs(self, lines: Iterator[RecordedLine]) -> Iterator[tuple[int, JournaledInput]]:
        """Yield inputs with their times; the first one is the start of a process."""
        for line in lines:
            begins = not self.now_ns
            self.now_ns = max(self.now_ns, line.at_ns or self.now_ns)
            if not self.now_ns:
                self.recording.skipped += 1  # no line so far has a time
                continue
            if begins:
                self.ticked_ns = self.now_ns
                yield self.now_ns, journaled_inputs.started(self.recording.rules)
            if self.now_ns >= self.ticked_ns + TICK_NS:
                self.ticked_ns = self.now_ns
                yield self.now_ns, journaled_inputs.TICK
            for taken in self._of_line(line):
                yield self.now_ns, taken

    def _of_line(self, line: RecordedLine) -> Iterator[JournaledInput]:
        match line:
            case SessionLine(up=True):
                yield from self._up()
            case SessionLine(why=why):
                yield from self._down(why or "lost in the recording")
            case ActionLine():
                yield from self._action(line)
            case FrameLine(out=True):
                self._note_request(line.text)
            case FrameLine():
                try:
                    yield from self._of_frame(line.text)
                except ProtocolError:
                    self.recording.skipped += 1

    def _up(self) -> Iterator[JournaledInput]:
        if not self.has_session:
            self.has_session = True
            yield journaled_inputs.session_up()

    def _down(self, why: str) -> Iterator[JournaledInput]:
        if self.has_session:
            self.has_session = False
            yield journaled_inputs.session_down(why)

    def _of_frame(self, text: str) -> Iterator[JournaledInput]:
        event = decode_frame(text, self.recording.instrument.inst_id)
        match event:
            case LoggedIn():
                # Pushes before it may have been lost, which the frames cannot show.
                yield from self._down("another login")
            case OrdersPush():
                yield from self._up()
                yield journaled_inputs.push(text, self._claimed(event))
            case PositionsPush() | AccountPush():
                yield from self._up()
                yield journaled_inputs.push(text, event)
            case OpResponse() | ErrorEvent():
                yield from self._answer(text, event)
            case _:
                pass

    def _answer(self, text: str, event: OpResponse | ErrorEvent) -> Iterator[JournaledInput]:
        names = self.requests.pop(event.id, [])
        if isinstance(event, OpResponse):
            names = names or [result.cl_ord_id for result in event.results if result.cl_ord_id]
            if "cancel" in event.op:
                yield journaled_inputs.cancel_answer(text, event, names)
                return
        if names:
            yield journaled_inputs.order_answer(text, event, names)

    def _note_request(self, text: str) -> None:
        try:
            request = _request(text)
        except msgspec.MsgspecError:
            return  # the text ping
        if request.op not in CHANNELS and request.id:
            self.requests[request.id] = [ClOrdId(arg.cl_ord_id) for arg in request.args]
            if len(self.requests) > REQUESTS_KEPT:
                del self.requests[next(iter(self.requests))]

    def _action(self, line: ActionLine) -> Iterator[JournaledInput]:
        delivery = Delivery(self.deliveries + 1, line.body, line.message_id, line.redelivered)
        try:
            action = decode_action(delivery, self.now_ns)
        except MalformedAction:
            self.recording.skipped += 1
            return
        self.deliveries += 1
        yield journaled_inputs.action(action)

    def _claimed(self, push: OrdersPush) -> OrdersPush:
        if not self.recording.all_orders:
            return push
        return OrdersPush(tuple(map(self._renamed, push.reports)))

    def _renamed(self, report: OrderReport) -> OrderReport:
        tag = self.recording.rules.tag
        if report.tag == tag and state_id_of(report.cl_ord_id) is not None:
            return report
        identity = report.ord_id.encode()
        name = order_name(StateId(crc32(identity)), identity)
        return attrs.evolve(report, tag=tag, cl_ord_id=name)
