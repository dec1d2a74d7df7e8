"""The report is one page without other files, and opens cleanly in a real browser."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import trio

from oms_trio.core.model import Side
from oms_trio.replay.player import play
from oms_trio.replay.recordings.open_recording import open_recording
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.replay.report import charts
from oms_trio.replay.report.page import write_page
from oms_trio.replay.report.report_data import POINTS, ReportData, TimeSeries
from tests.ops.web.browser import browser
from tests.replay.journals import write_journal
from tests.replay.sample import SAMPLE

MAX_BYTES = 1_500_000
KEPT = os.environ.get("SCREENSHOTS")
"""A folder for screenshots, to look at."""


async def report(recording: Path, page: Path) -> ReportData:
    report_data = ReportData()
    with open_recording(recording) as opened:
        await play(opened, [report_data])
        report_data.finish()
        write_page(page, opened.title, report_data)
    return report_data


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReportData]:
    """The page of the sample, for several tests."""
    page = tmp_path_factory.mktemp("report") / "page.html"
    return page, trio.run(report, SAMPLE, page)


SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg text')].map(
    text => text.getBoundingClientRect().height).filter(height => height > 0))"""


class Balanced(HTMLParser):
    """Notes which elements are not closed where they have to be."""

    VOID = frozenset({"meta", "link", "br"})
    OPTIONAL = frozenset({"tr", "td", "th", "dt", "dd", "p"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID | self.OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPTIONAL and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)


def test_page_is_well_formed_small_and_needs_no_other_file(sample: tuple[Path, ReportData]) -> None:
    page, report_data = sample
    text = page.read_text()
    assert len(text.encode()) < MAX_BYTES
    parser = Balanced()
    parser.feed(text)
    assert (parser.open, parser.wrong) == ([], [])
    assert "<script" not in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert not re.findall(r"url\((?!#)|@import", text)
    assert text.count("<details ") == len(report_data.trades)
    for trade in report_data.trades:
        for name, _ in trade.portions:
            assert name in text
    assert text.count("<svg") == 7
    ids = re.findall(r'<(?:figure|details) id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    # Every colour is defined by the page, for dark mode and for paper.
    assert not re.search(r"(?:fill|stroke): #", text)


def test_same_data_gives_the_same_chart(sample: tuple[Path, ReportData]) -> None:
    first, second = (
        charts.svg(charts.rewards, sample[1], width=4.0, height=3.0, name="a") for _ in range(2)
    )
    assert first == second


async def test_page_opens_in_a_browser(sample: tuple[Path, ReportData], tmp_path: Path) -> None:
    """Without errors, light and dark, on desktop and phone; rows open on a click."""
    page, report_data = sample
    async with browser(tmp_path / "chromium") as tab:
        await tab.open(page.as_uri())
        await tab.until("document.readyState === 'complete' && !!document.querySelector('svg')")
        rows = "document.querySelectorAll('details').length"
        assert await tab.value(rows) == len(report_data.trades)
        await tab.value("document.querySelector('summary').click()")
        assert await tab.value("document.querySelector('details table').offsetHeight > 20")
        await tab.value("document.querySelectorAll('details').forEach(row => row.open = true)")
        seen = set()
        for name, width, height in (("desktop", 1280, 900), ("phone", 390, 844)):
            for dark in (False, True):
                await tab.resize(width, height, dark=dark)
                await tab.until(f"innerWidth === {width}")
                wide = await tab.value("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name}: nobody should have to scroll sideways"
                small = await tab.value(SMALLEST_TEXT)
                assert small >= 8, f"{name}: text of {small:.1f} px is not readable"
                seen.add(await tab.value("getComputedStyle(document.body).backgroundColor"))
                if KEPT:
                    await tab.screenshot(Path(KEPT) / f"{name}-{'dark' if dark else 'light'}.png")
        assert len(seen) == 2
        assert not tab.errors


async def test_charts_on_paper_are_as_large_as_they_were_drawn(
    sample: tuple[Path, ReportData], tmp_path: Path
) -> None:
    """On letter and A4: a narrow chart over the whole width would be twice as large."""
    page, _ = sample
    async with browser(tmp_path / "chromium") as tab:
        await tab.open(page.as_uri())
        await tab.until("document.readyState === 'complete' && !!document.querySelector('svg')")
        for width in (688, 710):
            await tab.resize(width, 930)
            await tab.call("Emulation.setEmulatedMedia", media="print")
            await tab.until("getComputedStyle(document.body).paddingTop === '0px'")
            for name, whole in (("over-time", 1.0), ("rewards", 0.5), ("latencies", 0.5)):
                shown = f"[...document.querySelectorAll('#{name} svg')].map(svg => svg.getBoundingClientRect().width)"
                assert await tab.value(f"Math.max(...{shown})") == pytest.approx(
                    width * whole, rel=0.05
                )
            assert await tab.value(SMALLEST_TEXT) >= 7


async def test_page_of_an_almost_empty_recording_is_drawn(tmp_path: Path) -> None:
    """Without trades, rejections and latencies the charts are empty and nothing fails."""
    journal, page = tmp_path / "journal.sqlite", tmp_path / "page.html"
    write_journal(journal, [("buy", "67000")])
    report_data = await report(journal, page)
    assert [trade.reward for trade in report_data.trades] == [None]
    assert "still open" in page.read_text()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out where a test is not about them: they take a second."""
    monkeypatch.setattr(charts, "svg", lambda *_args, **_more: "")


@pytest.mark.usefixtures("undrawn")
async def test_text_of_the_exchange_cannot_become_markup(tmp_path: Path) -> None:
    lines = '{"ts":1790000000,"session":"up"}\n{"ts":1790000001,"session":"down","why":"<b onload=x>"}\n'
    frames, page = tmp_path / "<i>.jsonl", tmp_path / "page.html"
    frames.write_text(lines)
    await report(frames, page)
    text = page.read_text()
    assert "<i>" not in text
    assert "<b onload" not in text
    assert "&lt;b onload=x&gt;" in text


@pytest.mark.usefixtures("undrawn")
async def test_missing_matplotlib_and_bad_folders_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        await report(SAMPLE, tmp_path / "no" / "page.html")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "oms_trio.replay.report.charts")
    monkeypatch.delattr("oms_trio.replay.report.charts")
    with pytest.raises(RecordingError, match=r"pip install 'oms-trio\[report\]'"):
        await report(SAMPLE, tmp_path / "page.html")


def test_series_are_thinned_out_evenly() -> None:
    series = TimeSeries()
    for number in range(100_000):
        series.add(number, number)
    assert POINTS <= len(series) <= 2 * POINTS
    steps = {after - before for before, after in zip(series.at_ns, series.at_ns[1:], strict=False)}
    assert max(steps) <= 2 * min(steps)
    assert series.at_ns == [int(value) for value in series.values]
    assert set(ReportData().fills) == set(Side)
