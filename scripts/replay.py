#!/usr/bin/env python3
"""Replay a recorded session; without FILE, the sample of this repository.

    scripts/replay.py [FILE] [options of `oms-trio replay`]

Runs `oms-trio replay`. If the package is missing, it creates the virtual environment first, as
scripts/demo does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "eventful.sqlite.gz"


def with_package() -> None:
    """Restart in the virtual environment, after installing the package there."""
    python = ROOT / ".venv" / "bin" / "python"
    if Path(sys.prefix) != ROOT / ".venv":
        bootstrap = f'. "{ROOT}/scripts/bootstrap" && bootstrap base'
        done = subprocess.run(["bash", "-c", bootstrap], check=False)  # noqa: S603, S607 - our own
        if done.returncode:
            sys.exit(1)
        os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - our own interpreter


def main() -> None:
    """Run the command ``replay``."""
    try:
        import oms_trio.cli  # noqa: PLC0415 - it may have to be installed first
    except ImportError:
        with_package()
        raise
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-"):
        wanted = {"-h", "--help"} & set(arguments)
        arguments = arguments if wanted else [str(SAMPLE), *arguments]
    oms_trio.cli.main(["replay", *arguments], prog_name="oms-trio")


if __name__ == "__main__":
    main()
