"""SIGSTOP: some tasks of a running simulation get no step, while the world around them goes on.

A process that is stopped runs no instruction: what becomes due for it, a message, a timeout, waits
until it goes on, and then all of it is there at once. Its tasks share Trio's scheduler with the
world's, so the queue of runnable tasks holds them back; it is private to Trio, and
``determinism.check_scheduler`` says when a release has no longer what this needs.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar

import trio
from trio.lowlevel import Task

PROCESS: ContextVar[object] = ContextVar("process")
"""Marks the tasks of a process: whatever they start inherits it."""


class _Queue(deque[Task]):
    """Runnable tasks, those of a frozen process apart: to the scheduler these are not there."""

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
    """Let no task of a process run from here on."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # noqa: SLF001 - see the top
    assert type(runner.runq) is deque, "one process at a time"
    runner.runq = _Queue(process, runner.runq)


def thaw(process: object) -> None:
    """Let the tasks of a frozen process run again; one that is not frozen stays as it is."""
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # noqa: SLF001 - see the top
    queue = runner.runq
    if isinstance(queue, _Queue) and queue.process is process:
        runner.runq = deque([*queue, *queue.held])


def frozen(process: object) -> bool:
    """Whether a process is frozen now."""
    queue = trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq  # noqa: SLF001 - see the top
    return isinstance(queue, _Queue) and queue.process is process
