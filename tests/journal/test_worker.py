"""The journal's thread: results, errors, order, and no interrupted calls."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio
import trio.testing

from oms_trio.journal.worker import open_journal_thread


async def test_calls_run_in_one_other_thread_in_order() -> None:
    ran: list[tuple[int, int]] = []

    def note(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return number * 2

    async with open_journal_thread() as run_sync:
        assert [await run_sync(partial(note, number)) for number in range(3)] == [0, 2, 4]
    assert [number for number, _ in ran] == [0, 1, 2]
    assert {thread for _, thread in ran}.isdisjoint({threading.get_ident()})
    assert len({thread for _, thread in ran}) == 1


async def test_an_exception_reaches_the_caller_and_the_next_call_runs() -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    async with open_journal_thread() as run_sync:
        with pytest.raises(LookupError, match="nothing there"):
            await run_sync(fail)
        assert await run_sync(lambda: 7) == 7


async def test_a_cancelled_call_is_completed_first() -> None:
    go, done = threading.Event(), []

    def work() -> str:
        go.wait(5)
        done.append("work")
        return "result"

    async with open_journal_thread() as run_sync, trio.open_nursery() as nursery:

        async def call() -> None:
            assert await run_sync(work) == "result"
            done.append("result")

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        go.set()
    assert done == ["work", "result"]


async def test_the_thread_ends_with_the_block() -> None:
    async with open_journal_thread() as run_sync:
        thread = await run_sync(threading.current_thread)
    await trio.to_thread.run_sync(thread.join, 5)
    assert not thread.is_alive()
