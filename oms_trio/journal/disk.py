"""The journal for Trio: every call in a worker thread, one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

import attrs
import trio

from oms_trio.journal.journal import Journal

P = ParamSpec("P")
T = TypeVar("T")


FULL_PAUSE_S = 1.0
"""How long a full disk is left alone before the next try."""


class RunSync(Protocol):
    """Runs a blocking function for a Trio task, as ``trio.to_thread.run_sync`` does."""

    def __call__(self, function: Callable[[], Any], /) -> Awaitable[Any]:
        """Run it and give its result."""


@attrs.frozen
class Disk:
    """A journal whose calls do not hold up other tasks.

    ``run_sync`` is a worker thread in the service. Simulation passes one that calls at once:
    a jumping clock must not jump while a thread works.
    """

    journal: Journal
    run_sync: RunSync = trio.to_thread.run_sync
    _one: trio.Lock = attrs.Factory(trio.Lock)

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the journal; it is never left half done, so it cannot be cancelled."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._one.acquire_nowait()  # free, it needs no round of the scheduler
        except trio.WouldBlock:
            await self._one.acquire()
        try:
            with trio.CancelScope(shield=True):
                result: T = await self.run_sync(partial(method, *args, **kwargs))
        finally:
            self._one.release()
        return result
