"""The documentation builds as a site without a warning, and the site needs no other host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(?:https?:)?//"
    r"|<link\b[^>]*\brel=\"(?:stylesheet|preload|preconnect|icon)\"[^>]*\bhref=\"(?:https?:)?//"
    r"|<link\b[^>]*\bhref=\"(?:https?:)?//[^>]*\brel=\"(?:stylesheet|preload|preconnect|icon)\""
    r"|@import|url\(['\"]?(?:https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as scripts/docs does: each warning is an error."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(  # noqa: S603 - a script of this repository
        [sys.executable, ROOT / "scripts/docs.py", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(300)
def test_every_page_of_the_repository_is_on_the_site(site: Path) -> None:
    pages = {file.stem for file in (ROOT / "docs").glob("*.md")} | {"index", "changelog"}
    assert pages <= {file.stem for file in site.glob("*.html")}
    for page in pages:
        assert f'href="{page}.html"' in (site / "index.html").read_text() or page == "index"


@pytest.mark.timeout(300)
def test_what_others_build_on_is_described(site: Path) -> None:
    state = (site / "reference/oms_trio.core.state.html").read_text()
    assert "oms_trio.core.state" in state
    assert re.search(r'<dt class="sig[^>]*id="oms_trio\.core\.state\.\w+\.apply"', state)


@pytest.mark.timeout(300)
def test_links_between_files_of_the_repository_are_links_between_pages(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert 'href="operations.html"' in home
    assert "docs/operations.md" not in home


@pytest.mark.timeout(300)
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not FETCHED.search(file.read_text()), file
