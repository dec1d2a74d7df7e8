"""Every kind of fault by its name, and one occurrence of a fault as a value."""

from __future__ import annotations

from enum import StrEnum

import attrs


class FaultKind(StrEnum):
    """The names of all faults; ``faults.catalog`` says what each does."""

    CUT = "cut"
    CLOSE = "close"
    UPGRADE = "upgrade"
    HALF_OPEN = "half_open"
    REFUSE_CONNECTIONS = "refuse_connections"
    STALL = "stall"
    SILENCE = "silence"
    SLOW = "slow"
    GARBAGE = "garbage"
    REJECT_LOGIN = "reject_login"
    CUT_BEFORE_OP = "cut_before_op"
    CUT_AFTER_OP = "cut_after_op"
    DROP_ACK = "drop_ack"
    LATE_ACK = "late_ack"
    PUSH_BEFORE_ACK = "push_before_ack"
    ANSWER = "answer"
    ANSWER_EXECUTED = "answer_executed"
    REJECT_ORDER = "reject_order"
    DROP_PUSH = "drop_push"
    DROP_POSITION = "drop_position"
    DROP_ACCOUNT = "drop_account"
    REPEAT_PUSH = "repeat_push"
    ECHO_PUSH = "echo_push"
    LATE_PUSH = "late_push"
    LATE_POSITION = "late_position"
    SWAP_PUSHES = "swap_pushes"
    POSITIONS_FIRST = "positions_first"
    HANG = "hang"
    HANG_EXECUTED = "hang_executed"
    DEAD_SUBSCRIPTIONS = "dead_subscriptions"
    ABSURD = "absurd"
    FOREIGN_ORDER = "foreign_order"
    FOREIGN_POSITION = "foreign_position"
    FOREIGN_FILL = "foreign_fill"
    SUSPEND = "suspend"
    INSTRUMENT = "instrument"
    CLOCK_SKEW = "clock_skew"
    CLOCK_DRIFT = "clock_drift"
    WRONG_TIME = "wrong_time"
    QUERY_CODE = "query_code"
    REST_LAG = "rest_lag"
    REST_SLOW = "rest_slow"
    REST_LOST = "rest_lost"
    REST_ERROR = "rest_error"
    REST_DOWN = "rest_down"
    REST_HTML = "rest_html"
    REST_EMPTY = "rest_empty"
    ADL = "adl"
    LIQUIDATION = "liquidation"
    PARTIAL_LIQUIDATION = "partial_liquidation"
    FUNDING = "funding"
    MARKET_MOVE = "market_move"
    EXTERNAL_ORDER = "external_order"
    EXTERNAL_AMEND = "external_amend"
    EXTERNAL_CANCEL = "external_cancel"


@attrs.frozen
class FaultEvent:
    """One occurrence of a fault: which, when (in seconds from the start of its plan), how hard.

    Each kind uses what it needs: ``times`` is a number of messages, ``duration_s`` how long a state
    lasts (0: until it is reset), ``delay_s`` the size of a delay, lag or skew, and ``code`` the
    code of an answer or close frame, or another text that the catalog describes.
    """

    kind: FaultKind
    at_s: float = 0.0
    times: int = 1
    duration_s: float = 0.0
    delay_s: float = 0.0
    code: str = ""

    def __str__(self) -> str:
        """Return the event's line in a printed plan."""
        parts = [f"{self.at_s:10.3f} s  {self.kind:<18}"]
        parts += [f"x{self.times}"] if self.times != 1 else []
        parts += [f"for {self.duration_s:.3f} s"] if self.duration_s else []
        parts += [f"by {self.delay_s:.3f} s"] if self.delay_s else []
        parts += [self.code] if self.code else []
        return " ".join(parts).rstrip()
