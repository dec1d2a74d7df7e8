"""Rows that are not ours, and what is passed over in them.

Somebody else may trade on the account, and the exchange adds states and types without notice. So
rows are read one by one: one that cannot be translated is passed over, counted and logged once per
kind, unless it is ours. Then it is an error, because nobody knows what it would have told.

    ours     carries our tag or a name of ours, or is an order of the exchange on our position

What a record of the journal holds was read before it was written, so whatever cannot be translated
there was passed over when it came: ``tag`` None, and nothing is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import attrs
import msgspec
import structlog

from oms_trio.core.identity import state_id_of
from oms_trio.core.model import CAUSE_OF_CATEGORY
from oms_trio.okx.errors import OurRowError, ProtocolError
from oms_trio.okx.wire import fields
from oms_trio.okx.wire.liquidation import CLOSES

log = structlog.get_logger()

Note = Callable[[ProtocolError], object]
"""Is told what was passed over."""

KINDS: Final = 100
"""Kinds that are logged: their texts hold values of the exchange, of which there may be any number."""

_Row = TypeVar("_Row", bound=msgspec.Struct)
_T = TypeVar("_T")


def ignore(_error: ProtocolError) -> None:
    """Take no notice."""


@attrs.define
class PassedOver:
    """Counts what is passed over, and logs the first of each kind."""

    count: int = 0
    _kinds: set[tuple[str, str]] = attrs.Factory(set)

    def __call__(self, error: ProtocolError) -> None:
        """Take note of one."""
        self.count += 1
        kind = error.path.rpartition(".")[2], error.why
        if kind not in self._kinds and len(self._kinds) < KINDS:
            self._kinds.add(kind)
            log.warning("okx_row_skipped", path=error.path, why=error.why, count=self.count)


class Whose(msgspec.Struct, frozen=True, rename="camel"):
    """What says whose a row is, of a row whose other fields may be anything."""

    inst_id: Any = ""
    ord_id: Any = ""
    cl_ord_id: Any = ""
    tag: Any = ""
    category: Any = ""
    sub_type: Any = ""
    mgn_mode: Any = "cross"
    ccy: Any = ""


_rows: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_whose: Final = msgspec.json.Decoder(Whose).decode


def is_our_row(row: Any, tag: str | None) -> bool:  # noqa: ANN401 - a row of orders or fills, or Whose
    """Tell whether a row of orders or fills is ours by our ``tag``, by its name or by its maker."""
    if tag is None:
        return False
    return (
        bool(tag and row.tag == tag)
        or (isinstance(row.cl_ord_id, str) and state_id_of(row.cl_ord_id) is not None)
        or getattr(row, "category", "") in CAUSE_OF_CATEGORY
        or getattr(row, "sub_type", "") in CLOSES
    )


class Rows(Generic[_Row]):
    """Reads an array of rows of one type."""

    def __init__(self, row: type[_Row]) -> None:
        self._whole = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        self._single = msgspec.json.Decoder(row).decode

    def read(
        self, raw: msgspec.Raw, where: str, ours: Callable[[Any], bool], note: Note
    ) -> list[tuple[str, _Row]]:
        """Return the rows with their places; one that is not ``ours`` may be unreadable.

        Raises:
            ProtocolError: there is no array.
            OurRowError: a row of ours is not of its documented shape.
        """
        try:
            rows = self._whole(raw)
        except msgspec.DecodeError:
            return self._read_one_by_one(raw, where, ours, note)
        return [(f"{where}[{index}]", row) for index, row in enumerate(rows)]

    def _read_one_by_one(
        self, raw: msgspec.Raw, where: str, ours: Callable[[Any], bool], note: Note
    ) -> list[tuple[str, _Row]]:
        read: list[tuple[str, _Row]] = []
        for index, one in enumerate(fields.decoding(_rows, raw, where)):
            at = f"{where}[{index}]"
            try:
                read.append((at, fields.decoding(self._single, one, at)))
            except ProtocolError as error:
                pass_over(fields.decoding(_whose, one, at), error, ours, note)
        return read

    def translate(
        self,
        raw: msgspec.Raw,
        where: str,
        translate: Callable[[_Row, str], _T | None],
        ours: Callable[[Any], bool],
        note: Note,
    ) -> tuple[_T, ...]:
        """Translate the rows; those that become None, or are not ``ours`` and unreadable, are out.

        Raises:
            ProtocolError: there is no array.
            OurRowError: a row of ours cannot be translated.
        """
        values: list[_T] = []
        for at, row in self.read(raw, where, ours, note):
            try:
                value = translate(row, at)
            except ProtocolError as error:
                pass_over(row, error, ours, note)
            else:
                if value is not None:
                    values.append(value)
        return tuple(values)


def pass_over(row: Any, error: ProtocolError, ours: Callable[[Any], bool], note: Note) -> None:  # noqa: ANN401 - any row
    """Note a row that cannot be read, unless it is ours.

    Raises:
        OurRowError: it is ours; the error names it.
    """
    if not ours(row):
        note(error)
        return
    names = [str(getattr(row, name, "")) for name in ("ord_id", "cl_ord_id")]
    named = " ".join(name[:32] for name in names if name)
    raise OurRowError(error.path, f"{error.why} (our row {named})" if named else error.why)
