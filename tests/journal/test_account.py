"""A journal belongs to one account of one exchange, live or demo."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import attrs
import pytest

from oms_trio.journal.errors import JournalCorrupt, JournalOfAnotherAccount
from oms_trio.journal.journal import Journal
from oms_trio.journal.model import Account, Entry
from tests.journal.helpers import entries, record

OURS = Account("55001122334455667", "openapi.okx.com", demo=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_the_first_stamp_decides_the_account(path: Path) -> None:
    with Journal.open(path) as journal:
        assert journal.account is None
        journal.stamp(OURS)
        journal.stamp(OURS)
    with Journal.open(path, read_only=True) as journal:
        assert journal.account == OURS
        journal.verify()


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(OURS, uid="55001122334455668"),
        attrs.evolve(OURS, demo=True),
        attrs.evolve(OURS, host="127.0.0.1"),
        attrs.evolve(OURS, host="okx.com.example.org"),
    ],
)
def test_another_account_is_rejected_in_one_line_that_says_what_to_do(
    path: Path, other: Account
) -> None:
    with Journal.open(path) as journal:
        journal.stamp(OURS)
        with pytest.raises(JournalOfAnotherAccount) as caught:
            journal.stamp(other)
        assert journal.account == OURS
    assert str(caught.value) == (
        f"{path.parent} belongs to account {OURS}, the API key to account {other}: "
        "set the key of that account, or another OMS_STATE_DIR"
    )
    assert str(OURS) == "55001122334455667 (live trading at openapi.okx.com)"


def test_another_host_of_the_same_exchange_is_the_same_account(path: Path) -> None:
    """The exchange renames its hosts, and that must not force anyone to abandon open orders."""
    with Journal.open(path) as journal:
        journal.stamp(OURS)
        journal.stamp(attrs.evolve(OURS, host="www.okx.com"))


@pytest.mark.parametrize("host", ["127.0.0.2", "10.0.0.1", "::1", "localhost"])
def test_ip_addresses_are_compared_whole(path: Path, host: str) -> None:
    here = attrs.evolve(OURS, host="127.0.0.1")
    with Journal.open(path) as journal:
        journal.stamp(here)
        with pytest.raises(JournalOfAnotherAccount):
            journal.stamp(attrs.evolve(OURS, host=host))


def test_the_account_can_be_stamped_while_another_thread_commits(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append(entries(1, 1))
        begun = threading.Event()

        def commit() -> None:
            for seq in range(2, 200):
                journal.append(entries(seq, seq))
                begun.set()

        thread = threading.Thread(target=commit)
        thread.start()
        begun.wait()
        journal.stamp(OURS)
        thread.join()
        assert journal.last_seq == 199
    with Journal.open(path, read_only=True) as journal:
        assert journal.account == OURS


def test_a_damaged_stamp_is_not_taken_for_another_account(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.stamp(OURS)
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE account SET uid = '55001122334455666'")
    with pytest.raises(JournalCorrupt, match="wrong checksum in account"):
        Journal.open(path)


def test_an_action_is_known_from_its_commit_until_its_record_is_removed(path: Path) -> None:
    with Journal.open(path) as journal:
        assert not journal.knows_action("one")
        journal.append([Entry(1, record(1), (), "one"), Entry(2, record(2))])
        assert journal.knows_action("one")
        assert not journal.knows_action("")
        journal.append([Entry(seq, record(seq), (), f"of {seq}") for seq in range(3, 100)])
        assert journal.knows_action("of 99")
        journal.save_snapshot(50, b"", "")
        assert journal.compact(record(40).at_ns) == 39
        assert not journal.knows_action("one")
        assert not journal.knows_action("of 39")
        assert journal.knows_action("of 40")
    with Journal.open(path) as journal:
        assert journal.knows_action("of 99")
        assert not journal.knows_action("one")


def test_a_repeated_action_is_known_as_long_as_its_last_record(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append([Entry(seq, record(seq), (), "again") for seq in range(1, 11)])
        journal.save_snapshot(10, b"", "")
        journal.compact(record(10).at_ns)
        assert journal.knows_action("again")


def test_a_failed_transaction_makes_no_action_known(path: Path) -> None:
    with Journal.open(path) as journal:
        twice = attrs.evolve(entries(1, 1)[0], action_name="lost")
        with pytest.raises(ValueError, match="the journal rejected"):
            journal.append([twice, attrs.evolve(twice, seq=2)])
        assert not journal.knows_action("lost")


def test_looking_up_an_action_does_not_wait_for_a_commit(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.append([Entry(1, record(1), (), "one")])
        with journal._transaction(durable=True) as connection:
            connection.execute("DELETE FROM action_names")
            assert journal.knows_action("one"), "what is not committed is not so"
        assert not journal.knows_action("one")
