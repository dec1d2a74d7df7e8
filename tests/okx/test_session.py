"""The session's state machine, frame by frame."""

from __future__ import annotations

import json

import pytest

from oms_trio.okx.errors import (
    ClockSkewedError,
    LoginFailedError,
    LoginRejectedError,
    ProtocolError,
    SessionError,
    SessionLostError,
)
from oms_trio.okx.session import HANDSHAKE_S, IDLE_S, OkxSession, Ready, Send, UpgradeAhead
from oms_trio.okx.wire.frames import AccountPush, ErrorEvent, OpResponse, OrdersPush, PositionsPush
from tests.okx.samples import (
    ACCOUNT,
    CREDENTIALS,
    INST_ID,
    LOGIN_OK,
    ORDER_OK,
    PARTIAL_FILL,
    POSITION,
    error_event,
    subscribed,
)

NOTICE = '{"event":"notice","code":"64008","msg":"upgrade in 60 s","connId":"7c1d90ab"}'


def logging_in(now: float = 0.0) -> OkxSession:
    session = OkxSession(CREDENTIALS, INST_ID)
    session.start(now, 1790000000)
    return session


def subscribing(now: float = 0.0) -> OkxSession:
    session = logging_in(now)
    session.receive(LOGIN_OK, now)
    return session


def ready(now: float = 0.0) -> OkxSession:
    session = subscribing(now)
    for channel in ("orders", "positions", "account"):
        session.receive(subscribed(channel), now)
    assert session.ready
    return session


def test_login_then_subscription_then_ready() -> None:
    session = OkxSession(CREDENTIALS, INST_ID)
    login = json.loads(session.start(0.0, 1790000000).text)
    assert login["op"] == "login"
    assert login["args"][0]["timestamp"] == "1790000000"
    (subscribe,) = session.receive(LOGIN_OK, 0.1)
    assert isinstance(subscribe, Send)
    assert [arg["channel"] for arg in json.loads(subscribe.text)["args"]] == [
        "orders",
        "positions",
        "account",
    ]
    assert session.receive(subscribed("account"), 0.2) == ()
    assert session.receive(subscribed("orders"), 0.2) == ()
    assert (
        session.receive(subscribed("orders"), 0.2) == ()
    )  # the same channel twice is not another one
    assert not session.ready
    assert session.receive(subscribed("positions"), 0.3) == (Ready("7c1d90ab"),)
    assert session.ready


def test_a_second_acknowledgement_makes_no_second_ready_event() -> None:
    assert ready().receive(subscribed("orders"), 1.0) == ()


def test_connection_counts_are_not_reported() -> None:
    count = '{"event":"channel-conn-count","channel":"orders","connCount":"2"}'
    assert subscribing().receive(count, 0.1) == ()


@pytest.mark.parametrize("text", [PARTIAL_FILL, POSITION, ACCOUNT])
def test_a_push_before_its_acknowledgement_is_reported(text: str) -> None:
    (event,) = subscribing().receive(text, 0.1)
    assert isinstance(event, OrdersPush | PositionsPush | AccountPush)


def test_answers_and_errors_of_ops_are_reported() -> None:
    session = ready()
    (answer,) = session.receive(ORDER_OK, 1.0)
    assert isinstance(answer, OpResponse)
    failed = '{"id":"p7","event":"error","code":"64007","msg":"internal"}'
    assert session.receive(failed, 1.0) == (ErrorEvent("64007", "internal", "p7"),)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("60004", LoginRejectedError),
        ("60005", LoginRejectedError),
        ("60007", LoginRejectedError),
        ("60024", LoginRejectedError),
        ("60032", LoginRejectedError),
        ("50101", LoginRejectedError),
        ("50110", LoginRejectedError),
        ("60006", ClockSkewedError),
        ("60009", LoginFailedError),
        ("60023", LoginFailedError),
        ("60031", LoginFailedError),
        ("63999", LoginFailedError),
    ],
)
def test_each_class_of_failed_login_is_an_error_of_its_own(
    code: str, error: type[SessionError]
) -> None:
    with pytest.raises(error) as caught:
        logging_in().receive(error_event(code), 0.1)
    assert code in str(caught.value)


def test_only_ambiguous_login_failures_get_a_limited_number_of_attempts() -> None:
    for code, limited in (("60009", True), ("77777", True), ("63999", False), ("60023", False)):
        with pytest.raises(LoginFailedError) as caught:
            logging_in().receive(error_event(code), 0.1)
        assert caught.value.limited is limited


def test_a_final_rejection_names_what_to_check() -> None:
    with pytest.raises(LoginRejectedError, match="OKX_PASSPHRASE"):
        logging_in().receive(error_event("60024"), 0.1)


def test_a_rejection_that_repeats_our_login_does_not_show_the_passphrase() -> None:
    session = OkxSession(CREDENTIALS, INST_ID)
    login = session.start(0.0, 1790000000)
    assert CREDENTIALS.passphrase not in repr(login)
    with pytest.raises(LoginFailedError) as caught:
        session.receive(error_event("60012", f"Invalid request: {login.text}"), 0.1)
    assert CREDENTIALS.passphrase not in repr(caught.value)
    assert CREDENTIALS.passphrase not in repr(session)


@pytest.mark.parametrize(
    "text",
    [
        error_event("60018"),
        error_event("60012"),
        error_event("60014"),
        '{"event":"channel-conn-count-error","channel":"orders","connCount":"30"}',
        '{"event":"unsubscribe","arg":{"channel":"orders"}}',
    ],
)
def test_a_subscription_that_fails_ends_the_session(text: str) -> None:
    with pytest.raises(SessionLostError):
        subscribing().receive(text, 0.1)


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"channel-conn-count-error","channel":"orders","connCount":"30"}',
        '{"event":"unsubscribe","arg":{"channel":"account"}}',
        '{"id":"subscribe","event":"error","code":"60018","msg":""}',
        error_event("60011"),
    ],
)
def test_a_subscription_that_dies_later_ends_the_session_too(text: str) -> None:
    with pytest.raises(SessionLostError):
        ready().receive(text, 1.0)


def test_the_notice_before_an_upgrade_is_reported_and_others_are_not() -> None:
    session = ready()
    assert session.receive(NOTICE, 1.0) == (UpgradeAhead("upgrade in 60 s"),)
    assert session.receive(NOTICE.replace("64008", "64999"), 1.0) == ()
    assert session.ready


def test_silence_leads_to_a_text_ping_and_then_to_a_lost_session() -> None:
    session = ready()
    assert session.timeout(IDLE_S - 0.1) == ()
    assert session.deadline == IDLE_S
    assert session.timeout(IDLE_S) == (Send("ping"),)
    assert session.deadline == 2 * IDLE_S
    assert session.timeout(2 * IDLE_S - 0.1) == ()
    with pytest.raises(SessionLostError, match="no frame"):
        session.timeout(2 * IDLE_S)


@pytest.mark.parametrize("text", ["pong", PARTIAL_FILL, "{}"])
def test_every_frame_restarts_the_timer(text: str) -> None:
    session = ready()
    session.timeout(IDLE_S)
    session.receive(text, IDLE_S + 1)
    assert session.deadline == 2 * IDLE_S + 1
    assert session.timeout(2 * IDLE_S) == ()
    assert session.timeout(2 * IDLE_S + 1) == (Send("ping"),)


def test_a_handshake_that_does_not_end_is_a_lost_session_even_if_pongs_come() -> None:
    session = subscribing()
    assert session.timeout(IDLE_S) == (Send("ping"),)
    session.receive("pong", IDLE_S + 1)
    assert session.deadline == HANDSHAKE_S
    with pytest.raises(SessionLostError, match="subscribing"):
        session.timeout(HANDSHAKE_S)


def test_an_unreadable_frame_is_not_ignored() -> None:
    with pytest.raises(ProtocolError):
        ready().receive('{"arg":{"channel":"orders"},"data":[7]}', 1.0)
