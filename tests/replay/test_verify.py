"""What replay gives is what was recorded, or it says where it is not."""

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
from oms_trio.replay.program import Wanted, replay
from oms_trio.replay.recordings.files import open_recording
from oms_trio.replay.recordings.model import Moment, RecordingError
from oms_trio.replay.verify import Different, Verifier, state_before
from oms_trio.service.state_codec import digest, schema_fingerprint
from tests.replay.journals import Bench, write_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def verify(path: Path) -> Verifier:
    with open_recording(path) as recording:
        verifier = Verifier(recording.digests)
        await play(recording, [verifier])
        return verifier


async def test_same_rules_give_same_messages_and_digest(path: Path) -> None:
    bench = write_journal(path)
    verifier = await verify(path)
    with Journal.open(path, read_only=True) as journal:
        assert verifier.steps == journal.last_seq
    assert verifier.messages == len(bench.effects)
    assert verifier.digests_seen == 1
    with open_recording(path) as recording:
        assert digest(await play(recording)) == digest(bench.state)


def in_older_words(moment: Moment, **changes: object) -> Moment:
    """The record as a release wrote it that told of no cause, and asked another question."""
    then = msgspec.json.decode(moment.step.outputs or b"[]")
    for _, fields in then:
        fields.pop("cause", None)
        fields.update({name: value for name, value in changes.items() if name in fields})
    if then:
        then.insert(0, ["RequestSnapshot", {"number": 1}])
    outputs = msgspec.json.encode(then) if then else b""
    return attrs.evolve(moment, step=attrs.evolve(moment.step, outputs=outputs))


async def test_other_release_may_say_the_same_in_other_words(path: Path) -> None:
    """Only where a digest says that it was another one: this release says it in the same."""
    write_journal(path)
    with open_recording(path) as recording:
        (end,) = recording.digests
        other = Verifier({end: "another shape:digest"})
        await play(recording, [lambda moment: other(in_older_words(moment))])
        assert 0 < other.in_other_words < other.steps == end
        for own in (Verifier(recording.digests), Verifier({})):
            with pytest.raises(Different):
                await play(recording, [lambda moment, own=own: own(in_older_words(moment))])


async def test_other_release_that_said_something_else_is_found(path: Path) -> None:
    write_journal(path)
    with open_recording(path) as recording:
        other = Verifier(dict.fromkeys(recording.digests, "another shape:digest"))
        with pytest.raises(Different) as caught:
            await play(recording, [lambda moment: other(in_older_words(moment, reward=0.25))])
    assert isinstance(caught.value.then, list)
    assert caught.value.then[0] == "PublishClosure"


async def test_changed_reward_is_found_at_the_first_closure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = write_journal(path)
    true_reward = Trade.reward
    monkeypatch.setattr(Trade, "reward", lambda trade, rules: true_reward(trade, rules) * 1.000001)
    with pytest.raises(Different) as caught:
        await verify(path)
    closure = next(e for e in bench.effects if type(e).__name__ == "PublishClosure")
    assert isinstance(caught.value.then, list)
    assert isinstance(caught.value.now, list)
    assert caught.value.then[0] == caught.value.now[0] == "PublishClosure"
    assert caught.value.then[1]["ord_id"] == closure.ord_id  # type: ignore[union-attr]
    assert caught.value.then[1]["reward"] != caught.value.now[1]["reward"]
    # The execution before it is the same, so it is the second message of its input.
    assert caught.value.what == "message 2"


async def test_difference_is_shown_with_its_input_and_the_state_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journal(path)
    monkeypatch.setattr(Trade, "reward", lambda _trade, _rules: 1.0)
    shown = io.StringIO()
    assert not await replay(Wanted(path=path, verify=True), Console(file=shown, width=160))
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
    with pytest.raises(Different) as caught:
        await verify(path)
    assert caught.value.step.seq == last + 1
    assert caught.value.then is None
    assert caught.value.now is not None


async def test_wrong_digest_is_a_difference(path: Path) -> None:
    with Journal.open(path) as journal:
        bench = Bench(journal)
        bench.start()
        bench.trade("buy", "67000")
        wrong = f"{schema_fingerprint(TradeState)}:{'0' * 64}"
        journal.save_snapshot(journal.last_seq, b"{}", wrong)
        bench.trade("sell", "67001")
        bench.snapshot()
    with pytest.raises(Different, match="digest") as caught:
        await verify(path)
    assert caught.value.then == wrong


async def test_state_before_a_step_is_the_state_behind_the_one_before(path: Path) -> None:
    with Journal.open(path) as journal:
        bench = Bench(journal)
        bench.start()
        bench.trade("buy", "67000")
        expected = digest(bench.state)
        bench.trade("sell", "67100")
    with open_recording(path) as recording:
        steps = list(recording.begin().steps)
        before = await state_before(recording, steps[-3])
    assert digest(before) == expected


async def test_damage_is_told_and_not_taken_for_a_difference(path: Path) -> None:
    write_journal(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE records SET raw = raw || x'20' WHERE seq = 5")
    connection.commit()
    connection.close()
    shown = Console(file=io.StringIO())
    with pytest.raises(Exception, match="damaged"):
        await replay(Wanted(path=path, verify=True), shown)


async def test_recording_without_outputs_cannot_be_verified(tmp_path: Path) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text('{"ts": 1790000000, "link": "up"}\n')
    with pytest.raises(RecordingError, match="keeps no outputs"):
        await replay(Wanted(path=file, verify=True), Console(file=io.StringIO()))
