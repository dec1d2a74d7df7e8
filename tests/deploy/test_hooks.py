"""The hooks for a commit need nothing that is not in the repository, and judge as the tests do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^ +- ([\w-]+)==(\S+)$", HOOKS, re.MULTILINE))


def ranges() -> dict[str, Requirement]:
    """What pyproject says of each package that it names."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["fast"], *extras["dev"]]
    found = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_hooks_need_no_environment_and_no_other_repository() -> None:
    assert set(re.findall(r"\blanguage: (\w+)", HOOKS)) == {"python"}
    assert set(re.findall(r"^ *- repo: (\S+)", HOOKS, re.MULTILINE)) == {"local"}
    assert "://" not in HOOKS
    assert ".venv/" not in HOOKS


def test_hooks_use_versions_that_pyproject_allows() -> None:
    known = ranges()
    assert {"ruff", "mypy", "import-linter"} <= set(PINNED)
    for name, version in PINNED.items():
        if name in known:
            assert known[name].specifier.contains(version), name


def test_types_are_checked_against_the_versions_that_are_deployed() -> None:
    locked = dict(
        re.findall(
            r"^([\w-]+)==([^\s;]+)", (ROOT / "deploy/requirements.lock").read_text(), re.MULTILINE
        )
    )
    for name, version in PINNED.items():
        assert locked.get(name, version) == version, name


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_types_are_checked_with_every_dependency_at_hand(line: str) -> None:
    assert canonicalize_name(Requirement(line).name) in PINNED
