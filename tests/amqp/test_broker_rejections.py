"""First connects that fail: one line that says what to change, and no secret."""

from __future__ import annotations

import re
import shlex
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

from oms_trio.amqp.broker import open_broker
from oms_trio.amqp.model import (
    BrokerAccessRejected,
    BrokerError,
    BrokerMisconfigured,
    BrokerUnreachable,
    Outgoing,
)
from oms_trio.amqp.settings import BrokerSettings
from tests.amqp.agents import fresh_settings
from tests.amqp.proxy import Proxy, open_proxy
from tests.rabbitmq import RabbitNode

SECRET = "hunter2/@:%"


async def rejection(settings: BrokerSettings, kind: type[BrokerError]) -> str:
    """Open a broker that must fail; return its message, after checking it and its causes for secrets."""
    with trio.fail_after(15), pytest.raises(kind) as caught:
        async with open_broker(settings):
            pytest.fail("it connected")
    line = str(caught.value)
    assert "\n" not in line
    error: BaseException | None = caught.value
    everything = "".join(traceback.format_exception(caught.value))
    while error is not None:
        everything += repr(error) + str(error)
        error = error.__cause__ or error.__context__
    assert "hunter2" not in everything
    return line


def test_the_password_is_not_in_the_settings_repr() -> None:
    assert "hunter2" not in repr(BrokerSettings(password=SECRET))


async def test_a_refused_port_is_named_with_what_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    line = await rejection(fresh_settings(port, password=SECRET), BrokerUnreachable)
    assert f"127.0.0.1:{port}" in line
    assert "RABBITMQ_HOST" in line


async def test_an_unknown_host_is_named_with_what_to_change() -> None:
    settings = fresh_settings(5672, host="no-such-host.invalid", password=SECRET)
    line = await rejection(settings, BrokerUnreachable)
    assert "no-such-host.invalid:5672" in line
    assert "RABBITMQ_HOST" in line


async def test_a_server_that_is_not_an_amqp_broker_is_unreachable() -> None:
    async def answer_http(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer_http, 0)
        port = listeners[0].socket.getsockname()[1]
        await rejection(fresh_settings(port, password=SECRET), BrokerUnreachable)
        nursery.cancel_scope.cancel()


async def test_a_broker_that_never_answers_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_trio.amqp.connection.ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = fresh_settings(silent.getsockname()[1], password=SECRET)
        assert "no answer in" in await rejection(settings, BrokerUnreachable)


@pytest.mark.rabbitmq
async def test_a_wrong_password_is_rejected(rabbitmq_node: RabbitNode) -> None:
    settings = fresh_settings(rabbitmq_node.port, password=SECRET)
    line = await rejection(settings, BrokerAccessRejected)
    assert "'guest'" in line
    assert "RABBITMQ_PASS" in line


@pytest.mark.rabbitmq
@pytest.mark.parametrize("vhost", ["nowhere", "/a/b", "50%2Foff"])
async def test_an_unknown_virtual_host_is_named(rabbitmq_node: RabbitNode, vhost: str) -> None:
    line = await rejection(fresh_settings(rabbitmq_node.port, vhost=vhost), BrokerAccessRejected)
    assert repr(vhost) in line
    assert "RABBITMQ_VHOST" in line


@pytest.mark.rabbitmq
async def test_a_queue_with_other_arguments_is_distinguished_from_an_outage(
    rabbitmq_node: RabbitNode,
) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(settings.action_queue, durable=True)
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    assert f"queue '{settings.action_queue}' on 127.0.0.1" in line
    assert "its x-message-ttl is none, but must be 60000" in line
    dead = settings.dead_letter_exchange
    assert f"durable with x-message-ttl=60000, x-dead-letter-exchange={dead}" in line
    assert f"`rabbitmqctl delete_queue {settings.action_queue}`" in line
    assert "OMS_ACTION_QUEUE" in line
    assert "OMS_MAX_ACTION_AGE" not in line


@pytest.mark.rabbitmq
async def test_the_command_in_the_message_solves_the_problem(rabbitmq_node: RabbitNode) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(settings.action_queue, durable=True)
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    found = re.search("`rabbitmqctl ([^`]+)`", line)
    assert found is not None
    await trio.to_thread.run_sync(rabbitmq_node.control, *shlex.split(found[1]))
    async with open_broker(settings):
        pass


@pytest.mark.rabbitmq
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"durable": False}, "its durable is false, but must be true"),
        (
            {"arguments": {"x-message-ttl": 7_000}},
            "or the OMS_MAX_ACTION_AGE with which it was declared",
        ),
        ({"arguments": {"x-queue-type": "quorum"}}, "its x-"),
        ({"arguments": {"x-dead-letter-exchange": "other"}}, "its x-"),
    ],
)
async def test_the_message_names_the_difference_and_the_required_value(
    rabbitmq_node: RabbitNode, changed: dict[str, Any], expected: str
) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(settings.action_queue, **{"durable": True, **changed})
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    assert expected in line
    assert settings.action_queue in line


@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", ["dead_letter_queue", "expired_queue"])
async def test_the_other_queues_are_named_as_well(rabbitmq_node: RabbitNode, name: str) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    queue = getattr(settings, name)
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(queue, durable=True, arguments={"x-max-length": 9})
    # RabbitMQ compares those arguments that matter to it, a bound of the length among them.
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    assert f"rabbitmqctl delete_queue {queue}" in line


@pytest.mark.rabbitmq
async def test_a_queue_that_is_exclusive_to_somebody_else_is_named(
    rabbitmq_node: RabbitNode,
) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    connection = rabbitmq_node.connect()
    connection.channel().queue_declare(settings.action_queue, exclusive=True)
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    assert settings.action_queue in line
    assert "exclusive" in line


@pytest.mark.rabbitmq
async def test_a_queue_that_is_declared_differently_at_run_time_fails_with_the_same_message(
    rabbitmq_node: RabbitNode,
) -> None:
    connection = rabbitmq_node.connect()
    channel = connection.channel()
    async with open_proxy(rabbitmq_node.port) as proxy:
        settings = fresh_settings(proxy.port)
        async with open_broker(settings) as broker:
            channel.queue_delete(settings.action_queue)
            channel.queue_declare(settings.action_queue, durable=True)
            proxy.cut()
            for call in (broker.receive, broker.wait_connected):
                with (
                    trio.fail_after(10),
                    pytest.raises(BrokerMisconfigured, match=r"rabbitmqctl delete_queue"),
                ):
                    await call()
    connection.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_trio.amqp.broker.OWNER_WAIT_S", 0.5)


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("queue", ["another", None])
async def test_a_second_service_with_the_same_exchange_and_key_is_rejected(
    rabbitmq_node: RabbitNode, queue: str | None
) -> None:
    """With a queue of its own it would receive, and trade, every action a second time."""
    settings = fresh_settings(rabbitmq_node.port)
    second = settings if queue is None else attrs.evolve(settings, action_queue=queue)
    async with open_broker(settings) as broker:
        line = await rejection(second, BrokerMisconfigured)
        assert "another service consumes the actions" in line
        assert f"'{settings.action_exchange}'" in line
        assert "'oms.action'" in line
        assert "OMS_ACTION_EXCHANGE" in line
        assert broker.connected
    async with open_broker(second):
        pass


@pytest.mark.rabbitmq
async def test_a_service_waits_for_the_end_of_its_predecessor(rabbitmq_node: RabbitNode) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    async with trio.open_nursery() as nursery:

        async def precede(task_status: trio.TaskStatus[None]) -> None:
            async with open_broker(settings):
                task_status.started()
                await trio.sleep(0.5)

        await nursery.start(precede)
        with trio.fail_after(10):
            async with open_broker(settings) as broker:
                assert broker.connected


@pytest.mark.rabbitmq
@pytest.mark.usefixtures("impatient")
async def test_services_with_different_exchanges_and_agents_share_a_broker(
    rabbitmq_node: RabbitNode,
) -> None:
    one, other = (fresh_settings(rabbitmq_node.port) for _ in range(2))
    async with open_broker(one), open_broker(other), open_broker(one.for_agent("a")):
        async with open_broker(one.for_agent("b")) as agent:
            assert agent.connected
        async with open_broker(attrs.evolve(one, exclusive=False)) as beside:
            assert beside.connected


def test_the_owner_queue_has_a_valid_name_however_long_that_of_the_exchange_is() -> None:
    short = BrokerSettings().owner_queue
    assert short == "oms.action-owner.oms.oms.action"
    longest = BrokerSettings(action_exchange="x" * 247).owner_queue
    assert len(longest) <= 255
    assert longest != BrokerSettings(action_exchange="x" * 246 + "y").owner_queue


@pytest.mark.rabbitmq
async def test_an_exchange_of_another_type_is_distinguished_from_an_outage(
    rabbitmq_node: RabbitNode,
) -> None:
    settings = fresh_settings(rabbitmq_node.port)
    connection = rabbitmq_node.connect()
    connection.channel().exchange_declare(settings.execution_exchange, "fanout", durable=True)
    line = await rejection(settings, BrokerMisconfigured)
    connection.close()
    assert f"exchange '{settings.execution_exchange}' on 127.0.0.1" in line
    assert "its type is fanout, but must be topic" in line
    assert "OMS_EXECUTION_EXCHANGE" in line


async def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    settings = fresh_settings(5671, tls=True, ca_file=tmp_path / "none.pem")
    assert "none.pem" in await rejection(settings, BrokerMisconfigured)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def tls_front(authority: trustme.CA, node: RabbitNode) -> AsyncIterator[int]:
    """Run a TLS proxy before a node; yield its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    proxy = Proxy(node.port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, proxy.serve_tls, 0, context)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.rabbitmq
async def test_tls_with_a_trusted_certificate_works(
    rabbitmq_node: RabbitNode, authority: trustme.CA, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with tls_front(authority, rabbitmq_node) as port:
        settings = fresh_settings(port, tls=True, ca_file=ca_file)
        async with open_broker(settings) as broker:
            await broker.publish([Outgoing("m", "execution.update", b"{}")])


@pytest.mark.rabbitmq
async def test_tls_with_an_untrusted_certificate_is_rejected(
    rabbitmq_node: RabbitNode, authority: trustme.CA
) -> None:
    async with tls_front(authority, rabbitmq_node) as port:
        line = await rejection(fresh_settings(port, tls=True, password=SECRET), BrokerUnreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in line
