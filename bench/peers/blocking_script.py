"""The script of two threads: pika and websocket-client, as it is written first of all."""

from __future__ import annotations

import threading

import pika
import websocket

from bench.peers.common import (
    PREFETCH,
    Place,
    executions_of,
    frame_of,
    login,
    order_of,
    place,
    subscribe,
)


def tell(where: Place, socket: websocket.WebSocket) -> None:
    """Publish an execution for every fill until killed."""
    channel = pika.BlockingConnection(pika.URLParameters(where.amqp)).channel()
    channel.exchange_declare(where.executions, exchange_type="topic", durable=True)
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    while True:
        for body in executions_of(socket.recv()):
            channel.basic_publish(where.executions, "execution.update", body, properties)


def main() -> None:
    """Carry actions one way and executions the other until killed."""
    where = place()
    socket = websocket.create_connection(where.ws, enable_multithread=True)
    socket.send(login(where))
    socket.recv()
    socket.send(subscribe())
    threading.Thread(target=tell, args=(where, socket), daemon=True).start()
    channel = pika.BlockingConnection(pika.URLParameters(where.amqp)).channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    channel.exchange_declare(where.actions, exchange_type="topic", durable=True)
    channel.queue_declare(where.queue, durable=True)
    channel.queue_bind(where.queue, where.actions, routing_key="oms.action")
    for method, _, body in channel.consume(where.queue):
        assert method is not None
        assert body is not None
        socket.send(frame_of(order_of(body)))
        channel.basic_ack(method.delivery_tag)


if __name__ == "__main__":
    main()
