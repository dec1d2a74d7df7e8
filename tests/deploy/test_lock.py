"""What is deployed is locked: every version is pinned, checked by hash, and allowed by pyproject."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import attrs
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTALL = (ROOT / "deploy/install.sh").read_text()
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
RUNS = ROOT / "deploy/requirements.lock"
BUILDS = ROOT / "deploy/build.lock"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@attrs.frozen
class Pin:
    """One package of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The one version that it may have."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "==", self.requirement
        return specifier.version


def pins(lock: Path) -> dict[str, Pin]:
    """Read a lock file: a package, then its hashes on lines that belong to it."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    found: dict[str, Pin] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        first, *hashes = re.split(r"\s+--hash=", entry.rstrip())
        requirement = Requirement(first)
        found[canonicalize_name(requirement.name)] = Pin(requirement, tuple(hashes))
    return found


def wanted(*extras: str) -> list[Requirement]:
    """Return what pyproject asks for."""
    project = PROJECT["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def installs(requirement: Requirement, python: str) -> bool:
    """Whether pip installs it with a CPython of this version on Linux."""
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    return requirement.marker is None or requirement.marker.evaluate(here)


@pytest.mark.parametrize("lock", [RUNS, BUILDS], ids=lambda lock: lock.name)
def test_every_pin_is_one_version_with_the_hashes_of_its_files(lock: Path) -> None:
    for name, pin in pins(lock).items():
        assert pin.version, name
        assert pin.hashes, name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in pin.hashes), name


@pytest.mark.parametrize("lock", [RUNS, BUILDS], ids=lambda lock: lock.name)
def test_a_lock_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--[\w-]*(index|links|host)[\w-]*)\b", text, re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python: str) -> None:
    locked = pins(RUNS)
    for requirement in wanted("fast"):
        pin = locked[canonicalize_name(requirement.name)]
        assert installs(pin.requirement, python)
        assert requirement.specifier.contains(pin.version, prereleases=True), requirement


def test_what_builds_the_wheel_is_pinned() -> None:
    locked = pins(BUILDS)
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        pin = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), requirement


@pytest.mark.parametrize("script", [INSTALL, DOCKERFILE], ids=["install.sh", "Dockerfile"])
def test_an_installation_takes_the_locked_versions_and_resolves_none(script: str) -> None:
    commands = re.findall(
        r"(?:bin/pip|RUN pip|&& pip|in_venv \S+) (?:install|wheel) ([^&\n]+)",
        script.replace("\\\n", " "),
    )
    locked = [line for line in commands if re.search(r"--require-hashes -r \S+\.lock", line)]
    assert [Path(line.split()[-1].strip('"')).name for line in locked] == [BUILDS.name, RUNS.name]
    others = [line for line in commands if line not in locked]
    assert len(others) == 2, "the wheel is built, and installed"
    assert all("--no-deps" in line for line in others)
    assert all("--no-build-isolation" in line or "--no-index" in line for line in others)


def test_the_tested_pythons_are_those_that_the_package_names() -> None:
    prefix = "Programming Language :: Python :: "
    named = [
        line.removeprefix(prefix)
        for line in PROJECT["project"]["classifiers"]
        if line.startswith(prefix)
    ]
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert named == PYTHONS == re.findall(r'"([0-9.]+)"', matrix)
