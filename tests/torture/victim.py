"""The service, made to die at a named point: ``python -m tests.torture.victim POINT NTH [WRONG]``.

The service itself knows nothing of it. Functions on its way are wrapped so that the NTH passage
ends the process by SIGKILL; then the ordinary command line runs. WRONG names a sabotage: a
service that breaks one promise, for the proof that the checks would see it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from uuid import uuid4

import attrs

from oms_trio.amqp.model import Delivery
from oms_trio.amqp.rabbit import RabbitBroker
from oms_trio.cli import main
from oms_trio.core import identity as identities
from oms_trio.core.identity import PREFIX
from oms_trio.core.model import ClOrdId, Rules, StateId
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Entry
from oms_trio.okx.rest import Rest
from oms_trio.okx.websocket import OkxConnection
from oms_trio.service.journaled_inputs import Kind
from oms_trio.settings.config import Config
from oms_trio.tasks import trade_state

DIED = "torture: died at"
"""What the log says last of a process that came to its point."""

SNAPSHOT_EVERY = 40
"""Records between snapshots: a life of seconds has to have some."""

FLIGHT_S = 0.05
"""How long what was handed over takes at most to leave the process."""


@attrs.define
class Bomb:
    """Ends the process at the nth passage."""

    point: str
    left: int

    def last(self) -> bool:
        """Count a passage; True for the one to die at."""
        self.left -= 1
        return self.left == 0

    def blow(self) -> None:
        """End the process as a power cut does."""
        os.write(2, f"{DIED} {self.point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: type, name: str, *, wait_s: float = 0.0) -> None:
        """Die instead of calling a method, ``wait_s`` after what was begun elsewhere."""
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.last():
                time.sleep(wait_s)
                self.blow()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    def after(self, owner: type, name: str) -> None:
        """Die when an async method has returned."""
        original = getattr(owner, name)

        @wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if self.last():
                time.sleep(FLIGHT_S)  # noqa: ASYNC251 - only other threads may go on
                self.blow()
            return result

        setattr(owner, name, wrapped)


Append = Callable[[Journal, Sequence[Entry]], None]


def _around_append(change: Callable[[Append], Append]) -> None:
    Journal.append = change(Journal.append)  # type: ignore[assignment,method-assign]


def _has_action(entries: Sequence[Entry]) -> bool:
    return any(entry.record.kind == Kind.ACTION.value for entry in entries)


def _after_receive(bomb: Bomb) -> None:
    """Actions were taken from the broker; nothing was done with them."""
    bomb.after(RabbitBroker, "receive")


def _before_journal(bomb: Bomb) -> None:
    """The order has left, the disk knows nothing of its action."""

    def change(append: Append) -> Append:
        def wrapped(self: Journal, entries: Sequence[Entry]) -> None:
            if _has_action(entries) and bomb.last():
                time.sleep(FLIGHT_S)  # a worker thread: the sender goes on meanwhile
                bomb.blow()
            append(self, entries)

        return wrapped

    _around_append(change)


def _after_journal(bomb: Bomb) -> None:
    """An action is durable, the broker was not told."""

    def change(append: Append) -> Append:
        def wrapped(self: Journal, entries: Sequence[Entry]) -> None:
            append(self, entries)
            if _has_action(entries) and bomb.last():
                bomb.blow()

        return wrapped

    _around_append(change)


def _after_send(bomb: Bomb) -> None:
    """A request has just left; how far its record has come is left to chance."""
    bomb.after(OkxConnection, "send")


def _before_publish(bomb: Bomb) -> None:
    """Messages are durable, the broker has none of them."""
    bomb.before(RabbitBroker, "publish")


def _after_publish(bomb: Bomb) -> None:
    """The broker has confirmed, the disk does not know it."""
    bomb.before(Journal, "confirm")


def _in_snapshot(bomb: Bomb) -> None:
    """In the transaction that writes a snapshot, between its two statements."""
    original = Journal.save_snapshot

    @wraps(original)
    def wrapped(self: Journal, seq: int, blob: bytes, digest: str) -> None:
        def trace(statement: str) -> None:
            if statement.startswith("DELETE FROM snapshots"):
                bomb.blow()

        if bomb.last():
            self._connection.set_trace_callback(trace)
        original(self, seq, blob, digest)

    Journal.save_snapshot = wrapped  # type: ignore[method-assign]


def _in_reconciliation(bomb: Bomb) -> None:
    """Some questions are answered, the snapshot is not complete."""
    bomb.after(Rest, "call")


def _after_reconciliation(bomb: Bomb) -> None:
    """The snapshot is complete and not merged yet."""
    bomb.after(Rest, "snapshot_bodies")


def _in_dead_letter(bomb: Bomb) -> None:
    """A malformed action is on its way to the dead letters."""
    bomb.before(RabbitBroker, "dead_letter")


def _never(_bomb: Bomb) -> None:
    """Whoever started the process kills it, or not."""


POINTS: dict[str, tuple[Callable[[Bomb], None], int]] = {
    "after_receive": (_after_receive, 12),
    "after_send_before_journal": (_before_journal, 15),
    "after_journal_before_ack": (_after_journal, 15),
    "after_send": (_after_send, 20),
    "between_commit_and_publish": (_before_publish, 25),
    "after_publish_before_confirm": (_after_publish, 25),
    "during_snapshot": (_in_snapshot, 5),
    "during_reconciliation": (_in_reconciliation, 25),
    "after_reconciliation": (_after_reconciliation, 2),
    "during_dead_letter": (_in_dead_letter, 2),
}
"""Where to die: how it is arranged, and the most passages that a plan lets go by before."""


def _ack_before_commit() -> None:
    """Acknowledge what was received at once."""
    original = RabbitBroker.receive

    async def receive(self: RabbitBroker) -> tuple[Delivery, ...]:
        batch = await original(self)
        self.ack([delivery.tag for delivery in batch])
        return batch

    RabbitBroker.receive = receive  # type: ignore[method-assign]


def _random_names() -> None:
    """Name orders without regard to their actions."""

    def order_name(state_id: StateId, identity: bytes) -> ClOrdId:
        return ClOrdId(f"{PREFIX}{state_id:08x}{uuid4().hex[:20]}")

    identities.order_name = order_name


def _outbox_in_memory() -> None:
    """Commit records without what they tell, and publish that from memory."""

    def change(append: Append) -> Append:
        def wrapped(self: Journal, entries: Sequence[Entry]) -> None:
            append(self, [attrs.evolve(entry, outbox=()) for entry in entries])
            self._last_position += sum(len(entry.outbox) for entry in entries)

        return wrapped

    _around_append(change)


SABOTAGES: dict[str, Callable[[], None]] = {
    "ack_before_commit": _ack_before_commit,
    "random_names": _random_names,
    "outbox_in_memory": _outbox_in_memory,
}


def _know_that_reads_do_not_lag() -> None:
    """The end of a run is quiet, and nothing shows how far reads are behind; here they are not."""
    sound = Config.rules

    def rules(self: Config) -> Rules:
        return attrs.evolve(sound(self), reader_lag_ms=3_000)

    Config.rules = rules  # type: ignore[method-assign]


def run(point: str, nth: int, wrong: str = "") -> None:
    """Arrange the end, then run the service."""
    trade_state.SNAPSHOT_EVERY = SNAPSHOT_EVERY
    trade_state.SNAPSHOT_PATIENCE = 1  # it is hardly ever silent
    if wrong:
        SABOTAGES[wrong]()
    arrange, _ = POINTS.get(point, (_never, 0))
    arrange(Bomb(point, nth))
    _know_that_reads_do_not_lag()
    main(["run"])


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
