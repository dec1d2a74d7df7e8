"""The exchange's codes: every code of its table, and its meaning for orders, cancels, queries and logins.

The expectations are written out a second time here, by the documentation's own classes, so that
a slip of the table in the code shows.
"""

from __future__ import annotations

from typing import Final

import pytest

from oms_trio.core.events import Verdict
from oms_trio.core.model import RejectReason
from oms_trio.okx.wire.codes import (
    OUTCOMES,
    LoginOutcome,
    QueryOutcome,
    cancel_verdict,
    is_fatal,
    login_advice,
    login_outcome,
    query_outcome,
    submit_verdict,
)


def listed(text: str) -> list[str]:
    return text.split()


TERMINAL: Final = listed("""
50000 50002 50005 50006 50014 50015 50016 50024 50025 50036 50037 50038 51000 51001 51003 51004
51005 51006 51007 51008 51015 51020 51021 51022 51023 51027 51028 51031 51037 51039 51101 51105 51106
51107 51112 51116 51119 51120 51121 51127 51131 51136 51137 51138 51148 51150 51169 51170 51171
51185 51186 51187 51201 51202 51203 51204 51205 51206 51209 51210 51211 51212 51213 51214 51403
51404 51406 51407 51408 51413 51500 51501 51502 51506 51508 51511 51512 51514 51521 51522 54000
54004 54030 54031 54035 54036 54072 59000 59102 59103 59104 59105 59106 59107 59108 59109 60012
60013 60027 60033
""")
RETRYABLE: Final = listed("""
50011 50017 50018 50019 50020 50021 50022 50023 50040 50061 51025 51029 51030 51102 51103
51104 51113 51115 51117 51165 51174 51513 54008 54012 54047 54048 54094 60014
""")
CLOCK: Final = listed("50102 50112")
UNKNOWN: Final = listed("50001 50004 50013 50026 50042 51054 51149 51412 64007")
DUPLICATE: Final = listed("50071 51011 51016")
FATAL: Final = listed("""
50007 50009 50012 50027 50028 50029 50030 50032 50051 50100 50101 50103 50104 50105 50106 50107
50110 50111 50113 50114 50119 50120 50121 51010 51024 51155 54024 54092 54109 59113
""")
GONE: Final = listed("51063 51400 51401 51402 51405 51410 51503 51509 51510 51603")
SESSION: Final = listed("60011 60018 60019 60028")
"""Codes of the session's own table; they can answer an op too."""


def test_the_tables_know_the_same_codes() -> None:
    expected = [
        "0",
        *TERMINAL,
        *RETRYABLE,
        *CLOCK,
        *UNKNOWN,
        *DUPLICATE,
        *FATAL,
        *GONE,
        *SESSION,
    ]
    assert sorted(OUTCOMES) == sorted(expected)
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize(
    ("codes", "submit", "cancel", "query"),
    [
        (["0"], Verdict.ACCEPTED, Verdict.ACCEPTED, QueryOutcome.OK),
        (TERMINAL, Verdict.REJECTED, Verdict.REJECTED, QueryOutcome.REJECTED),
        (FATAL, Verdict.REJECTED, Verdict.REJECTED, QueryOutcome.FATAL),
        (RETRYABLE, Verdict.RETRY, Verdict.RETRY, QueryOutcome.REPEAT),
        (CLOCK, Verdict.RETRY, Verdict.RETRY, QueryOutcome.RESYNC),
        (UNKNOWN, Verdict.UNKNOWN, Verdict.UNKNOWN, QueryOutcome.REPEAT),
        (DUPLICATE, Verdict.UNKNOWN, Verdict.UNKNOWN, QueryOutcome.REJECTED),
        (
            [code for code in GONE if code != "51603"],
            Verdict.UNKNOWN,
            Verdict.GONE,
            QueryOutcome.REJECTED,
        ),
        (["51603"], Verdict.UNKNOWN, Verdict.GONE, QueryOutcome.NOT_FOUND),
    ],
)
def test_every_code_of_the_table(
    codes: list[str], submit: Verdict, cancel: Verdict, query: QueryOutcome
) -> None:
    for code in codes:
        for of_element in (True, False):
            assert submit_verdict(code, of_element=of_element)[0] is submit, code
        assert cancel_verdict(code) is cancel, code
        assert query_outcome(code) is query, code
        assert is_fatal(code) is (codes is FATAL), code


def test_codes_of_an_unknown_outcome_never_reject_a_submit() -> None:
    """nautilus_trader#4152: an ambiguous answer to a submit is not a rejection."""
    for code in ("50001", "50004", "50013", "50026", "51054", "51149", "64007"):
        assert submit_verdict(code)[0] is Verdict.UNKNOWN


def test_a_cancel_of_an_order_that_is_gone_is_not_repeated() -> None:
    """hummingbot#5896: these codes end a cancel, and a look-up shows the outcome."""
    for code in ("51400", "51401", "51402", "51410", "51603"):
        assert cancel_verdict(code) is Verdict.GONE


def test_rate_limits_and_expiry_have_reasons_of_their_own() -> None:
    for code in ("50011", "50040", "50061"):
        assert submit_verdict(code) == (Verdict.RETRY, RejectReason.RATE_LIMITED)
    for code in ("50036", "50037"):
        assert submit_verdict(code) == (Verdict.REJECTED, RejectReason.STALE)
    assert submit_verdict("51008") == (Verdict.REJECTED, RejectReason.EXCHANGE)


def test_a_detailed_code_counts_as_its_number() -> None:
    for code in ("51008_1001", "51004_1103", "51502_1001"):
        assert submit_verdict(code)[0] is Verdict.REJECTED
    assert submit_verdict("50061_1")[1] is RejectReason.RATE_LIMITED


def test_an_unknown_code_rejects_an_order_only_if_it_is_in_that_orders_element() -> None:
    assert submit_verdict("77777", of_element=True)[0] is Verdict.REJECTED
    assert submit_verdict("77777", of_element=False)[0] is Verdict.UNKNOWN
    assert cancel_verdict("77777") is Verdict.UNKNOWN


@pytest.mark.parametrize("code", ["", "1", "2"])
def test_codes_that_only_refer_to_elements_prove_nothing(code: str) -> None:
    assert submit_verdict(code)[0] is Verdict.UNKNOWN
    assert cancel_verdict(code) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("outcome", "codes"),
    [
        (
            LoginOutcome.FINAL,
            "60004 60005 60007 60024 60032 50101 50110 50100 50105 50111 50113 50119",
        ),
        (LoginOutcome.RESYNC, "60006 50102 50112"),
        (LoginOutcome.RETRY_LIMITED, "60009 60022 60026 77777"),
        (LoginOutcome.RETRY, "60011 60014 60023 60031 63999 50001 50011 50013 50026 64007"),
    ],
)
def test_login_codes(outcome: LoginOutcome, codes: str) -> None:
    for code in codes.split():
        assert login_outcome(code) is outcome, code


def test_every_final_login_failure_names_what_to_check() -> None:
    assert "OKX_PASSPHRASE" in login_advice("60024")
    assert "OKX_SECRET_KEY" in login_advice("60007")
    assert "OKX_API_KEY" in login_advice("60005")
    assert "OKX_DEMO" in login_advice("50101")
    assert "OKX_WS_URL" in login_advice("60032")
    assert "OKX_API_KEY" in login_advice("77777")
