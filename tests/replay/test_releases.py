"""Journals of other releases: what they hold is compared, or said not to be, and nothing is lost."""

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
from oms_trio.replay.program import Wanted, replay
from oms_trio.replay.recordings.files import open_recording
from oms_trio.replay.recordings.model import RecordingError
from oms_trio.service.recovery import recover
from oms_trio.service.runtime import JOURNAL
from oms_trio.service.state_codec import decode_state, digest, schema_fingerprint
from tests.core.desk import RULES
from tests.replay.journals import Bench
from tests.service.rig import CONTEXT
from tests.service.station import serving

FIRST_RELEASE = Path(__file__).parent / "first_release.sqlite.gz"
"""A short session of the service when digests told of no shape yet, stopped cleanly and flat."""

BEFORE_RENAMING = Path(__file__).parent / "before_renaming.sqlite.gz"
"""The sample as it was recorded before kinds, effects and fields of the state got their names."""


async def told(path: Path, **wanted: Any) -> tuple[bool, str]:
    text = io.StringIO()
    same = await replay(Wanted(path=path, verify=True, **wanted), Console(file=text, width=160))
    return same, text.getvalue()


async def test_journal_of_the_first_release_verifies_but_for_its_digest() -> None:
    agrees, text = await told(FIRST_RELEASE)
    assert agrees
    assert text == (
        "the same: 24 records, 22 messages, 0 digests of the state\n"
        "8 records of another release differ only in fields that it did not have\n"
        "1 digest of another release's state was not compared\n"
    )


async def test_journal_from_before_the_renaming_verifies_but_for_its_digest(tmp_path: Path) -> None:
    agrees, text = await told(BEFORE_RENAMING)
    assert agrees
    assert text.startswith("the same: 1441 records, 697 messages, 0 digests of the state\n")
    assert text.endswith("1 digest of another release's state was not compared\n")


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
    """Its ids are not given out anew, and its last trade is over.

    The service goes on from the snapshot at its end, and so does what verifies the service.
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
    agrees, text = await told(state_dir, from_ns=last.at_ns + 1)
    assert agrees
    assert text.startswith("the same: ")
    assert text.endswith(" 1 digest of the state\n")


def write(path: Path, *changes: Callable[[dict[str, Any]], object]) -> Bench:
    """Write a journal with a snapshot behind each trade, changed as another release has them."""
    with Journal.open(path) as journal:
        bench = Bench(journal)
        bench.start()
        for number, change in enumerate(changes):
            bench.trade(*(("buy", "67000"), ("sell", "67100"))[number % 2])
            bench.snapshot()
            kept = journal.latest_snapshot()
            assert kept is not None
            blob = msgspec.json.decode(kept.blob)
            change(blob)
            journal.save_snapshot(kept.seq, msgspec.json.encode(blob), kept.digest)
        bench.trade("buy", "66000")
    return bench


def same(_blob: dict[str, Any]) -> None:
    """What this release writes."""


def renamed(blob: dict[str, Any]) -> None:
    """An order book under another name: read leniently, all orders would be forgotten."""
    blob["order_book"] = blob.pop("orders")


def retyped(blob: dict[str, Any]) -> None:
    blob["book"]["fills"] = ["one", "two"]


def reckoned_otherwise(blob: dict[str, Any]) -> None:
    blob["balance"] = float(blob["balance"])


def without_a_field(blob: dict[str, Any]) -> None:
    """As written before the field was added."""
    del blob["foreign_reports"]
    del blob["sync"]["lags"]


OTHERS = pytest.mark.parametrize("other", [renamed, retyped, reckoned_otherwise])


@OTHERS
@pytest.mark.parametrize("before", [same, None])
def test_snapshot_that_cannot_be_read_is_passed_over_and_nothing_is_lost(
    other: Callable[[dict[str, Any]], object],
    before: Callable[[dict[str, Any]], object] | None,
    tmp_path: Path,
) -> None:
    """The one before it, or the beginning, and the records behind that give the same state."""
    bench = write(tmp_path / "journal.sqlite", before or other, other)
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        recovered = recover(journal, RULES, CONTEXT)
        assert digest(recovered.state) == digest(bench.state)
        assert (recovered.seq, recovered.at_ns) == (journal.last_seq, bench.now_ns)


def test_snapshot_from_before_a_field_was_added_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaying a month at a start for one new counter would be slow, and is not needed."""
    bench = write(tmp_path / "journal.sqlite", without_a_field)
    monkeypatch.setattr("oms_trio.service.recovery.TradeState", None)  # nothing begins anew
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        assert digest(recover(journal, RULES, CONTEXT).state) == digest(bench.state)


@OTHERS
async def test_compacted_journal_with_only_unreadable_snapshots_says_so(
    other: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    """Its beginning is gone, so only the release that wrote it knows the state."""
    path = tmp_path / "journal.sqlite"
    bench = write(path, other)
    with Journal.open(path) as journal:
        while journal.compact(bench.now_ns):
            pass
        with pytest.raises(StateError, match=r"written by another release.*start that one"):
            recover(journal, RULES, CONTEXT)
    told = pytest.raises(RecordingError, match="begins with a state of another release")
    with told, open_recording(path) as recording:
        await play(recording)


@OTHERS
def test_what_was_recovered_past_unreadable_snapshots_survives_compaction(
    other: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    """Compaction goes by snapshots, and must not go by those that a start cannot begin with."""
    path = tmp_path / "journal.sqlite"
    bench = write(path, other, other)
    with Journal.open(path) as journal:
        first = recover(journal, RULES, CONTEXT)
        assert first.snapshot_seq == first.seq
        while journal.compact(bench.now_ns):
            pass
    with Journal.open(path) as journal:
        assert digest(recover(journal, RULES, CONTEXT).state) == digest(bench.state)


def test_recovery_tells_behind_which_record_the_next_snapshot_is_due(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    write(path, same)
    with Journal.open(path) as journal:
        kept, recovered = journal.latest_snapshot(), recover(journal, RULES, CONTEXT)
    assert kept is not None
    assert recovered.snapshot_seq == kept.seq < recovered.seq


async def test_replay_passes_over_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    bench = write(path, same, renamed)
    with open_recording(path) as recording:
        near = await play(recording, near_ns=bench.now_ns)
        whole = await play(recording)
    assert digest(near) == digest(whole) == digest(bench.state)


async def test_digests_of_another_schema_are_counted_and_messages_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    write(path, same, same, same)
    agrees, text = await told(path)
    assert (agrees, text.count("\n")) == (True, 1)
    assert text.endswith("3 digests of the state\n")
    monkeypatch.setattr(
        "oms_trio.service.state_codec.schema_fingerprint",
        lambda root: schema_fingerprint(root)[::-1],
    )
    agrees, text = await told(path)
    assert agrees
    assert text.endswith(
        "0 digests of the state\n3 digests of another release's state were not compared\n"
    )
    monkeypatch.setattr("oms_trio.core.trade.Trade.reward", lambda _trade, _rules: 0.0)
    agrees, text = await told(path)
    assert not agrees
    assert "PublishClosure" in text


def test_the_fingerprint_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer takes a digest while actions wait: it must not walk over classes each time."""
    state = TradeState(RULES)
    first = digest(state)
    monkeypatch.setattr("oms_trio.service.state_codec.attrs", None)
    assert digest(state) == first
