"""Playing a recording: its speed, where it begins and ends, and what watchers see."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from oms_trio.core.effects import FillBooked
from oms_trio.journal.journal import Journal
from oms_trio.replay.player import AHEAD, Until, play
from oms_trio.replay.recording_clock import RecordingClock
from oms_trio.replay.recordings.journals import JournalRecording
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import PlayedStep, RecordingError
from oms_trio.service.state_codec import digest
from tests.core.desk import SECOND
from tests.replay.journals import JournalWriter, position_push, write_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def played_steps(
    path: Path, from_ns: int | None = None, until: Until | None = None
) -> list[int]:
    """Return the numbers of the steps that a watcher sees."""
    seen: list[int] = []
    with open_recording(path) as recording:
        await play(
            recording,
            [lambda played: seen.append(played.step.seq)],
            from_ns=from_ns,
            until=until or Until(),
        )
    return seen


async def test_watchers_see_every_step_in_order(path: Path) -> None:
    write_journal(path)
    with Journal.open(path, read_only=True) as journal:
        assert await played_steps(path) == list(range(1, journal.last_seq + 1))


async def test_from_and_until_bound_what_is_seen(path: Path) -> None:
    writer = write_journal(path)
    with Journal.open(path, read_only=True) as journal:
        times = {seq: record.at_ns for seq, record in journal.tail(0)}
    assert await played_steps(path, times[5], Until(times[9])) == [5, 6, 7, 8, 9]
    assert await played_steps(path, writer.now_ns + 1) == []


async def test_each_fill_is_shown_once_with_its_effect_on_the_trade(path: Path) -> None:
    write_journal(path, [("buy", "67000"), ("buy", "66000"), ("sell", "67100")])
    booked: list[FillBooked] = []

    def watch(played: PlayedStep) -> None:
        booked.extend(played.booked)

    with open_recording(path) as recording:
        state = await play(recording, [watch])
    size = booked[0].fill.sz
    assert [one.reduced for one in booked] == [Decimal(0), Decimal(0), size]
    assert [one.position for one in booked] == [size, size * 2, size]
    assert booked[0].opened is not None
    assert booked[1].trade == booked[0].opened
    assert booked[2].gain == (booked[2].fill.px - 66500) * booked[2].fill.sz / 100
    assert state.book.fills == 3


async def test_clock_jumps_unless_a_speed_is_given(path: Path, autojump_clock: MockClock) -> None:
    """At speed 1 a recording lasts as long as it did, at 10 a tenth of that."""
    write_journal(path)
    with Journal.open(path, read_only=True) as journal:
        times = [record.at_ns for _, record in journal.tail(0)]
    lasted = (times[-1] - times[0]) / SECOND
    for speed, expected in ((None, 0.0), (1.0, lasted), (10.0, lasted / 10)):
        began = trio.current_time()
        with open_recording(path) as recording:
            await play(recording, before=RecordingClock(speed).wait)
        assert trio.current_time() - began == pytest.approx(expected)


async def test_steps_are_played_at_their_recorded_times(
    path: Path, autojump_clock: MockClock
) -> None:
    write_journal(path)
    offsets: list[float] = []
    began = trio.current_time()

    def watch(played: PlayedStep) -> None:
        offsets.append(played.step.at_ns / SECOND - (trio.current_time() - began))

    with open_recording(path) as recording:
        await play(recording, [watch], before=RecordingClock(1.0).wait)
    assert max(offsets) - min(offsets) < 1e-3


async def test_playing_from_the_nearest_snapshot_gives_the_same_state(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        writer.snapshot()
        writer.trade("sell", "67100")
        then_ns = writer.now_ns
        expected = digest(writer.state)
        writer.trade("buy", "67000")
        writer.snapshot()
    with open_recording(path) as recording:
        short = await play(recording, near_ns=then_ns, until=Until(then_ns))
        whole = await play(recording, until=Until(then_ns))
        first = next(recording.begin(then_ns).steps)
    assert digest(short) == digest(whole) == expected
    assert first.seq > 5


async def test_compacted_journal_is_played_from_its_oldest_snapshot(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        writer.snapshot()
        writer.trade("sell", "67100")
        while journal.compact(writer.now_ns):
            pass
        assert journal.first_seq > 1
    with open_recording(path) as recording:
        assert digest(await play(recording)) == digest(writer.state)


async def test_journal_is_read_while_a_service_writes_it(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        with open_recording(path) as recording:
            assert digest(await play(recording)) == digest(writer.state)
            writer.trade("sell", "67100")
            assert recording.progress() == 1.0
        with open_recording(path) as recording:
            assert digest(await play(recording)) == digest(writer.state)


async def test_clock_that_stepped_back_between_two_processes_is_accepted(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.trade("buy", "67000")
        writer.now_ns -= 3600 * SECOND
        writer.start()
        writer.trade("sell", "67100")
    with open_recording(path) as recording:
        state = await play(recording)
    assert digest(state) == digest(writer.state)


async def test_reader_runs_ahead_by_a_bounded_number_of_steps(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a recording is, only some batches of it are in memory."""
    monkeypatch.setattr("oms_trio.replay.player.BATCH", 8)
    write_journal(path, [("buy", "67000"), ("sell", "67100")] * 20)
    furthest = 0
    with Journal.open(path, read_only=True) as journal:
        recording = JournalRecording(journal, "long")
        total = journal.last_seq

        def watch(played: PlayedStep) -> None:
            nonlocal furthest
            read = round(recording.progress() * total)
            furthest = max(furthest, read - played.step.seq)

        await play(recording, [watch])
    assert total > 150
    assert furthest <= (AHEAD + 2) * 8


async def test_empty_journal_is_an_error(path: Path) -> None:
    Journal.open(path).close()
    with pytest.raises(RecordingError, match="nothing was recorded"), open_recording(path):
        pass


async def test_unreadable_record_of_another_release_is_named_by_number(path: Path) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        taken = next(iter(JournalRecording(journal, "").begin().steps)).journaled_input
        object.__setattr__(taken, "kind", type("Kind", (), {"value": "telegram"}))
        writer.feed(taken)
    with (
        open_recording(path) as recording,
        pytest.raises(RecordingError, match=r"record 4 cannot be read.*another release"),
    ):
        await play(recording)


async def test_steps_before_from_are_not_waited_for(path: Path, autojump_clock: MockClock) -> None:
    writer = write_journal(path)
    from_ns = writer.now_ns - 2 * SECOND
    began = trio.current_time()
    with open_recording(path) as recording:
        await play(recording, from_ns=from_ns, before=RecordingClock(1.0, from_ns).wait)
    assert trio.current_time() - began <= 2


async def test_recording_time_runs_between_steps_and_stands_still_while_one_is_applied(
    path: Path, autojump_clock: MockClock
) -> None:
    with Journal.open(path) as journal:
        writer = JournalWriter(journal)
        writer.start()
        writer.push(position_push("0", "", 1), 10.0)
    clock = RecordingClock(2.0)
    seen: list[int] = []
    with open_recording(path) as recording:
        first, *_, before, last = [step.at_ns for step in recording.begin().steps]

        def watch(played: PlayedStep) -> None:
            seen.append(clock() - played.step.at_ns)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(play, recording, [watch], before=clock.wait))
            await trio.sleep((before - first) / SECOND / 2 + 2.5)
            assert clock() == pytest.approx(before + 5 * SECOND, abs=1000)
    assert set(seen) == {0}
    await trio.sleep(60)
    assert clock() == last


async def test_live_replay_is_read_no_further_than_it_is_played(path: Path) -> None:
    """Progress on the page agrees with the time on it."""
    write_journal(path, [("buy", "67000"), ("sell", "67100")] * 20)
    ahead: list[float] = []
    with open_recording(path) as recording:
        total = sum(1 for _ in recording.begin().steps)

        def watch(played: PlayedStep) -> None:
            ahead.append(recording.progress() * total - played.step.seq)

        await play(recording, [watch], before=RecordingClock().wait)
    assert max(ahead) <= AHEAD + 3
