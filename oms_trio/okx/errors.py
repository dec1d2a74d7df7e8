"""What can go wrong between us and the exchange, in our own words.

Everything below ``OkxError`` is raised by this package alone: errors of sockets, TLS, HTTP and
JSON are translated once, where they appear. A refusal of an order is no error but a value
(``OrderAnswer``). The messages never carry a secret, so they may be logged as they are.
"""

from __future__ import annotations


class OkxError(Exception):
    """Base of all errors of this package."""


class ProtocolError(OkxError):
    """The exchange said something that is not of its documented shape.

    ``path`` says where (a JSON path such as ``$.data[0].fillSz``). What the frame told is
    unknown, so the only safe answer to a bad frame is a new session and a reconciliation.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class OurRowError(ProtocolError):
    """A row of ours cannot be read; the text names it. What it would have told is unknown."""


class InstrumentUnfitError(OkxError):
    """The instrument cannot be traded by us now: not live, or not a linear USDT contract."""


class StepUnfitError(OkxError):
    """Sizes as they are set do not fit the instrument; the text says what a person must set."""


class SessionError(OkxError):
    """A WebSocket session is over or never came to be; the subclass says what to do next."""


class SessionLostError(SessionError):
    """The link broke, fell silent or went bad: open another session after a back-off."""


class SubscriptionDeadError(SessionLostError):
    """A channel was acknowledged and is dead: too many connections of the account hold it."""


class LoginFailedError(SessionError):
    """A login failed in a way that may pass: open another session after a back-off.

    ``limited`` is set for failures that are worth a few attempts only: the caller counts them
    and gives up for good when they repeat (60009 hides wrong credentials as well).
    """

    def __init__(self, code: str, msg: str, *, limited: bool) -> None:
        super().__init__(f"login failed with {code} ({msg})")
        self.code = code
        self.msg = msg
        self.limited = limited


class ClockSkewedError(SessionError):
    """The login's timestamp was refused: measure the clock offset again, then log in again."""

    def __init__(self, code: str) -> None:
        super().__init__(f"login timestamp refused with {code}: our clock is off")
        self.code = code


class LoginRefusedError(SessionError):
    """The exchange refuses this key for good; ``advice`` names what a person has to check."""

    def __init__(self, code: str, msg: str, advice: str) -> None:
        super().__init__(f"login refused with {code} ({msg}): {advice}")
        self.code = code
        self.msg = msg
        self.advice = advice


class RestError(OkxError):
    """The exchange refused a REST request, and would refuse it again unchanged."""

    def __init__(self, code: str, msg: str) -> None:
        super().__init__(f"refused with {code} ({msg})")
        self.code = code
        self.msg = msg


class RestRefusedError(RestError):
    """Refused for good, whatever we ask: key, permissions, region or a blocked account."""


class RestUnavailableError(OkxError):
    """No answer that tells anything: ask again later, and never read it as "nothing there"."""


class RowUnreadableError(RestUnavailableError):
    """An answer has a row of ours that cannot be read: a person has to look at it."""


class AccountUnfitError(OkxError):
    """The account cannot be set up as our orders need it; the text says what a person must do."""


class RetriesUsedUpError(OkxError):
    """No session came to be in as many attempts in a row as are allowed."""
