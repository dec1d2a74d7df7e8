"""The page of lessons names tests; each of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lessons.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|(.*)$", PAGE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)))


def test_every_lesson_has_its_report_and_a_test() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 21))
    for number, row in ROWS:
        assert "](https://github.com/" in row, number
        assert "`tests/" in row, number


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text()
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)
