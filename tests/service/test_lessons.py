"""The pages of lessons and of trust name tests; each of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lessons.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|(.*)$", PAGE, re.MULTILINE)
TRUST = (ROOT / "docs" / "trust.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE + TRUST)))
FILES = sorted(set(re.findall(r"`(tests/[^\s:`]+)`", TRUST)))


def test_every_lesson_has_its_report_and_a_test() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 21))
    for number, row in ROWS:
        assert "](https://github.com/" in row, number
        assert "`tests/" in row, number


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text()
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)


@pytest.mark.parametrize("path", FILES)
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()
