"""A thread of the journal's own, for as long as a Trio program holds it.

``trio.to_thread.run_sync`` looks for a thread, names it, copies contexts and asks a limiter at every
call. A thread that only ever waits for the journal's next call needs none of that: 38 us there and
back instead of 60 to 100.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Any

import attrs
import outcome
import trio

from oms_trio.journal.disk import RunSync


@attrs.frozen
class _Job:
    function: Callable[[], Any]
    task: trio.lowlevel.Task


@asynccontextmanager
async def open_thread() -> AsyncIterator[RunSync]:
    """Start a thread; give what runs a function in it, in the order of the calls.

    A call cannot be cancelled, so none is under way when the block is left.
    """
    jobs: SimpleQueue[_Job | None] = SimpleQueue()  # one per task that waits: bounded by callers
    token = trio.lowlevel.current_trio_token()

    def work() -> None:
        while (job := jobs.get()) is not None:
            result = outcome.capture(job.function)
            with suppress(trio.RunFinishedError):  # nobody waits any more
                token.run_sync_soon(trio.lowlevel.reschedule, job.task, result)

    async def run_sync(function: Callable[[], Any], /) -> Any:  # noqa: ANN401 - as in trio
        jobs.put(_Job(function, trio.lowlevel.current_task()))
        return await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    thread = threading.Thread(target=work, name="journal", daemon=True)
    thread.start()
    try:
        yield run_sync
    finally:
        jobs.put(None)
