"""Takes the pictures that the documentation shows, from the program itself in a headless Chromium.

    scripts/screenshots [FOLDER]

``page.png`` is the status page while the demo trades, ``report.png`` the report of the sample.
"""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from PIL import Image

from tests.ops.web.browser import Tab, browser

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples/eventful.sqlite.gz"
PROGRAM = [sys.executable, "-m", "oms_trio"]
PAGE_SIZE = 1440, 900
REPORT_WIDTH = 1160
SEED = "3"
TRADES_FOR_S = 45.0
"""After this long the curves have a shape, and the tables are full."""

AT_REST = """(() => {
    const ours = parseFloat(document.getElementById("position")?.textContent);
    const theirs = parseFloat(document.querySelector("#position-facts dd")?.textContent);
    return ours && ours === theirs;
})()"""
"""A position is open, and the exchange's push of it has arrived."""

COLOURS = 255


@contextmanager
def demo(folder: Path) -> Iterator[str]:
    """Run the demo for the block; gives the address of its status page."""
    command = [*PROGRAM, "demo", "--http", "--seconds", "300", "--seed", SEED]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"status page: (\S+)", line):
                    yield found[1]
                    break
        finally:
            process.terminate()
            process.stdout.read()


async def picture(tab: Tab, file: Path) -> None:
    """Keep what the screen shows, with few colours: the pages have no more."""
    await tab.value("document.documentElement.style.scrollbarWidth = 'none'")
    shot = await tab.call("Page.captureScreenshot")
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


async def picture_of_report(file: Path, folder: Path) -> None:
    """Show the top of the sample's report, down to the end of its first figure."""
    report = folder / "report.html"
    replay = [*PROGRAM, "replay", str(SAMPLE), "--report", str(report)]
    await trio.run_process(replay, capture_stdout=True)
    async with browser(folder / "chromium-report") as tab:
        await tab.open(report.as_uri())
        await tab.resize(REPORT_WIDTH, 900)
        await tab.until(f"document.readyState === 'complete' && innerWidth === {REPORT_WIDTH}")
        bottom = await tab.value("document.querySelector('figure').getBoundingClientRect().bottom")
        await tab.resize(REPORT_WIDTH, round(bottom) + 16)
        await tab.until(f"innerHeight === {round(bottom) + 16}")
        await picture(tab, file)


async def picture_of_page(file: Path, folder: Path) -> None:
    """Show the status page of a demo that has traded for a while."""
    with demo(folder) as address:
        async with browser(folder / "chromium-page") as tab:
            await tab.open(address)
            await tab.resize(*PAGE_SIZE)
            await trio.sleep(TRADES_FOR_S)
            await tab.until(AT_REST)
            await picture(tab, file)


async def take(pictures: Path, folder: Path) -> None:
    """Take both."""
    await picture_of_report(pictures / "report.png", folder)
    await picture_of_page(pictures / "page.png", folder)


def main() -> None:
    """Take them into the folder that is named, or into docs/images."""
    pictures = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/images").resolve()
    pictures.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="oms-trio-screenshots-") as folder:
        trio.run(take, pictures, Path(folder))
    for file in sorted(pictures.glob("*.png")):
        sys.stdout.write(f"{file}: {file.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
