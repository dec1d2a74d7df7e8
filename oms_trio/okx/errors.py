"""Errors of the exchange's edge.

Errors of sockets, TLS, HTTP and JSON are translated into these once, where they appear. A rejected
order is not an error but a value (``OrderAnswer``). No message contains a secret, so every message
may be logged as it is.
"""

from __future__ import annotations


class OkxError(Exception):
    """Base of all errors of this package."""


class ProtocolError(OkxError):
    """The exchange sent something that does not have its documented shape.

    ``path`` is the place of the fault, a JSON path such as ``$.data[0].fillSz``. The content of such
    a frame is unknown, so the only safe answer to it is a new session and a reconciliation.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class OurRowUnreadableError(ProtocolError):
    """A row of ours is unreadable; the text names it. Its content is unknown."""


class InstrumentNotTradableError(OkxError):
    """The instrument is not live, or it is not a linear USDT contract."""


class StepMismatchError(OkxError):
    """Sizes as they are set do not fit the instrument; the text says what a person must set."""


class SessionError(OkxError):
    """A WebSocket session ended or could not be opened; the subclass says what to do next."""


class SessionLostError(SessionError):
    """The connection broke, went silent or became unusable: open another one after a back-off."""


class SubscriptionDeadError(SessionLostError):
    """A channel was acknowledged and is dead: too many connections of the account hold it."""


class LoginFailedError(SessionError):
    """A login failed for a reason that may pass: open another session after a back-off.

    ``limited`` marks failures that are worth only a few attempts: the caller counts them and gives
    up when they repeat (code 60009 stands for wrong credentials too).
    """

    def __init__(self, code: str, msg: str, *, limited: bool) -> None:
        super().__init__(f"login failed with {code} ({msg})")
        self.code = code
        self.msg = msg
        self.limited = limited


class ClockSkewedError(SessionError):
    """The login's timestamp was rejected: measure the clock offset, then log in again."""

    def __init__(self, code: str) -> None:
        super().__init__(f"login timestamp rejected with {code}: the clocks differ too much")
        self.code = code


class LoginRejectedError(SessionError):
    """The exchange rejects this API key permanently; ``advice`` names what a person has to check."""

    def __init__(self, code: str, msg: str, advice: str) -> None:
        super().__init__(f"login rejected with {code} ({msg}): {advice}")
        self.code = code
        self.msg = msg
        self.advice = advice


class RestRejectedError(OkxError):
    """The exchange rejected a REST request, and would reject the same request again."""

    def __init__(self, code: str, msg: str) -> None:
        super().__init__(f"rejected with {code} ({msg})")
        self.code = code
        self.msg = msg


class AccessRejectedError(RestRejectedError):
    """Every request of this key is rejected: key, permissions, region, or a blocked account."""


class RestUnavailableError(OkxError):
    """There was no usable answer: repeat the request later. It never means "nothing there"."""


class RestRowUnreadableError(RestUnavailableError):
    """An answer has an unreadable row of ours: a person has to look at it."""


class AccountSetupError(OkxError):
    """The account cannot be set up as our orders need it; the text says what a person must do."""


class RetriesExhaustedError(OkxError):
    """No session could be opened in as many consecutive attempts as are allowed."""
