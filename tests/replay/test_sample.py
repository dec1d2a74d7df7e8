"""The sample replays to its golden files, by the commands that a new user types."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from oms_trio.cli import main
from oms_trio.replay.replay_command import ReplayOptions, replay
from tests.replay.journals import write_journal
from tests.replay.sample import ROOT, SAMPLE, SAMPLES

UPDATE = "if the rules have changed on purpose, run scripts/make_sample.py"


async def output(options: ReplayOptions) -> str:
    text = io.StringIO()
    assert await replay(options, Console(file=text, width=100)), UPDATE
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


async def test_summary_and_verification_are_the_golden_ones() -> None:
    """What faults and rules did to this session is known: a changed rule shows here."""
    found = await output(ReplayOptions(path=SAMPLE, verify=True)) + await output(
        ReplayOptions(path=SAMPLE)
    )
    assert found == (SAMPLES / "eventful.summary.txt").read_text(), UPDATE


async def test_messages_are_the_golden_ones(capsys: pytest.CaptureFixture[str]) -> None:
    await output(ReplayOptions(path=SAMPLE, messages=True))
    assert capsys.readouterr().out == (SAMPLES / "eventful.messages.jsonl").read_text(), UPDATE


def test_sample_is_small_and_eventful() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 400_000
    assert SAMPLE.stat().st_size < 400_000
    summary = (SAMPLES / "eventful.summary.txt").read_text()
    for event in ("session_down", "3 started", "lookup", "fills", "cancel_answer", "margin_cap"):
        assert event in summary


def test_script_replays_the_sample_when_no_file_is_named() -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(ROOT / "scripts" / "replay.py"), "--verify"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("verified: ")


def test_command_exits_with_1_when_anything_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    write_journal(path)
    arguments = ["replay", str(path), "--verify"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    monkeypatch.setattr("oms_trio.core.trade.Trade.reward", lambda _trade, _rules: 0.0)
    differs = CliRunner().invoke(main, arguments)
    assert differs.exit_code == 1
    assert "PublishClosure" in differs.output


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["replay", "README.md"], 1, "no line is a frame"),
        (
            ["replay", str(SAMPLE), "--trade", "none"],
            1,
            "no trade was opened or closed by the order none",
        ),
        (["replay", str(SAMPLE), "--from", "2030-01-01"], 1, "has no records in the chosen time"),
        (["replay", str(SAMPLE), "--speed", "fast"], 2, "fast is not a speed"),
        (["replay", str(SAMPLE), "--until", "noon"], 2, "not a valid time"),
        (["replay", "missing"], 2, "does not exist"),
        (["export", str(SAMPLE), "--format", "parquet"], 1, "name a file with -o"),
    ],
)
def test_errors_that_a_user_can_cause_are_one_line(
    arguments: list[str], code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code
    assert line in result.output
    assert "Traceback" not in result.output
