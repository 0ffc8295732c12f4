"""Writes what version 0.1.0 left behind, as SQL: run it in a checkout of commit ee8de20, from there.

    PYTHONPATH=. python .../tests/journal/earlier/build.py FOLDER

Keys and tokens are plainly no real ones. One row for each kind of entry; `FOLDER8` stands for the beginning of the name
of the journal's folder, which that version derived from the table's address.
"""

# mypy: ignore-errors
import json
import sqlite3
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from refresher.journal import ANSWER_FIELD, STEP_ASIDE, STEP_LOST, Journal
from stores.database import DatabaseStore

from crypto import Context, Keyring
from providers.base import RawAnswer

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = "https://zoom.us"
KEY = bytes(range(32))
NAMES = ("sent", "answered", "lost", "superseded", "spent", "failed", "claimed")


class At:
    """A clock that stands still."""

    def __init__(self, moment):
        self._moment = moment

    def now(self):
        return self._moment

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        raise AssertionError


def main(target: Path) -> None:
    """Make them, and write them out."""
    with TemporaryDirectory() as name:
        folder, clock, keyring = Path(name), At(START - timedelta(hours=1)), Keyring(KEY)
        store = DatabaseStore(f"sqlite:///{folder}/tokens.sqlite3", clock)
        for kind in NAMES:
            store.create(cells(keyring, kind))
        rows = {row.location_id: row for row in store.rows()}
        journal = Journal(folder, keyring, clock)
        write_entries(journal, keyring, rows)
        journal.close()
        store.close()
        with sqlite3.connect(folder / "tokens.sqlite3") as database:
            owner = "oldhost-0a1b2c3d-FOLDER8/1/0123456789abcdef"
            query = "UPDATE credentials SET claim_owner = ?, claim_generation = 1, claimed_at = ? WHERE location_id = ?"
            database.execute(query, (owner, "2026-03-01T11:00:00.000Z", "claimed"))
        (target / "tokens.sql").write_text(dump(folder / "tokens.sqlite3"))
        (target / "journal.sql").write_text(dump(folder / "journal-1.sqlite3"))


def cells(keyring, kind):
    """A row of a client, as onboarding left it; `spent` was restored since, with the token of before."""
    return {
        "locationId": kind,
        "provider": "zoom",
        "client_id": "earlier-client",
        "encrypted_secret": keyring.seal("earlier secret", Context("encrypted_secret", kind, ORIGIN)),
        "encrypted_refresh": keyring.seal(f"earlier-token-{kind}", Context("encrypted_refresh", kind, ORIGIN)),
        "access_token_expiry": START,
        "refreshed_by": "oldhost-0a1b2c3d",
        "last_refreshed": START - timedelta(hours=1),
    }


def write_entries(journal, keyring, rows):
    """One entry of each kind."""

    def intend(kind):
        return journal.intend(rows[kind], f"earlier-token-{kind}", "zoom", ORIGIN)

    def keep(entry_id, kind):
        pair = {"access_token": f"earlier-access-{kind}", "refresh_token": f"newer-token-{kind}", "expires_in": 3600}
        raw = RawAnswer(200, {"content-type": "application/json"}, json.dumps(pair).encode(), START)
        journal.keep(entry_id, raw, Context(ANSWER_FIELD, kind, ORIGIN))

    intend("sent")
    keep(intend("answered"), "answered")
    journal.mark(intend("lost"), STEP_LOST)
    superseded = intend("superseded")
    keep(superseded, "superseded")
    journal.mark(superseded, STEP_ASIDE)
    spent = intend("spent")
    journal.finish([spent], [spent])
    failed = replace(rows["failed"], last_error="invalid_grant", failure_count=3, status="reauthorize")
    journal.failures.note([failed], [])
    entered = {
        "location_id": "onboarding",
        "provider": "zoom",
        "client_id": "earlier-client",
        "client_secret": "earlier secret",
        "refresh_token": "earlier-token-onboarding",
        "provider_params": "",
    }
    token = journal.fingerprint(entered["refresh_token"])
    keep(journal.enrol("onboarding", "zoom", ORIGIN, "", token, json.dumps(entered)), "onboarding")


def dump(file):
    """A database as SQL, with its version."""
    with sqlite3.connect(file) as database:
        [version] = database.execute("PRAGMA user_version").fetchone()
        return "\n".join([*database.iterdump(), f"PRAGMA user_version = {version};"]) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
