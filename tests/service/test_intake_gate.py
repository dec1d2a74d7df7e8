"""Actions are taken from the queue only while no part of the service has a reason against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from oms_trio.journal.errors import JournalFull
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry
from oms_trio.service.intake_gate import Gate
from tests.service.station import Station, serving

PARTS = ("state", "row", "disk", "stop")


def test_it_is_closed_until_the_state_is_reconciled() -> None:
    consumed: list[bool] = []
    gate = Gate(consumed.append)
    assert gate.reasons == {"state": "starting"}
    assert not gate.opened.is_set()
    gate.open("disk")
    assert consumed == []
    gate.open("state")
    assert (consumed, gate.reasons, gate.opened.is_set()) == ([True], {}, True)


@pytest.mark.parametrize("first", ["state", "disk"])
def test_it_stays_closed_while_one_of_two_reasons_is_left(first: str) -> None:
    consumed: list[bool] = []
    gate = Gate(consumed.append)
    gate.close("disk", "full")
    (last,) = {"state", "disk"} - {first}
    gate.open(first)
    assert consumed == []
    assert list(gate.reasons) == [last]
    assert not gate.opened.is_set()
    gate.open(last)
    assert consumed == [True]


@given(st.lists(st.tuples(st.sampled_from(PARTS), st.booleans())))
@example([("disk", True), ("state", False)])
@example([("state", False), ("stop", True), ("state", True), ("state", False)])
def test_consuming_starts_and_stops_once_at_each_change(steps: Sequence[tuple[str, bool]]) -> None:
    """Parts close (True) and open it in any order: actions are consumed while no reason is left."""
    consumed: list[bool] = []
    gate = Gate(consumed.append)
    closed_by = {"state"}
    for part, close in steps:
        was_closed = bool(closed_by)
        if close:
            gate.close(part, "a reason")
            closed_by.add(part)
        else:
            gate.open(part)
            closed_by.discard(part)
        assert set(gate.reasons) == closed_by
        changed = was_closed != bool(closed_by)
        assert consumed == ([not closed_by] if changed else [])
        consumed.clear()


def test_the_log_says_why_actions_are_not_taken() -> None:
    gate = Gate(lambda _wanted: None)
    with structlog.testing.capture_logs() as logged:
        gate.open("state")
        gate.close("disk", "full")
        gate.close("disk", "full")
        gate.close("state", "no session")
        gate.open("disk")
        gate.open("state")
    assert [(line.pop("event"), line.pop("log_level"), line) for line in logged] == [
        ("actions_taken", "info", {"since": "state"}),
        ("actions_stopped", "warning", {"part": "disk", "why": "full"}),
        ("actions_still_stopped", "info", {"part": "state", "why": "no session"}),
        ("actions_taken", "info", {"since": "state"}),
    ]


class FillableDisk:
    """A disk without space for records while ``full``."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        append = Journal.append

        def append_if_possible(journal: Journal, entries: Sequence[Entry]) -> Any:
            if self.full:
                raise JournalFull(path)
            return append(journal, entries)

        monkeypatch.setattr(Journal, "append", append_if_possible)


async def stays_in_the_queue(station: Station) -> None:
    """Publish an action; it is not consumed, so it becomes neither an order nor a rejection."""
    station.act(1)
    await trio.sleep(0.3)
    assert station.broker.depth == 1
    assert not station.exchange.ground_truth.orders()
    with pytest.raises(trio.WouldBlock):
        station.told.receive_nowait()


async def test_no_action_is_taken_when_the_session_is_back_but_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FillableDisk(tmp_path, monkeypatch)
    async with serving(tmp_path, OMS_MAX_ACTION_AGE="60") as station:
        disk.full = True
        station.exchange.faults.cut()
        await station.until(lambda status: set(status["reasons"]) == {"state", "disk"})
        await station.until(lambda status: set(status["reasons"]) == {"disk"})
        await stays_in_the_queue(station)
        disk.full = False
        await station.orders(1)
        assert not (await station.ask("status"))["reasons"]


async def test_no_action_is_taken_when_the_disk_has_space_again_but_there_is_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FillableDisk(tmp_path, monkeypatch)
    async with serving(tmp_path, OMS_MAX_ACTION_AGE="60") as station:
        disk.full = True
        station.exchange.faults.refuse_connections = True
        station.exchange.faults.cut()
        await station.until(lambda status: set(status["reasons"]) == {"state", "disk"})
        disk.full = False
        await station.until(lambda status: set(status["reasons"]) == {"state"})
        await stays_in_the_queue(station)
        station.exchange.faults.refuse_connections = False
        await station.orders(1)
        assert not (await station.ask("status"))["reasons"]
