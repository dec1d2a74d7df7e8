"""SIGSTOP: the tasks of a frozen process do not run, while everything around them does.

A stopped process runs no instruction. What becomes due for it meanwhile, a message or a timeout, waits
until it continues, and then is there all at once. Its tasks share Trio's scheduler with those of the
simulated world, so they are held back in the queue of runnable tasks. That queue is private to Trio;
``determinism.check_scheduler`` raises when a release lacks what this needs.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

import trio
from trio.lowlevel import Task

PROCESS: ContextVar[object] = ContextVar("process")
"""Marks the tasks of a process; the tasks that they start inherit the mark."""


class _Queue(deque[Task]):
    """Runnable tasks without those of a frozen process, which the scheduler does not see."""

    def __init__(self, process: object, tasks: deque[Task]) -> None:
        super().__init__()
        self.process = process
        self.held: deque[Task] = deque()
        for task in tasks:
            self.append(task)

    def append(self, task: Task, /) -> None:
        """Queue a task that has become runnable."""
        if task.context.get(PROCESS) is self.process:
            self.held.append(task)
        else:
            super().append(task)


def freeze(process: object) -> None:
    """Stop running the tasks of a process."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # noqa: SLF001 - see the top
    assert type(runner.runq) is deque, "only one process can be frozen at a time"
    runner.runq = _Queue(process, runner.runq)


def thaw(process: object) -> None:
    """Run the tasks of a frozen process again; do nothing when it is not frozen."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # noqa: SLF001 - see the top
    queue = runner.runq
    if isinstance(queue, _Queue) and queue.process is process:
        runner.runq = deque([*queue, *queue.held])


def frozen(process: object) -> bool:
    """Whether a process is frozen now."""
    queue = trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq  # noqa: SLF001 - see the top
    return isinstance(queue, _Queue) and queue.process is process
