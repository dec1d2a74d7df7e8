"""Forgets what the journal need not keep any more."""

from __future__ import annotations

import structlog
import trio

from oms_trio.journal.errors import JournalFull
from oms_trio.journal.worker import JournalWorker
from oms_trio.settings.clock import Clock

log = structlog.get_logger()

EVERY_S = 3600.0

STEP = 1000
"""Records removed at once: some milliseconds, in which no commit can begin."""

PAUSE_S = 0.1


async def retain(disk: JournalWorker, keep_ns: int, clock: Clock) -> None:
    """Remove records older than ``keep_ns`` that snapshots cover, hourly, until cancelled.

    Raises:
        StateError: the disk failed or the journal is damaged.
    """
    while True:
        removed = 0
        try:
            while step := await disk.run(disk.journal.compact, clock() - keep_ns, STEP):
                removed += step
                await trio.sleep(PAUSE_S)
        except JournalFull as error:
            log.warning("journal_compaction_failed", why=str(error))
        if removed:
            log.info("journal_compacted", removed=removed)
        await trio.sleep(EVERY_S)
