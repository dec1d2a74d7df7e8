"""One private WebSocket session as a state machine without I/O.

    logging in --login ack--> subscribing --every channel acked--> ready

``start`` returns the login, ``receive`` processes every frame, ``timeout`` is called after
``deadline``. They return frames to send and events for the caller; a session that has ended raises a
``SessionError`` whose class says what to do next. Times are seconds of any monotonic clock.

Rules of the exchange that are implemented here: a login before any subscription, one acknowledgement
per channel, subscriptions that are dead in spite of their acknowledgement, the text ``ping`` after
silence (the exchange closes after 30 s in which neither side has sent anything), and the notice before
an upgrade. Pushes are passed on in every phase: they may come before the acknowledgement.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, assert_never

import attrs

from oms_trio.okx.errors import (
    ClockSkewedError,
    LoginFailedError,
    LoginRejectedError,
    SessionError,
    SessionLostError,
    SubscriptionDeadError,
)
from oms_trio.okx.wire.codec import decode_frame
from oms_trio.okx.wire.codes import LoginOutcome, login_advice, login_outcome
from oms_trio.okx.wire.fields import OnIgnored, unreported
from oms_trio.okx.wire.frames import (
    AccountPush,
    ChannelCount,
    ChannelCountExceeded,
    ErrorEvent,
    LoggedIn,
    Notice,
    OpResponse,
    OrdersPush,
    Pong,
    PositionsPush,
    Push,
    Subscribed,
    UnknownFrame,
    Unsubscribed,
)
from oms_trio.okx.wire.requests import CHANNELS, PING, encode_login, encode_subscribe
from oms_trio.okx.wire.signing import Credentials

IDLE_S: Final = 15.0
"""Silence until a ping is sent, and again until the connection counts as lost: twice this is the
exchange's own limit of 30 s."""

HANDSHAKE_S: Final = 20.0
"""Time for login and subscriptions; the exchange closes connections without one after 30 s."""

_UPGRADE: Final = "64008"
_NOT_LOGGED_IN: Final = "60011"
_SUBSCRIBE_ID: Final = "subscribe"


@attrs.frozen
class Send:
    """A frame to send now."""

    text: str = attrs.field(repr=False)  # a login carries the passphrase


@attrs.frozen
class Ready:
    """Logged in and subscribed: ops may be sent, and no push is missed from now on."""

    conn_id: str


@attrs.frozen
class UpgradeAhead:
    """The exchange closes this session in about 60 s: open and reconcile another one before."""

    msg: str


Event = Ready | UpgradeAhead | Push | OpResponse | ErrorEvent
"""What a session reports. An ``ErrorEvent`` answers the op with its ``id``, if it has one."""


class _Phase(Enum):
    NEW = "new"
    LOGGING_IN = "logging in"
    SUBSCRIBING = "subscribing"
    READY = "ready"


class OkxSession:
    """The state of one session; one object per connection, never used twice.

    ``tag`` marks our orders: an unreadable row of somebody else is ignored and goes to ``on_ignored``.
    """

    def __init__(
        self,
        credentials: Credentials,
        inst_id: str,
        tag: str = "",
        on_ignored: OnIgnored = unreported,
    ) -> None:
        self._credentials = credentials
        self._inst_id = inst_id
        self._tag = tag
        self._on_ignored = on_ignored
        self._phase = _Phase.NEW
        self._conn_id = ""
        self._missing = set(CHANNELS)
        self._started = 0.0
        self._last_frame = 0.0
        self._pinged = False

    def __repr__(self) -> str:
        return f"<OkxSession {self._phase.value} {self._conn_id} missing={sorted(self._missing)}>"

    @property
    def ready(self) -> bool:
        """Whether ops may be sent."""
        return self._phase is _Phase.READY

    @property
    def deadline(self) -> float:
        """When to call ``timeout`` if no frame arrives before."""
        silence = self._last_frame + (2 * IDLE_S if self._pinged else IDLE_S)
        return silence if self.ready else min(silence, self._started + HANDSHAKE_S)

    def start(self, now: float, timestamp_s: int) -> Send:
        """Start the session; the login is signed for ``timestamp_s``, Unix seconds of the exchange's clock."""
        assert self._phase is _Phase.NEW, self
        self._phase = _Phase.LOGGING_IN
        self._started = self._last_frame = now
        return Send(encode_login(self._credentials, timestamp_s))

    def timeout(self, now: float) -> tuple[Send, ...]:
        """Check the time; before the deadline this does nothing.

        Raises:
            SessionLostError: silence after a ping, or a handshake that takes too long.
        """
        if now < self.deadline:
            return ()
        if not self.ready and now >= self._started + HANDSHAKE_S:
            raise SessionLostError(f"still {self._phase.value} after {HANDSHAKE_S:.0f} s")
        if self._pinged:
            raise SessionLostError(f"no frame for {2 * IDLE_S:.0f} s although a ping was sent")
        self._pinged = True
        return (Send(PING),)

    def receive(self, text: str | bytes, now: float) -> tuple[Send | Event, ...]:
        """Process one frame.

        Raises:
            ProtocolError: the frame does not have its documented shape.
            SessionError: the session has ended; the subclass says why.
        """
        self._last_frame, self._pinged = now, False
        frame = decode_frame(text, self._inst_id, self._tag, self._on_ignored)
        match frame:
            case OrdersPush() | PositionsPush() | AccountPush() | OpResponse():
                return (frame,)
            case Pong() | ChannelCount() | UnknownFrame():
                return ()
            case LoggedIn(conn_id=conn_id):
                return self._logged_in(conn_id)
            case Subscribed(channel=channel):
                return self._subscribed(channel)
            case Notice(code=code, msg=msg):
                return (UpgradeAhead(msg),) if code == _UPGRADE else ()
            case ErrorEvent():
                return self._error(frame)
            case ChannelCountExceeded(channel=channel):
                raise SubscriptionDeadError(
                    f"too many connections have subscribed the channel {channel}"
                )
            case Unsubscribed(channel=channel):
                raise SessionLostError(f"the exchange ended the channel {channel}")
            case _:
                assert_never(frame)

    def _logged_in(self, conn_id: str) -> tuple[Send, ...]:
        if self._phase is not _Phase.LOGGING_IN:
            return ()
        self._phase = _Phase.SUBSCRIBING
        self._conn_id = conn_id
        return (Send(encode_subscribe(self._inst_id, _SUBSCRIBE_ID)),)

    def _subscribed(self, channel: str) -> tuple[Ready, ...]:
        self._missing.discard(channel)
        if self._phase is not _Phase.SUBSCRIBING or self._missing:
            return ()
        self._phase = _Phase.READY
        return (Ready(self._conn_id),)

    def _error(self, error: ErrorEvent) -> tuple[ErrorEvent, ...]:
        if self._phase is _Phase.LOGGING_IN:
            raise _login_error(error)
        if self._phase is _Phase.SUBSCRIBING or error.id == _SUBSCRIBE_ID:
            raise SessionLostError(f"subscription rejected with {error.code} ({error.msg})")
        if error.code == _NOT_LOGGED_IN:
            raise SessionLostError("the exchange no longer knows our login (60011)")
        return (error,)


def _login_error(error: ErrorEvent) -> SessionError:
    # Some error messages repeat the request, and this request contains the passphrase.
    error = attrs.evolve(error, msg=error.msg.partition("{")[0].strip())
    match login_outcome(error.code):
        case LoginOutcome.FINAL:
            return LoginRejectedError(error.code, error.msg, login_advice(error.code))
        case LoginOutcome.RESYNC:
            return ClockSkewedError(error.code)
        case LoginOutcome.RETRY:
            return LoginFailedError(error.code, error.msg, limited=False)
        case LoginOutcome.RETRY_LIMITED:
            return LoginFailedError(error.code, error.msg, limited=True)
