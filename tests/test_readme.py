"""README, settings and architecture say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import click

from oms_trio.cli import main
from oms_trio.settings.config import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    shown = {"OMS_STATE_DIR": "~/.local/state/oms-trio", "RABBITMQ_PASS": "guest"}
    for row in Config.from_environ({"HOME": "/home/agent"}).table():
        default = shown.get(row.name, row.value)
        cell = f"`{default}`" if default else ""
        line = rf"\| `{row.name}` \| *{re.escape(cell)} *\| {re.escape(row.meaning)} \|"
        assert re.search(line, SETTINGS), row.name


def test_the_table_names_no_unknown_setting() -> None:
    known = {row.name for row in Config.from_environ({"HOME": "/home/agent"}).table()}
    named = set(re.findall(r"^\| `((?:OKX|OMS|RABBITMQ)_[A-Z_]+)` \|", SETTINGS, re.MULTILINE))
    assert named == known


def test_every_command_stands_in_the_table() -> None:
    assert isinstance(main, click.Group)
    named = set(re.findall(r"^\| `([a-z]+)` \|", README, re.MULTILINE))
    assert named == set(main.commands)


def test_every_file_that_is_linked_or_named_is_there() -> None:
    named = re.findall(r"\]\(([a-z][^)#:]*)\)", README)
    named += re.findall(r"`((?:docs|scripts|deploy|tests|oms_trio)/[\w./-]*\w)/?`", README)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_every_file_of_the_architecture_is_there() -> None:
    named = re.findall(r"`((?:oms_trio/)?[\w/]+(?:\.py|/))`", ARCHITECTURE)
    assert len(named) > 40
    for name in named:
        path = ROOT / name
        assert path.exists() or (ROOT / "oms_trio" / name).exists(), name
