"""The fingerprint of a schema distinguishes releases whose states have other fields, and only those."""

from __future__ import annotations

from enum import Enum
from typing import NewType

import attrs
import pytest

from oms_trio.core.state import TradeState
from oms_trio.service.state_codec import (
    FINGERPRINT_DIGITS,
    digest,
    same_schema,
    schema_fingerprint,
)
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


WHOLE = schema_fingerprint(Whole)


def fingerprint_with(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> str:
    """Return the fingerprint of the same state when one of these names is something else."""
    monkeypatch.setitem(globals(), name, value)
    schema_fingerprint.cache_clear()
    return schema_fingerprint(Whole)


def test_a_fingerprint_is_short_and_stays_the_same() -> None:
    schema_fingerprint.cache_clear()
    assert len(WHOLE) == FINGERPRINT_DIGITS
    assert schema_fingerprint(Whole) == WHOLE
    assert schema_fingerprint(Part) != WHOLE


def with_fields(monkeypatch: pytest.MonkeyPatch, fields: dict[str, type]) -> str:
    """Return the fingerprint when ``Part`` has these fields."""
    made = {name: attrs.field(type=kind) for name, kind in fields.items()}
    return fingerprint_with(monkeypatch, "Part", attrs.make_class("Part", made))


@pytest.mark.parametrize(
    "fields",
    [
        {"side": Side, "size": int, "price": int},
        {"side": Side, "size": float},
        {"size": int, "side": Side},
        {"side": Side},
    ],
)
def test_a_field_more_another_type_and_another_order_are_other_schemas(
    fields: dict[str, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_fields(monkeypatch, fields) != WHOLE


def test_members_of_enums_and_named_types_count(monkeypatch: pytest.MonkeyPatch) -> None:
    more = Enum("Side", {"BUY": "buy", "SELL": "sell"})  # type: ignore[misc] # a stand-in
    assert fingerprint_with(monkeypatch, "Side", more) != WHOLE
    monkeypatch.undo()
    assert fingerprint_with(monkeypatch, "Name", NewType("Name", int)) != WHOLE


def test_every_class_of_the_trading_state_is_reached() -> None:
    """A new field of an order changes the fingerprint, though only dicts of dicts lead to it."""
    schema_fingerprint.cache_clear()
    before = schema_fingerprint(TradeState)
    taken = digest(TradeState(RULES))
    assert taken.startswith(f"{before}:")
    assert same_schema(taken, f"{before}:something else")
    assert not same_schema(taken, f"{'0' * FINGERPRINT_DIGITS}:{taken.partition(':')[2]}")
    assert not same_schema(taken, taken.partition(":")[2]), "early digests name no schema"
