"""The exchange's codes, and what each one proves about the request that it answers. Pure.

The tables list what a code proves. The functions return what that means for an order, a cancel, a
query or a login, which may differ for the same code. Only the number of a code counts, never its
message; a detailed code such as ``51008_1001`` counts as its first part.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from oms_trio.core.events import Verdict
from oms_trio.core.model import RejectReason


class Outcome(Enum):
    """What a code proves about the request that it answers."""

    DONE = "done"
    """It succeeded."""
    REJECTED = "rejected"
    """It had no effect, and the same request would fail again."""
    RETRYABLE = "retryable"
    """It had no effect; the same request may succeed later."""
    CLOCK = "clock"
    """It had no effect; it may succeed after the clock offset is measured again."""
    UNKNOWN = "unknown"
    """Nothing is proved: look up whether a change has happened; a query may be repeated."""
    UNAVAILABLE = "unavailable"
    """As ``UNKNOWN``: the exchange or a part of it is down."""
    DUPLICATE = "duplicate"
    """An order of this name already exists: look it up."""
    FATAL = "fatal"
    """It had no effect, and no request will have one until a person has changed something."""
    GONE = "gone"
    """The order that the request refers to has ended, or never existed."""


def _codes(text: str) -> tuple[str, ...]:
    """Expand a list of codes and ranges (``50017-50023``)."""
    codes: list[str] = []
    for item in text.split():
        first, _, last = item.partition("-")
        codes += [str(code) for code in range(int(first), int(last or first) + 1)]
    return tuple(codes)


_BY_OUTCOME: Final = {
    Outcome.DONE: "0",
    Outcome.REJECTED: """
        50000 50002 50005 50006 50014 50015 50016 50024 50025 50036 50037 50038
        51000 51001 51003 51004 51005 51006 51007 51008 51015 51020-51023 51027 51028 51031 51037 51039
        51101 51105-51107 51112 51116 51119-51121 51127 51131 51136-51138 51148 51150 51169-51171
        51185-51187 51201-51206 51209-51214
        51403 51404 51406-51408 51413
        51500-51502 51506 51508 51511 51512 51514 51521 51522
        54000 54004 54030 54031 54035 54036 54072
        59000 59102-59109
        60012 60013 60018 60019 60027 60028 60033
        """,
    Outcome.RETRYABLE: """
        50011 50017-50023 50040 50061
        51025 51029 51030 51102-51104 51113 51115 51117 51165 51174 51513
        54008 54012 54047 54048 54094
        60011 60014
        """,
    Outcome.CLOCK: "50102 50112",
    Outcome.UNKNOWN: "50004 50042 51054 51149 51412 64007",
    Outcome.UNAVAILABLE: "50001 50013 50026",
    Outcome.DUPLICATE: "50071 51011 51016",
    Outcome.FATAL: """
        50007 50009 50012 50027-50030 50032 50051 50100 50101 50103-50107 50110 50111 50113 50114
        50119-50121 51010 51024 51155 54024 54092 54109 59113
        """,
    Outcome.GONE: "51063 51400-51402 51405 51410 51503 51509 51510 51603",
}

OUTCOMES: Final = {code: outcome for outcome, text in _BY_OUTCOME.items() for code in _codes(text)}

_RATE_LIMITED: Final = frozenset(_codes("50011 50040 50061"))
_EXPIRED: Final = frozenset(_codes("50036 50037"))


def base_code(code: str) -> str:
    """Return a code without its detail: ``51008_1001`` is 51008."""
    return code.partition("_")[0]


def outcome_of(code: str) -> Outcome | None:
    """Return what a code proves; None for an unknown code."""
    return OUTCOMES.get(base_code(code))


def is_fatal(code: str) -> bool:
    """Whether trading must stop until a person acts: key, permission or account is rejected."""
    return outcome_of(code) is Outcome.FATAL


def submit_verdict(code: str, *, of_element: bool = True) -> tuple[Verdict, RejectReason]:
    """Return what a code means for an order, and the reason to report if it is rejected.

    ``of_element`` marks a code that belongs to this order (``sCode``). Only then is an unknown code a
    rejection: as the code of the whole request it proves nothing.
    """
    number = base_code(code)
    return _verdict_of_order(number, of_element=of_element), _reject_reason(number)


def _verdict_of_order(number: str, *, of_element: bool) -> Verdict:
    match OUTCOMES.get(number):
        case Outcome.DONE:
            return Verdict.ACCEPTED
        case Outcome.REJECTED | Outcome.FATAL:
            return Verdict.REJECTED
        case Outcome.RETRYABLE | Outcome.CLOCK:
            return Verdict.RETRY
        case Outcome.UNKNOWN | Outcome.UNAVAILABLE | Outcome.DUPLICATE | Outcome.GONE:
            # "Gone" answers a cancel; as the answer to a new order it proves nothing.
            return Verdict.UNKNOWN
        case None:
            # 1 and 2 only refer to the elements: alone they prove nothing.
            rejected = of_element and number not in {"", "1", "2"}
            return Verdict.REJECTED if rejected else Verdict.UNKNOWN


def _reject_reason(number: str) -> RejectReason:
    if number in _RATE_LIMITED:
        return RejectReason.RATE_LIMITED
    if number in _EXPIRED:
        return RejectReason.STALE
    return RejectReason.EXCHANGE


def cancel_verdict(code: str) -> Verdict:
    """Return what a code means for a cancel; cancels can be repeated, so doubt is ``UNKNOWN``."""
    match outcome_of(code):
        case Outcome.DONE:
            return Verdict.ACCEPTED
        case Outcome.REJECTED | Outcome.FATAL:
            return Verdict.REJECTED
        case Outcome.RETRYABLE | Outcome.CLOCK:
            return Verdict.RETRY
        case Outcome.GONE:
            return Verdict.GONE
        case Outcome.UNKNOWN | Outcome.UNAVAILABLE | Outcome.DUPLICATE | None:
            return Verdict.UNKNOWN


class QueryOutcome(Enum):
    """What to do after the answer to a query or a setting."""

    OK = "ok"
    REPEAT = "repeat"
    """Repeat it later."""
    RESYNC = "resync"
    """Measure the clock offset again, then repeat it."""
    NOT_FOUND = "not_found"
    """The exchange knows no such order (51603); that is certain only after some time."""
    REJECTED = "rejected"
    """The same request would be rejected again."""
    FATAL = "fatal"
    """Every request will be rejected until a person has changed something."""


def query_outcome(code: str) -> QueryOutcome:
    """Return what a code means for a query or a setting, which can always be repeated safely.

    An unknown code is therefore no reason to stop.
    """
    if base_code(code) == "51603":
        return QueryOutcome.NOT_FOUND
    match outcome_of(code):
        case Outcome.DONE:
            return QueryOutcome.OK
        case Outcome.RETRYABLE | Outcome.UNKNOWN | Outcome.UNAVAILABLE | None:
            return QueryOutcome.REPEAT
        case Outcome.CLOCK:
            return QueryOutcome.RESYNC
        case Outcome.FATAL:
            return QueryOutcome.FATAL
        case Outcome.REJECTED | Outcome.DUPLICATE | Outcome.GONE:
            return QueryOutcome.REJECTED


class LoginOutcome(Enum):
    """What to do after a failed login."""

    FINAL = "final"
    """Stop: a person has to change something."""
    RESYNC = "resync"
    """Measure the clock offset again, then log in again."""
    RETRY = "retry"
    """Log in again after a back-off."""
    RETRY_LIMITED = "retry_limited"
    """Log in again a few times, then stop."""


_CREDENTIALS: Final = "check OKX_API_KEY, OKX_SECRET_KEY and OKX_PASSPHRASE"
_ENVIRONMENT: Final = "the key belongs to the other environment: check OKX_DEMO and the key"
_REGION: Final = "the key is unknown here: check OKX_API_KEY, and OKX_WS_URL for your region"

_LOGIN_ADVICE: Final = {
    "60004": "the login's timestamp is malformed, which is a bug: report it",
    "60005": "check OKX_API_KEY",
    "60007": "the signature is wrong: check OKX_SECRET_KEY",
    "60024": "check OKX_PASSPHRASE",
    "60032": _REGION,
    "50101": _ENVIRONMENT,
    "50105": "check OKX_PASSPHRASE",
    "50110": "the address of this machine is not on the key's allowlist: add it, or use another key",
    "50111": "check OKX_API_KEY",
    "50113": "the signature is wrong: check OKX_SECRET_KEY",
    "50119": _REGION,
}

_LOGIN: Final = {
    **dict.fromkeys(_codes("60004 60005 60007 60024 60032"), LoginOutcome.FINAL),
    "60006": LoginOutcome.RESYNC,
    **dict.fromkeys(_codes("60009 60022 60026"), LoginOutcome.RETRY_LIMITED),
    **dict.fromkeys(_codes("60011 60014 60023 60031 63999"), LoginOutcome.RETRY),
}


def login_outcome(code: str) -> LoginOutcome:
    """Return what a code means for a failed login; codes of REST have their meaning here too."""
    number = base_code(code)
    if number in _LOGIN:
        return _LOGIN[number]
    match OUTCOMES.get(number):
        case Outcome.FATAL:
            return LoginOutcome.FINAL
        case Outcome.CLOCK:
            return LoginOutcome.RESYNC
        case Outcome.RETRYABLE | Outcome.UNKNOWN | Outcome.UNAVAILABLE:
            return LoginOutcome.RETRY
        case _:
            return LoginOutcome.RETRY_LIMITED


def login_advice(code: str) -> str:
    """Return what a person has to check after a login was rejected with this code."""
    return _LOGIN_ADVICE.get(base_code(code), _CREDENTIALS)
