"""A journal and a broker that note in one list what was done, and in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from oms_trio.amqp.memory import MemoryBroker
from oms_trio.journal.journal import Journal
from oms_trio.journal.worker import JournalWorker


@attrs.define
class NotingBroker(MemoryBroker):
    """A broker in memory that notes acknowledgements and dead letters."""

    done: list[str] = attrs.Factory(list)

    def ack(self, tags: Any) -> None:
        if tags:
            self.done.append("ack " + " ".join(map(str, tags)))
        MemoryBroker.ack(self, tags)

    async def dead_letter(self, tag: int, reason: str) -> None:
        await self.wait_publishable()
        self.done.append(f"dead letter {tag}: {reason}")


@attrs.define
class Ledger:
    """The journal behind a disk that can be held up, and the list of what was done."""

    journal: Journal
    broker: NotingBroker
    done: list[str]
    held_up: trio.Event | None = None
    failures: list[Exception] = attrs.Factory(list)
    """Raised by the next calls of ``failing``, one each."""
    failing: str = "append"

    @property
    def disk(self) -> JournalWorker:
        return JournalWorker(self.journal, self._run)

    def _run(self, function: Callable[[], Any]) -> Awaitable[Any]:
        assert isinstance(function, partial)
        return self._call(function)

    async def _call(self, function: partial[Any]) -> Any:
        await trio.lowlevel.checkpoint()
        name = function.func.__name__
        if name == "append" and self.held_up is not None:
            await self.held_up.wait()
        if name == self.failing and self.failures:
            raise self.failures.pop(0)
        if name == "append":
            (entries,) = function.args
            self.done.append(f"append {entries[0].seq}-{entries[-1].seq}")
        elif name != "outbox":
            self.done.append(name)
        return function()


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """Open a new journal, or the one of an earlier process."""
    done: list[str] = []
    with Journal.open(folder / "journal.sqlite") as journal:
        yield Ledger(journal, NotingBroker(done=done), done)
