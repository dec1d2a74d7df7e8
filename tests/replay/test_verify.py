"""A replay gives what was recorded, or verification shows the first difference."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import attrs
import msgspec
import pytest
from rich.console import Console

from oms_trio.core.state import TradeState
from oms_trio.core.trade import Trade
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import PlayedStep, RecordingError
from oms_trio.replay.replay_command import ReplayOptions, replay
from oms_trio.replay.verify import MismatchError, Verifier, state_before
from oms_trio.service.state_codec import digest, schema_fingerprint
from tests.replay.journals import JournalWriter, write_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def verify(path: Path) -> Verifier:
    with open_recording(path) as recording:
        verifier = Verifier(recording.digests)
        await play(recording, [verifier])
        return verifier


async def test_same_rules_give_same_messages_and_digest(path: Path) -> None:
    writer = write_journal(path)
    verifier = await verify(path)
    with Journal.open(path, read_only=True) as journal:
        assert verifier.steps == journal.last_seq
    assert verifier.outputs == len(writer.effects)
    assert verifier.digests_compared == 1
    with open_recording(path) as recording:
        assert digest(await play(recording)) == digest(writer.state)


def of_another_release(played: PlayedStep, **changes: object) -> PlayedStep:
    """Return the step as recorded by a release without ``cause`` and with one more request."""
    recorded = msgspec.json.decode(played.step.outputs or b"[]")
    for _, fields in recorded:
        fields.pop("cause", None)
        fields.update({name: value for name, value in changes.items() if name in fields})
    if recorded:
        recorded.insert(0, ["RequestSnapshot", {"number": 1}])
    outputs = msgspec.json.encode(recorded) if recorded else b""
    return attrs.evolve(played, step=attrs.evolve(played.step, outputs=outputs))


async def test_record_of_another_release_may_lack_fields_and_have_other_requests(
    path: Path,
) -> None:
    """Only where the next digest has another schema: records of this release must be identical."""
    write_journal(path)
    with open_recording(path) as recording:
        (end,) = recording.digests
        other = Verifier({end: "another schema:digest"})
        await play(recording, [lambda played: other(of_another_release(played))])
        assert 0 < other.equivalent < other.steps == end
        for own in (Verifier(recording.digests), Verifier({})):
            with pytest.raises(MismatchError):
                await play(recording, [lambda played, own=own: own(of_another_release(played))])


async def test_difference_in_a_record_of_another_release_is_found(path: Path) -> None:
    write_journal(path)
    with open_recording(path) as recording:
        other = Verifier(dict.fromkeys(recording.digests, "another schema:digest"))
        with pytest.raises(MismatchError) as caught:
            await play(recording, [lambda played: other(of_another_release(played, reward=0.25))])
    assert isinstance(caught.value.recorded, list)
    assert caught.value.recorded[0] == "PublishClosure"


async def test_changed_reward_is_found_at_the_first_closure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write_journal(path)
    true_reward = Trade.reward
    monkeypatch.setattr(Trade, "reward", lambda trade, rules: true_reward(trade, rules) * 1.000001)
    with pytest.raises(MismatchError) as caught:
        await verify(path)
    closure = next(e for e in writer.effects if type(e).__name__ == "PublishClosure")
    assert isinstance(caught.value.recorded, list)
    assert isinstance(caught.value.replayed, list)
    assert caught.value.recorded[0] == caught.value.replayed[0] == "PublishClosure"
    assert caught.value.recorded[1]["ord_id"] == closure.ord_id  # type: ignore[union-attr]
    assert caught.value.recorded[1]["reward"] != caught.value.replayed[1]["reward"]
    # The execution before it is the same, so it is the second output of its input.
    assert caught.value.what == "output 2"


async def test_difference_is_shown_with_its_input_and_the_state_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(path)
    monkeypatch.setattr(Trade, "reward", lambda _trade, _rules: 1.0)
    shown = io.StringIO()
    assert not await replay(ReplayOptions(path=path, verify=True), Console(file=shown, width=160))
    text = shown.getvalue()
    assert "PublishClosure" in text
    assert "'reward': 1.0" in text
    assert "OrderUpdate(" in text
    assert "position    1.5 by our fills" in text
    assert "entry     67000" in text


async def test_message_that_was_not_recorded_is_a_difference(path: Path) -> None:
    write_journal(path)
    with Journal.open(path) as journal:
        _, started = next(journal.tail(0))
        last = journal.last_seq
        silent = attrs.evolve(started, at_ns=started.at_ns + 10**12, outputs=b"")
        journal.append([Entry(last + 1, silent)])
    with pytest.raises(MismatchError) as caught:
        await verify(path)
    assert caught.value.step.seq == last + 1
    assert caught.value.recorded is None
    assert caught.value.replayed is not None


async def test_wrong_digest_is_a_difference(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        wrong = f"{schema_fingerprint(TradeState)}:{'0' * 64}"
        journal.save_snapshot(journal.last_seq, b"{}", wrong)
        writer.trade("sell", "67001")
        writer.snapshot()
    with pytest.raises(MismatchError, match="digest") as caught:
        await verify(path)
    assert caught.value.recorded == wrong


async def test_state_before_a_step_is_the_state_after_the_previous_one(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        expected = digest(writer.state)
        writer.trade("sell", "67100")
    with open_recording(path) as recording:
        steps = list(recording.begin().steps)
        before = await state_before(recording, steps[-3])
    assert digest(before) == expected


async def test_damaged_journal_is_an_error_and_not_a_difference(path: Path) -> None:
    write_journal(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE records SET raw = raw || x'20' WHERE seq = 5")
    connection.commit()
    connection.close()
    shown = Console(file=io.StringIO())
    with pytest.raises(Exception, match="damaged"):
        await replay(ReplayOptions(path=path, verify=True), shown)


async def test_recording_without_outputs_cannot_be_verified(tmp_path: Path) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text('{"ts": 1790000000, "session": "up"}\n')
    with pytest.raises(RecordingError, match="has no outputs"):
        await replay(ReplayOptions(path=file, verify=True), Console(file=io.StringIO()))
