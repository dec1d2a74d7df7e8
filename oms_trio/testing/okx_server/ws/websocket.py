"""One WebSocket: the tasks that pass frames and time to its session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from oms_trio.testing.okx_server.events import ExchangeEvent
from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.ws.connection import CloseFrame, Frame, ServerConnection

OUTBOX_SIZE = 4096
"""How many frames may wait for a slow client before its connection is aborted."""

CLOSE_TIMEOUT_S = 5.0


class WebSocketSession(Protocol):
    """What private and public sessions have in common."""

    @property
    def deadline(self) -> float:
        """When ``on_time`` is due next."""

    def on_time(self) -> None:
        """Do what is due."""

    def receive(self, frame: str | bytes) -> None:
        """Process one frame of the client."""

    def on_event(self, event: ExchangeEvent) -> None:
        """Process one event of the exchange."""

    def close(self) -> None:
        """Release what the session holds at the exchange: its connection is over."""


async def serve_websocket(
    exchange: SimulatedExchange,
    websocket: WebSocketConnection,
    new_session: Callable[[SimulatedExchange, ServerConnection], WebSocketSession],
) -> None:
    """Serve one WebSocket until either side closes it or a fault cuts it.

    A client or its network causes no exception; the caller closes the stream.
    """
    frames, outbox = trio.open_memory_channel[Frame](OUTBOX_SIZE)
    # One pending wake-up suffices: the timer then reads the deadline again.
    wake, woken = trio.open_memory_channel[None](1)
    # The channels outlive the tasks: an event during the shutdown finds them open.
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

            connection = ServerConnection(
                exchange.faults,
                exchange.clock,
                conn_id=f"{exchange.rng.getrandbits(32):08x}",
                send=send,
                wake=wake_up,
                lose=nursery.cancel_scope.cancel,
                time=trio.current_time,
            )
            session = new_session(exchange, connection)
            nursery.start_soon(_write, websocket, outbox)
            nursery.start_soon(_keep_time, session, woken)
            with exchange.engine.listening(session.on_event), exchange.faults.attached(connection):
                try:
                    while True:
                        session.receive(await websocket.get_message())
                except ConnectionClosed:
                    nursery.cancel_scope.cancel()
                finally:
                    session.close()


async def _write(websocket: WebSocketConnection, outbox: trio.MemoryReceiveChannel[Frame]) -> None:
    """Send frames in order; ends after the first ``CloseFrame``, or with the connection."""
    async for frame in outbox:
        if isinstance(frame, CloseFrame):
            await _close(websocket, frame)
            return
        try:
            await websocket.send_message(frame)
        except ConnectionClosed:
            return


async def _keep_time(session: WebSocketSession, woken: trio.MemoryReceiveChannel[None]) -> None:
    """Call the session whenever its deadline has passed; ends by cancellation only."""
    while True:
        with trio.move_on_at(session.deadline):
            await woken.receive()
            continue
        session.on_time()


async def _close(websocket: WebSocketConnection, frame: CloseFrame) -> None:
    """Send the close frame and wait for the client's, so that the reader ends."""
    with trio.move_on_after(CLOSE_TIMEOUT_S):
        await websocket.aclose(frame.code, frame.reason)
