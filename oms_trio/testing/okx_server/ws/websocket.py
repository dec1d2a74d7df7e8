"""A WebSocket on a connection: tasks that carry frames and time to a session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from oms_trio.testing.okx_server.events import Event
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.ws.connection import Ending, Frame, ServerConnection

OUTBOX_SIZE = 4096
"""Frames that wait for a slow client; one that lets more pile up is cut off."""

CLOSE_PATIENCE_S = 5.0


class Conversation(Protocol):
    """What a private and a public session have in common."""

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""

    def on_time(self) -> None:
        """Do what is due."""

    def receive(self, frame: str | bytes) -> None:
        """Take one frame of the client."""

    def tell(self, event: Event) -> None:
        """Take one event of the exchange."""

    def leave(self) -> None:
        """Give back what the connection held."""


async def run_session(
    exchange: Exchange,
    websocket: WebSocketConnection,
    kind: Callable[[Exchange, ServerConnection], Conversation],
) -> None:
    """Serve one WebSocket until either side ends it or a fault cuts it.

    No exception escapes for what a client or its network does; the caller closes the stream.
    """
    frames, outbox = trio.open_memory_channel[Frame](OUTBOX_SIZE)
    # One wake-up pending is as good as many: the timer looks at every deadline again.
    wake, woken = trio.open_memory_channel[None](1)
    # The channels outlive the tasks, so that an event told during the end finds them open.
    with frames, outbox, wake, woken:
        async with trio.open_nursery() as nursery:

            def send(frame: Frame) -> None:
                try:
                    frames.send_nowait(frame)
                except trio.WouldBlock:
                    nursery.cancel_scope.cancel()

            def wake_up() -> None:
                with suppress(trio.WouldBlock):
                    wake.send_nowait(None)

            line = ServerConnection(
                exchange.faults,
                exchange.clock,
                conn_id=f"{exchange.rng.getrandbits(32):08x}",
                send=send,
                wake=wake_up,
                lose=nursery.cancel_scope.cancel,
                time=trio.current_time,
            )
            session = kind(exchange, line)
            nursery.start_soon(_write, websocket, outbox)
            nursery.start_soon(_keep_time, session, woken)
            with exchange.engine.listening(session.tell), exchange.faults.watching(line):
                try:
                    while True:
                        session.receive(await websocket.get_message())
                except ConnectionClosed:
                    nursery.cancel_scope.cancel()
                finally:
                    session.leave()


async def _write(websocket: WebSocketConnection, outbox: trio.MemoryReceiveChannel[Frame]) -> None:
    """Send frames in order; ends with the first ``Ending`` or with the connection."""
    async for frame in outbox:
        if isinstance(frame, Ending):
            await _close(websocket, frame)
            return
        try:
            await websocket.send_message(frame)
        except ConnectionClosed:
            return


async def _keep_time(session: Conversation, woken: trio.MemoryReceiveChannel[None]) -> None:
    """Call the session whenever it has something due; ends by cancellation only."""
    while True:
        with trio.move_on_at(session.deadline):
            await woken.receive()
            continue
        session.on_time()


async def _close(websocket: WebSocketConnection, ending: Ending) -> None:
    """Send the close frame and wait a little for the client's; the reader then ends."""
    with trio.move_on_after(CLOSE_PATIENCE_S):
        await websocket.aclose(ending.code, ending.reason)
