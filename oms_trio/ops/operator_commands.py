"""Operator commands on their way to the trading state; answered once they are on disk."""

from __future__ import annotations

import attrs
import trio

from oms_trio.core.events import Verb
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox

DURABLE_S = 10.0
"""A commit takes milliseconds; on a full disk it waits until there is space."""


class CommandError(Exception):
    """A command is not confirmed to be on disk; one line for the operator says why."""


@attrs.frozen
class OperatorCommands:
    """Sends commands to the trade-state task."""

    inbox: Inbox

    async def command(self, verb: Verb, by: str) -> None:
        """Return when the command has been applied and is durable, so that a restart keeps it.

        Raises:
            CommandError: the service is stopping, or the commit takes longer than ``DURABLE_S``.
        """
        durable = trio.Event()
        with trio.move_on_after(DURABLE_S) as timeout:
            try:
                await self.inbox.send(journaled_inputs.command(verb, by, durable.set))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise CommandError(
                    "the service is stopping; send the command again when it is running"
                ) from None
            await durable.wait()
        if timeout.cancelled_caught:
            raise CommandError(
                f"{verb.value} is not confirmed to be on disk after {DURABLE_S:.0f} s: "
                "it may not survive a restart; check the disk and `oms-trio status`"
            )
