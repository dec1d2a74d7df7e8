"""The service, killed at a named point: ``python -m tests.torture.victim POINT NTH [WRONG]``.

The service itself does not know of it. Functions are wrapped so that the NTH call of one ends the
process by SIGKILL; then the ordinary command line runs. WRONG names a sabotage: a service that breaks
one promise, to prove that the checks would find it.
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
"""The last text in the log of a process that was killed at its point."""

SNAPSHOT_EVERY = 40
"""Records between snapshots: a process of seconds must have some."""

FLIGHT_S = 0.05
"""What was handed to the network has left the process after this time."""


@attrs.define
class KillPoint:
    """Kills the process at the nth call."""

    point: str
    left: int

    def last(self) -> bool:
        """Count a call; True for the one to be killed at."""
        self.left -= 1
        return self.left == 0

    def kill(self) -> None:
        """Log the point and kill the process."""
        os.write(2, f"{DIED} {self.point}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: type, name: str, *, wait_s: float = 0.0) -> None:
        """Be killed instead of calling a method, ``wait_s`` after what was started before it."""
        original = getattr(owner, name)

        @wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.last():
                time.sleep(wait_s)
                self.kill()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    def after(self, owner: type, name: str) -> None:
        """Be killed when an async method has returned."""
        original = getattr(owner, name)

        @wraps(original)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if self.last():
                time.sleep(FLIGHT_S)  # noqa: ASYNC251 - only other threads may go on
                self.kill()
            return result

        setattr(owner, name, wrapped)


Append = Callable[[Journal, Sequence[Entry]], None]


def _around_append(change: Callable[[Append], Append]) -> None:
    Journal.append = change(Journal.append)  # type: ignore[assignment,method-assign]


def _has_action(entries: Sequence[Entry]) -> bool:
    return any(entry.record.kind == Kind.ACTION.value for entry in entries)


def _after_receive(point: KillPoint) -> None:
    """Actions were received from the broker; nothing was done with them."""
    point.after(RabbitBroker, "receive")


def _before_journal(point: KillPoint) -> None:
    """The order was sent; its action is not in the journal."""

    def change(append: Append) -> Append:
        def wrapped(self: Journal, entries: Sequence[Entry]) -> None:
            if _has_action(entries) and point.last():
                time.sleep(FLIGHT_S)  # a worker thread: the sender goes on meanwhile
                point.kill()
            append(self, entries)

        return wrapped

    _around_append(change)


def _after_journal(point: KillPoint) -> None:
    """An action is durable; it was not acknowledged."""

    def change(append: Append) -> Append:
        def wrapped(self: Journal, entries: Sequence[Entry]) -> None:
            append(self, entries)
            if _has_action(entries) and point.last():
                point.kill()

        return wrapped

    _around_append(change)


def _after_send(point: KillPoint) -> None:
    """A request was just sent; how far its record has come is left to chance."""
    point.after(OkxConnection, "send")


def _before_publish(point: KillPoint) -> None:
    """Messages are durable, the broker has none of them."""
    point.before(RabbitBroker, "publish")


def _after_publish(point: KillPoint) -> None:
    """The broker has confirmed; the journal does not have that yet."""
    point.before(Journal, "confirm")


def _in_snapshot(point: KillPoint) -> None:
    """In the transaction that writes a snapshot, between its two statements."""
    original = Journal.save_snapshot

    @wraps(original)
    def wrapped(self: Journal, seq: int, blob: bytes, digest: str) -> None:
        def trace(statement: str) -> None:
            if statement.startswith("DELETE FROM snapshots"):
                point.kill()

        if point.last():
            self._connection.set_trace_callback(trace)
        original(self, seq, blob, digest)

    Journal.save_snapshot = wrapped  # type: ignore[method-assign]


def _in_reconciliation(point: KillPoint) -> None:
    """Some REST calls were answered; the snapshot is not complete."""
    point.after(Rest, "call")


def _after_reconciliation(point: KillPoint) -> None:
    """The snapshot is complete and not applied yet."""
    point.after(Rest, "snapshot_bodies")


def _in_dead_letter(point: KillPoint) -> None:
    """A malformed action is on its way to the dead letters."""
    point.before(RabbitBroker, "dead_letter")


def _never(_point: KillPoint) -> None:
    """The process is killed from outside, or not at all."""


POINTS: dict[str, tuple[Callable[[KillPoint], None], int]] = {
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
"""By point: what arranges the kill, and the largest NTH that a plan draws."""


def _ack_before_commit() -> None:
    """Acknowledge what was received at once."""
    original = RabbitBroker.receive

    async def receive(self: RabbitBroker) -> tuple[Delivery, ...]:
        batch = await original(self)
        self.ack([delivery.tag for delivery in batch])
        return batch

    RabbitBroker.receive = receive  # type: ignore[method-assign]


def _random_names() -> None:
    """Give orders names that do not depend on their actions."""

    def order_name(state_id: StateId, identity: bytes) -> ClOrdId:
        return ClOrdId(f"{PREFIX}{state_id:08x}{uuid4().hex[:20]}")

    identities.order_name = order_name


def _outbox_in_memory() -> None:
    """Commit records without their messages, and publish those from memory."""

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
    """Assume reads that lag little: at the quiet end of a run nothing would show that they do not."""
    sound = Config.rules

    def rules(self: Config) -> Rules:
        return attrs.evolve(sound(self), reader_lag_ms=3_000)

    Config.rules = rules  # type: ignore[method-assign]


def run(point: str, nth: int, wrong: str = "") -> None:
    """Arrange the kill, then run the service."""
    trade_state.SNAPSHOT_EVERY = SNAPSHOT_EVERY
    trade_state.SNAPSHOT_PATIENCE = 1  # there is hardly ever a quiet moment
    if wrong:
        SABOTAGES[wrong]()
    arrange, _ = POINTS.get(point, (_never, 0))
    arrange(KillPoint(point, nth))
    _know_that_reads_do_not_lag()
    main(["run"])


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
