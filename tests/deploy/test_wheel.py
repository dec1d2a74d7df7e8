"""What is installed: the package with the simulated exchange, without the simulation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
SIMULATION = "oms_trio/testing/simulation/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Build the wheel as an installation does, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", folder], cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own build
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def test_wheel_has_every_module_except_those_of_the_simulation(wheel: ZipFile) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("oms_trio/**/*.py")}
    expected = {name for name in modules if not name.startswith(SIMULATION)}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert "oms_trio/testing/okx_server/exchange.py" in expected
    assert expected < modules


def test_no_module_of_the_wheel_imports_the_simulation(wheel: ZipFile) -> None:
    importing = [
        name
        for name in wheel.namelist()
        if name.endswith(".py") and b"testing.simulation" in wheel.read(name)
    ]
    assert importing == []
