"""What operators read agrees with the source: events, alerts, metrics, verbs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from oms_trio.cli import main
from oms_trio.core.events import Verb
from oms_trio.core.model import RejectReason
from oms_trio.ops.metrics import Metrics
from oms_trio.ops.web.pages import PAGE
from tests.deploy.events import events_of_the_source

ROOT = Path(__file__).parents[2]
ALERTS = (ROOT / "deploy/prometheus/alerts.yml").read_text()
DASHBOARD = (ROOT / "deploy/grafana/oms-trio.json").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

LINE_MAX = 200


def test_the_table_of_events_is_that_of_the_source() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/events.md").read_text(), re.MULTILINE
    )
    documented = {name: {level} for name, level in rows}
    assert len(rows) == len(documented)
    assert documented == events_of_the_source()
    assert list(documented) == sorted(documented)


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    assert re.findall(r"^### (Oms\w+)$", RUNBOOK, re.MULTILINE) == alerts
    assert set(re.findall(r"\bOms[A-Z]\w+", RUNBOOK + OPERATIONS)) <= set(alerts)


def exposed() -> set[str]:
    families = Metrics().registry.collect()
    plain = {sample.name for family in families for sample in family.samples}
    histograms = {f"{family.name}_bucket" for family in Metrics().registry.collect()}
    labelled = {"oms_alerts_total"}  # no sample before something happens
    return plain | histograms | labelled | {"process_resident_memory_bytes"}


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_alerts_and_dashboard_use_metrics_that_exist(text: str) -> None:
    expressions = "\n".join(re.findall(r'(?:expr: |"expr": )(.*)', text))
    used = set(re.findall(r"\b(?:oms|process)_[a-z_]+\b", expressions))
    assert len(used) > 10
    assert used <= exposed()


def test_the_dashboard_is_json_with_panels_that_do_not_overlap() -> None:
    board = json.loads(DASHBOARD)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_verb_is_explained_and_offered() -> None:
    help_text = CliRunner().invoke(main, ["ctl", "--help"]).output
    for verb in Verb:
        assert f"| `{verb.value}` |" in OPERATIONS
        assert re.search(rf"^ *{verb.value}  +\w", help_text, re.MULTILINE), "explained by ctl"
        assert f'<button value="{verb.value}"' in PAGE


def test_the_page_asks_for_confirmation_of_what_cannot_be_undone() -> None:
    confirmed = re.search(r"\[([^]]*)\]\.includes\(verb\) && !confirm", PAGE)
    assert confirmed is not None
    assert set(re.findall(r'"([\w-]+)"', confirmed[1])) == {
        verb.value for verb in Verb if verb not in {Verb.PAUSE, Verb.RESUME}
    }


def test_every_reason_of_a_rejection_is_documented() -> None:
    page = (ROOT / "docs" / "wire.md").read_text()
    (reasons,) = re.findall(r"^A rejection's `reason` is one of `([a-z_ ]+)`", page, re.MULTILINE)
    assert reasons.split() == [reason.value for reason in RejectReason]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_is_too_long_to_read_or_to_review(page: Path) -> None:
    """Except rows of tables, and lines that are long because of a URL."""
    too_long = [
        f"{page.name}:{number}"
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if not line.startswith("|") and len(re.sub(r"https?://\S+", "", line)) > LINE_MAX
    ]
    assert not too_long
