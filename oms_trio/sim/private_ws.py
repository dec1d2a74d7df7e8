"""The private WebSocket on a connection: tasks that carry frames and time to a ``Session``."""

from __future__ import annotations

from contextlib import suppress

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from oms_trio.sim.exchange import Exchange
from oms_trio.sim.session import Ending, Session

OUTBOX_SIZE = 4096
"""Frames that wait for a slow client; one that lets more pile up is cut off."""

CLOSE_PATIENCE_S = 5.0


async def run_private(exchange: Exchange, websocket: WebSocketConnection) -> None:
    """Serve one private connection until either side ends it or a fault cuts it.

    No exception escapes for what a client or its network does; the caller closes the stream.
    """
    frames, outbox = trio.open_memory_channel[str | Ending](OUTBOX_SIZE)
    # One wake-up pending is as good as many: the timer looks at every deadline again.
    wake, woken = trio.open_memory_channel[None](1)
    # The channels outlive the tasks, so that an event told during the end finds them open.
    with frames, outbox, wake, woken:
        async with trio.open_nursery() as nursery:

            def send(frame: str | Ending) -> None:
                try:
                    frames.send_nowait(frame)
                except trio.WouldBlock:
                    nursery.cancel_scope.cancel()

            def wake_up() -> None:
                with suppress(trio.WouldBlock):
                    wake.send_nowait(None)

            session = Session(
                exchange,
                conn_id=f"{exchange.rng.getrandbits(32):08x}",
                send=send,
                wake=wake_up,
                cut=nursery.cancel_scope.cancel,
                time=trio.current_time,
            )
            nursery.start_soon(_write, websocket, outbox)
            nursery.start_soon(_keep_time, session, woken)
            with exchange.engine.listening(session.feeds.tell), exchange.faults.watching(session):
                try:
                    while True:
                        session.receive(await websocket.get_message())
                except ConnectionClosed:
                    nursery.cancel_scope.cancel()
                finally:
                    session.feeds.leave()


async def _write(
    websocket: WebSocketConnection, outbox: trio.MemoryReceiveChannel[str | Ending]
) -> None:
    """Send frames in order; ends with the first ``Ending`` or with the connection."""
    async for frame in outbox:
        if isinstance(frame, Ending):
            await _close(websocket, frame)
            return
        try:
            await websocket.send_message(frame)
        except ConnectionClosed:
            return


async def _keep_time(session: Session, woken: trio.MemoryReceiveChannel[None]) -> None:
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
