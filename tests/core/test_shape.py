"""A shape tells releases apart whose states have other fields, and only those."""

from __future__ import annotations

from enum import Enum
from typing import NewType

import attrs
import pytest

from oms_trio.core.shape import DIGITS, same_shape, shape_of
from oms_trio.core.state import TradeState
from tests.core.desk import RULES

Name = NewType("Name", str)


class Side(Enum):
    """An enum that a state reaches."""

    BUY = "buy"


@attrs.define
class Part:
    """A class that a state reaches through a container."""

    side: Side
    size: int = 0


@attrs.define
class Whole:
    """A state."""

    parts: dict[Name, list[Part] | None]


WHOLE = shape_of(Whole)


def shape_with(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> str:
    """Return the shape of the same state when one of these names is something else."""
    monkeypatch.setitem(globals(), name, value)
    shape_of.cache_clear()
    return shape_of(Whole)


def test_a_shape_is_short_and_stays_the_same() -> None:
    shape_of.cache_clear()
    assert len(WHOLE) == DIGITS
    assert shape_of(Whole) == WHOLE
    assert shape_of(Part) != WHOLE


def with_fields(monkeypatch: pytest.MonkeyPatch, fields: dict[str, type], **more: type) -> str:
    """Return the shape when ``Part`` has these fields, and ``more`` that its repr leaves out."""
    made = {name: attrs.field(type=kind) for name, kind in fields.items()}
    made |= {name: attrs.field(type=kind, repr=False) for name, kind in more.items()}
    return shape_with(monkeypatch, "Part", attrs.make_class("Part", made))


@pytest.mark.parametrize(
    "fields",
    [
        {"side": Side, "size": int, "price": int},
        {"side": Side, "size": float},
        {"size": int, "side": Side},
        {"side": Side},
    ],
)
def test_a_field_more_another_type_and_another_order_are_other_shapes(
    fields: dict[str, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_fields(monkeypatch, fields) != WHOLE


def test_what_is_not_written_into_a_digest_is_not_part_of_the_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert with_fields(monkeypatch, {"side": Side, "size": int}) == WHOLE
    assert with_fields(monkeypatch, {"side": Side, "size": int}, tell=int) == WHOLE


def test_members_of_enums_and_named_types_count(monkeypatch: pytest.MonkeyPatch) -> None:
    more = Enum("Side", {"BUY": "buy", "SELL": "sell"})  # type: ignore[misc] # a stand-in
    assert shape_with(monkeypatch, "Side", more) != WHOLE
    monkeypatch.undo()
    assert shape_with(monkeypatch, "Name", NewType("Name", int)) != WHOLE


def test_every_class_of_the_trading_state_is_reached() -> None:
    """A new field of an order changes the shape, though only dicts of dicts lead to it."""
    shape_of.cache_clear()
    before = shape_of(TradeState)
    told = TradeState(RULES).digest()
    assert told.startswith(f"{before}:")
    assert same_shape(told, f"{before}:something else")
    assert not same_shape(told, f"{'0' * DIGITS}:{told.partition(':')[2]}")
    assert not same_shape(told, told.partition(":")[2]), "early digests tell of no shape"
