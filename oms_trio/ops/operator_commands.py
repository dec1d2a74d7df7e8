"""The operator's word on its way to the trading state, and the answer when it cannot be lost."""

from __future__ import annotations

import attrs
import trio

from oms_trio.core.events import Verb
from oms_trio.service import journaled_inputs
from oms_trio.service.channels import Inbox

DURABLE_S = 10.0
"""A commit takes milliseconds; a full disk holds it up until there is room."""


class NotObeyedError(Exception):
    """A command of which nobody can say that it is on disk; one line saying why."""


@attrs.frozen
class Helm:
    """Hands commands over."""

    inbox: Inbox

    async def command(self, verb: Verb, by: str) -> None:
        """Return when the command has been applied and is durable: a restart does not undo it.

        Raises:
            NotObeyedError: the service is stopping, or the disk is late.
        """
        durable = trio.Event()
        with trio.move_on_after(DURABLE_S) as patience:
            try:
                await self.inbox.send(journaled_inputs.command(verb, by, durable.set))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise NotObeyedError("the service is stopping; ask again when it is up") from None
            await durable.wait()
        if patience.cancelled_caught:
            raise NotObeyedError(
                f"{verb.value} is not on disk after {DURABLE_S:.0f} s; it holds until a restart"
            )
