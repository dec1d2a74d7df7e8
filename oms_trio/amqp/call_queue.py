"""A queue of calls from one thread's event loop to another's, with one wake-up for many calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

Call = Callable[[], object]


@attrs.define
class CallQueue:
    """Runs calls in another thread, in their order.

    Waking another thread costs about 50 us, so only the first call since the other thread last emptied
    the queue does it; under load one wake-up serves a whole batch. ``wake`` must arrange that the
    function passed to it soon runs in the other thread.

    One thread adds calls and one runs them. No lock is needed: the running thread clears the flag before
    it reads the queue, the adding thread appends before it reads the flag, and both flag and deque are
    atomic. In the worst case the other thread is woken for nothing.

    The deque has no bound of its own: its calls are bounded by AMQP's prefetch (deliveries and their
    acknowledgements) and by callers that wait for an answer (publishing).
    """

    _wake: Callable[[Call], object]
    _calls: deque[Call] = attrs.field(factory=deque, init=False)
    _woken: bool = attrs.field(default=False, init=False)

    def call_soon(self, call: Call) -> None:
        """Add a call, which must not block or raise."""
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            self._wake(self._run)

    def _run(self) -> None:
        self._woken = False
        while self._calls:
            self._calls.popleft()()
