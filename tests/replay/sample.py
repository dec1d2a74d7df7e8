"""The sample recording that comes with the source."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
SAMPLES: Final = ROOT / "samples"
SAMPLE: Final = SAMPLES / "eventful.sqlite.gz"
