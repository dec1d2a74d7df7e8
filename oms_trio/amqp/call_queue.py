"""Calls handed from one thread's loop to another's, with one wake-up for all that wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

Call = Callable[[], object]


@attrs.define
class Mailbox:
    """Runs posted calls in the other thread, in the order in which they were posted.

    A thread hop costs about 50 us, so only the first call posted since the other side last
    looked wakes it; under load a hop carries a whole batch. ``wake`` has to arrange that the
    function it is given runs soon in the other thread.

    One thread posts and one thread runs. No lock is needed: the runner lowers the flag
    before it looks, the poster appends before it looks at the flag, and both the flag and the
    deque are atomic. At worst the runner is woken for nothing.

    The deque has no bound of its own: what is posted is bounded by AMQP's prefetch (deliveries
    and their settling) and by callers that wait for an answer (publishing).
    """

    _wake: Callable[[Call], object]
    _calls: deque[Call] = attrs.field(factory=deque, init=False)
    _woken: bool = attrs.field(default=False, init=False)

    def post(self, call: Call) -> None:
        """Hand over a call that returns at once and raises nothing."""
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            self._wake(self._run)

    def _run(self) -> None:
        self._woken = False
        while self._calls:
            self._calls.popleft()()
