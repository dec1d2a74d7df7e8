"""Calls between threads: their order, and one wake-up per batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread

from oms_trio.amqp.call_queue import CallQueue


def test_one_wake_up_runs_all_calls_in_order() -> None:
    woken: list[Callable[[], object]] = []
    ran: list[int] = []
    queue = CallQueue(woken.append)
    for number in range(3):
        queue.call_soon(partial(ran.append, number))
    assert len(woken) == 1
    woken[0]()
    assert ran == [0, 1, 2]


def test_a_call_after_a_run_wakes_again() -> None:
    woken: list[Callable[[], object]] = []
    ran: list[int] = []
    queue = CallQueue(woken.append)
    queue.call_soon(partial(ran.append, 1))
    woken[0]()
    queue.call_soon(partial(ran.append, 2))
    assert len(woken) == 2
    woken[1]()
    assert ran == [1, 2]


def test_no_call_is_lost_between_threads_at_full_speed() -> None:
    wakes: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
    queue = CallQueue(wakes.put)
    ran: list[int] = []

    def run() -> None:
        while (wake := wakes.get()) is not None:
            wake()

    runner = Thread(target=run)
    runner.start()
    for number in range(20_000):
        queue.call_soon(partial(ran.append, number))
    wakes.put(None)
    runner.join()
    assert ran == list(range(20_000))
