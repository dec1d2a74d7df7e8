"""Every fault by its name, and one strike of it as a value that prints and repeats."""

from __future__ import annotations

from enum import StrEnum

import attrs


class Kind(StrEnum):
    """Every fault there is."""

    CUT = "cut"
    CLOSE = "close"
    UPGRADE = "upgrade"
    HALF_OPEN = "half_open"
    REFUSE_CONNECTIONS = "refuse_connections"
    STALL = "stall"
    SILENCE = "silence"
    SLOW = "slow"
    GARBAGE = "garbage"
    LOGIN = "login"
    CUT_BEFORE_OP = "cut_before_op"
    CUT_AFTER_OP = "cut_after_op"
    DROP_ACK = "drop_ack"
    LATE_ACK = "late_ack"
    PUSH_BEFORE_ACK = "push_before_ack"
    ANSWER = "answer"
    ANSWER_EXECUTED = "answer_executed"
    REFUSE = "refuse"
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
    CLOCK = "clock"
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
    HAND_ORDER = "hand_order"
    HAND_AMEND = "hand_amend"
    HAND_CANCEL = "hand_cancel"


@attrs.frozen
class Strike:
    """One fault: which, when (seconds from the start of its plan), and how hard.

    Each kind reads what it needs: ``times`` how many messages are struck, ``lasts_s`` how long a
    state stays (0: until it is put back), ``delay_s`` the size of a delay, lag or skew, ``code``
    an answer's or a close frame's code, or whatever else its kind has to be told as a text.
    """

    kind: Kind
    at_s: float = 0.0
    times: int = 1
    lasts_s: float = 0.0
    delay_s: float = 0.0
    code: str = ""

    def __str__(self) -> str:
        """Write one line of a printed plan."""
        told = [f"{self.at_s:10.3f} s  {self.kind:<18}"]
        told += [f"x{self.times}"] if self.times != 1 else []
        told += [f"for {self.lasts_s:.3f} s"] if self.lasts_s else []
        told += [f"by {self.delay_s:.3f} s"] if self.delay_s else []
        told += [self.code] if self.code else []
        return " ".join(told).rstrip()
