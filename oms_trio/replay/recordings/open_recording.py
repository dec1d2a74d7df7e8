"""Open a recording by its path: a journal, a state folder, or JSON lines."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from oms_trio.core.model import Instrument
from oms_trio.journal.journal import Journal
from oms_trio.replay.recordings.frames import FramesRecording
from oms_trio.replay.recordings.journals import JournalRecording
from oms_trio.replay.recordings.recording import Recording, RecordingError
from oms_trio.service.runtime import JOURNAL
from oms_trio.settings.config import Config

_SQLITE: Final = b"SQLite format 3\0"
_GZIP: Final = b"\x1f\x8b"

BTC_USDT_SWAP: Final = Instrument(
    inst_id="BTC-USDT-SWAP",
    inst_id_code=10459,
    ct_val=Decimal("0.01"),
    ct_mult=Decimal(1),
    tick_sz=Decimal("0.1"),
    lot_sz=Decimal("0.01"),
    min_sz=Decimal("0.01"),
)
"""The instrument of frames that were recorded without their instrument's rules."""


@contextmanager
def open_recording(
    path: Path, *, all_orders: bool | None = None, instrument: Instrument = BTC_USDT_SWAP
) -> Iterator[Recording]:
    """Open a journal (or the state folder that holds it) or JSON lines, either also as ``.gz``.

    A journal is opened read-only, also while the service is writing it. ``all_orders`` and
    ``instrument`` apply to JSON lines only: see ``FramesRecording``.

    Raises:
        RecordingError, StateError: the recording cannot be read.
    """
    if path.is_dir():
        path /= JOURNAL
    head, compressed = _head(path)
    if not head.startswith(_SQLITE):
        # Frames of the private channels may lack the mark price that the price collar needs.
        rules = Config.from_environ({"OMS_PRICE_COLLAR": "0"}).rules()
        yield FramesRecording(path, rules, instrument, all_orders)
        return
    with TemporaryDirectory(prefix="oms-trio-replay-") as folder:
        plain = _decompressed(path, Path(folder)) if compressed else path
        with Journal.open(plain, create=False, read_only=True) as journal:
            yield JournalRecording(journal, f"journal {path.name}")


def _head(path: Path) -> tuple[bytes, bool]:
    """Return the first bytes of the content, and whether the file is gzip."""
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            if not compressed:
                return file.read(len(_SQLITE)), False
            with gzip.GzipFile(fileobj=file) as content:
                return content.read(len(_SQLITE)), True
    except (OSError, EOFError, zlib.error) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise RecordingError(f"{path}: {why}") from None


def _decompressed(path: Path, folder: Path) -> Path:
    plain = folder / JOURNAL
    try:
        with gzip.open(path) as archive, plain.open("wb") as file:
            shutil.copyfileobj(archive, file)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: {error}") from None
    return plain
