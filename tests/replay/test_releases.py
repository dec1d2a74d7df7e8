"""Journals of other releases: they open, replay and verify, and nothing in them is lost."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from oms_trio.core.state import TradeState
from oms_trio.journal.errors import StateError
from oms_trio.journal.journal import Journal
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.replay_command import ReplayOptions, replay
from oms_trio.service.recovery import recover
from oms_trio.service.runtime import JOURNAL
from oms_trio.service.state_codec import decode_state, digest, schema_fingerprint
from tests.core.desk import RULES
from tests.replay.journals import JournalWriter
from tests.service.rig import CONTEXT
from tests.service.station import serving

FIRST_RELEASE = Path(__file__).parent / "first_release.sqlite.gz"
"""A short session from before digests named a schema, stopped cleanly and flat."""

BEFORE_RENAMING = Path(__file__).parent / "before_renaming.sqlite.gz"
"""The sample as it was recorded before kinds, effects and fields of the state got their names."""


async def verified(path: Path, **options: Any) -> tuple[bool, str]:
    text = io.StringIO()
    same = await replay(
        ReplayOptions(path=path, verify=True, **options), Console(file=text, width=160)
    )
    return same, text.getvalue()


async def test_journal_of_the_first_release_verifies_but_for_its_digest() -> None:
    agrees, text = await verified(FIRST_RELEASE)
    assert agrees
    assert text == (
        "verified: 24 records, 22 outputs, 0 state digests\n"
        "8 records of another release match, apart from texts and from what reaches neither the "
        "agent nor an order\n"
        "1 state digest of another release was not compared\n"
    )


async def test_journal_from_before_the_renaming_verifies_but_for_its_digest(tmp_path: Path) -> None:
    agrees, text = await verified(BEFORE_RENAMING)
    assert agrees
    assert text.startswith("verified: 1441 records, 697 outputs, 0 state digests\n")
    assert text.endswith("1 state digest of another release was not compared\n")


def test_journal_from_before_the_renaming_recovers_from_its_snapshot(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    path.write_bytes(gzip.decompress(BEFORE_RENAMING.read_bytes()))
    with Journal.open(path) as journal:
        newest = journal.latest_snapshot()
        assert newest is not None
        state = decode_state(newest.blob)
        recovered = recover(journal, state.rules, CONTEXT)
        assert recovered.snapshot_seq == newest.seq
        assert state.sync.has_session
        assert len(state.orders) == len(list(state.orders)) > 0


async def test_journal_of_the_first_release_starts_the_service(tmp_path: Path) -> None:
    """Its ids are not used again, and its last trade is closed.

    Both the service and the verification continue from the snapshot at its end.
    """
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / JOURNAL).write_bytes(gzip.decompress(FIRST_RELEASE.read_bytes()))
    with Journal.open(state_dir / JOURNAL, read_only=True) as journal:
        *_, (_, last) = journal.tail(0)
    async with serving(tmp_path) as station:
        status = await station.until(lambda status: status["ready"])
        assert status["position"]["ours"] == "0"
        station.act(5)
        order = (await station.orders(1))[0]
        station.exchange.fill(order.ord_id, Decimal(1), Decimal(67000))
        assert (await station.heard())["state_id"] == 5
    agrees, text = await verified(state_dir, from_ns=last.at_ns + 1)
    assert agrees
    assert text.startswith("verified: ")
    assert text.endswith(" 1 state digest\n")


def write(path: Path, *changes: Callable[[dict[str, Any]], object]) -> JournalWriter:
    """Write a journal with a snapshot after each trade, changed as if by another release."""
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        for number, change in enumerate(changes):
            writer.trade(*(("buy", "67000"), ("sell", "67100"))[number % 2])
            writer.snapshot()
            kept = journal.latest_snapshot()
            assert kept is not None
            blob = msgspec.json.decode(kept.blob)
            change(blob)
            journal.save_snapshot(kept.seq, msgspec.json.encode(blob), kept.digest)
        writer.trade("buy", "66000")
    return writer


def same(_blob: dict[str, Any]) -> None:
    """Leave the snapshot as this release writes it."""


def renamed(blob: dict[str, Any]) -> None:
    """An order book under another name: read leniently, all orders would be forgotten."""
    blob["order_book"] = blob.pop("orders")


def retyped(blob: dict[str, Any]) -> None:
    blob["book"]["fills"] = ["one", "two"]


def with_a_float_balance(blob: dict[str, Any]) -> None:
    blob["balance"] = float(blob["balance"])


def without_a_field(blob: dict[str, Any]) -> None:
    """As written before the field was added."""
    del blob["foreign_reports"]
    del blob["sync"]["lags"]


OTHERS = pytest.mark.parametrize("other", [renamed, retyped, with_a_float_balance])


@OTHERS
@pytest.mark.parametrize("before", [same, None])
def test_unreadable_snapshot_is_skipped_and_nothing_is_lost(
    other: Callable[[dict[str, Any]], object],
    before: Callable[[dict[str, Any]], object] | None,
    tmp_path: Path,
) -> None:
    """The snapshot before it, or the beginning, and the records after that give the same state."""
    writer = write(tmp_path / "journal.sqlite", before or other, other)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        recovered = recover(journal, RULES, CONTEXT)
        assert digest(recovered.state) == digest(writer.state)
        assert (recovered.seq, recovered.at_ns) == (journal.last_seq, writer.now_ns)


def test_snapshot_from_before_a_field_was_added_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaying a month at a start for one new counter would be slow, and is not needed."""
    writer = write(tmp_path / "journal.sqlite", without_a_field)
    # No state is built from the beginning.
    monkeypatch.setattr("oms_trio.service.recovery.TradeState", None)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        assert digest(recover(journal, RULES, CONTEXT).state) == digest(writer.state)


@OTHERS
async def test_compacted_journal_with_only_unreadable_snapshots_is_an_error(
    other: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    """Its beginning is gone, so only the release that wrote it knows the state."""
    path = tmp_path / "journal.sqlite"
    writer = write(path, other)
    with Journal.open(path) as journal:
        while journal.compact(writer.now_ns):
            pass
        with pytest.raises(StateError, match=r"written by another release.*start that one"):
            recover(journal, RULES, CONTEXT)
    rejected = pytest.raises(
        RecordingError, match="begins with a snapshot that another release wrote"
    )
    with rejected, open_recording(path) as recording:
        await play(recording)


@OTHERS
def test_state_recovered_despite_unreadable_snapshots_survives_compaction(
    other: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    """Compaction keeps the records after the last snapshot that a start can read."""
    path = tmp_path / "journal.sqlite"
    writer = write(path, other, other)
    with Journal.open(path) as journal:
        first = recover(journal, RULES, CONTEXT)
        assert first.snapshot_seq == first.seq
        while journal.compact(writer.now_ns):
            pass
    with Journal.open(path) as journal:
        assert digest(recover(journal, RULES, CONTEXT).state) == digest(writer.state)


def test_recovery_names_the_snapshot_that_it_began_with(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    write(path, same)
    with Journal.open(path) as journal:
        kept, recovered = journal.latest_snapshot(), recover(journal, RULES, CONTEXT)
    assert kept is not None
    assert recovered.snapshot_seq == kept.seq < recovered.seq


async def test_replay_skips_unreadable_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = write(path, same, renamed)
    with open_recording(path) as recording:
        near = await play(recording, near_ns=writer.now_ns)
        whole = await play(recording)
    assert digest(near) == digest(whole) == digest(writer.state)


async def test_digests_of_another_schema_are_counted_and_messages_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    write(path, same, same, same)
    agrees, text = await verified(path)
    assert (agrees, text.count("\n")) == (True, 1)
    assert text.endswith("3 state digests\n")
    monkeypatch.setattr(
        "oms_trio.service.state_codec.schema_fingerprint",
        lambda root: schema_fingerprint(root)[::-1],
    )
    agrees, text = await verified(path)
    assert agrees
    assert text.endswith("0 state digests\n3 state digests of another release were not compared\n")
    monkeypatch.setattr("oms_trio.core.trade.Trade.reward", lambda _trade, _rules: 0.0)
    agrees, text = await verified(path)
    assert not agrees
    assert "PublishClosure" in text


def test_the_fingerprint_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest is taken while actions wait, so it must not walk over all classes each time."""
    state = TradeState(RULES)
    first = digest(state)
    monkeypatch.setattr("oms_trio.service.state_codec.attrs", None)
    assert digest(state) == first
