"""What is on its way: every request and every answer, durable before the next step is taken.

An answer is written down sealed before anything is read out of it, and stays until the store has confirmed the new
tokens. Plain in it are location, provider, key id, step and time; never a token, a secret or an answer.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from clock import Clock
from crypto import Context, Keyring
from providers.base import RawAnswer
from stores.base import Row, iso, parse_time

JOURNAL_FILE = "journal.sqlite3"
BALLAST_FILE = "ballast"
ANSWER_FIELD = "answer"
SPENT_DAYS = 400  # how long a spent refresh token is remembered
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    row_key TEXT NOT NULL,
    location_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    origin TEXT NOT NULL,
    cell TEXT NOT NULL,
    step TEXT NOT NULL,
    started_at TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    lost_at TEXT NOT NULL DEFAULT '',
    answer TEXT NOT NULL DEFAULT '',
    enrolment TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS spent (
    token TEXT PRIMARY KEY,
    location_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    spent_at TEXT NOT NULL
) WITHOUT ROWID;
"""

_COLUMNS = (
    "id", "row_key", "location_id", "provider", "origin", "cell", "step", "started_at", "sent_at", "lost_at", "answer",
    "enrolment",
)  # fmt: skip

_Statement = tuple[str, tuple[str | int, ...]]

STEP_SENT = "sent"  # a request may be on its way
STEP_ANSWERED = "answered"  # an answer waits for the store
STEP_LOST = "lost"  # no usable answer came: the token may or may not be spent
STEP_ASIDE = "aside"  # somebody else's credential is in the row; ours is kept, sealed


class JournalError(Exception):
    """The journal cannot be written; nothing may be refreshed then.

    Attributes:
        action: the mend, as a sentence.
    """

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.action = action


class UnkeptAnswerError(JournalError):
    """An answer could not be written down.

    Attributes:
        sealed: the answer as it would have been written, safe to print.
    """

    def __init__(self, error: JournalError, sealed: str) -> None:
        super().__init__(str(error), error.action)
        self.sealed = sealed


@dataclass(frozen=True)
class Spent:
    """A refresh token that has a stored successor."""

    token: str = field(repr=False)
    location_id: str
    provider: str


@dataclass(frozen=True)
class Entry:
    """One refresh that is not finished.

    Attributes:
        cell: the fingerprint of the refresh cell it was made from.
        sent_at: when the last request for it was about to leave.
        lost_at: when the request left whose answer was the first to be lost; None where none was.
    """

    id: int
    row_key: str
    location_id: str
    provider: str
    origin: str
    cell: str
    step: str
    started_at: datetime
    sent_at: datetime
    lost_at: datetime | None
    answer: str = field(repr=False)
    enrolment: str = field(repr=False)


class Journal:
    """The journal of one store, used by all threads of one process.

    Args:
        folder: the store's state folder.
        keyring: seals answers and fingerprints cells and tokens.
        clock: when things happened.
        ballast_bytes: room kept free for answers, in a file that is given up when the disk is full.
        connect: opens the file.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        clock: Clock,
        ballast_bytes: int = 0,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._waiting_lock = threading.Lock()
        self._ballast = folder / BALLAST_FILE
        path = folder / JOURNAL_FILE
        try:
            _fill(self._ballast, ballast_bytes)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        except (OSError, sqlite3.Error) as error:
            raise _refused(error) from None
        try:
            self._set_up()
        except JournalError:
            self.close()
            raise

    def _set_up(self) -> None:
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            # NORMAL may lose the last commits when the power fails: those are the refresh tokens.
            self._database.execute("PRAGMA synchronous=EXTRA")
            [version] = self._database.execute("PRAGMA user_version").fetchone()
            if version <= SCHEMA_VERSION:
                self._database.executescript(f"{_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
        except sqlite3.Error as error:
            raise _refused(error) from None
        if version > SCHEMA_VERSION:
            raise JournalError(
                "a newer version of this program made the journal", "Update the program on this machine."
            )

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def intend(self, row: Row, provider: str, origin: str, lost_entry: int | None = None) -> int:
        """Note durably that a request for this row is about to leave; returns the entry.

        `lost_entry` is the earlier refresh of the same cell whose answer never came: it is taken over and keeps
        its time.
        """
        if lost_entry is not None:
            self.send_again(lost_entry, origin, is_lost=True)
            return lost_entry
        return self._insert(
            row.key, row.location_id, provider, origin, self._keyring.fingerprint(row.encrypted_refresh), ""
        )

    def send_again(self, entry_id: int, origin: str, *, is_lost: bool) -> None:
        """Note durably that another request for the same token is about to leave.

        `is_lost`: the answer to the one before was lost, so the token may be spent already.
        """
        query = (
            "UPDATE entries SET step = ?, origin = ?, sent_at = ?,"
            " lost_at = CASE WHEN ? AND lost_at = '' THEN sent_at ELSE lost_at END WHERE id = ?"
        )
        self._execute(query, STEP_SENT, origin, iso(self._clock.now()), int(is_lost), entry_id)

    def enrol(self, location_id: str, provider: str, origin: str, cell: str, credential: str) -> int:
        """Note durably, sealed, a credential that a person entered and that is about to be proved.

        `cell` is the fingerprint of the refresh cell that it replaces; empty for a new row.
        """
        sealed = self._keyring.seal(credential, Context(ANSWER_FIELD, location_id, origin))
        return self._insert("", location_id, provider, origin, cell, sealed)

    def keep(self, entry_id: int, raw: RawAnswer, context: Context) -> None:
        """Write an answer down, sealed and durable, before it is read."""
        content = {
            "status": raw.status,
            "headers": dict(raw.headers),
            "body": base64.b64encode(raw.body).decode("ascii"),
            "received_at": iso(raw.received_at),
        }
        sealed = self._keyring.seal(json.dumps(content), context)
        update = "UPDATE entries SET step = ?, answer = ? WHERE id = ?"
        try:
            self._execute(update, STEP_ANSWERED, sealed, entry_id)
        except JournalError:
            self._ballast.unlink(missing_ok=True)  # the disk is full: this is what the room was kept for
            try:
                self._execute(update, STEP_ANSWERED, sealed, entry_id)
            except JournalError as error:
                raise UnkeptAnswerError(error, sealed) from None

    def open_answer(self, entry: Entry) -> RawAnswer:
        """The answer that an entry keeps.

        Raises:
            SealedCellError: its key is gone, or the file was changed.
        """
        context = Context(ANSWER_FIELD, entry.location_id, entry.origin)
        content = json.loads(self._keyring.open(entry.answer, context))
        received_at = parse_time(content["received_at"])
        assert received_at is not None
        return RawAnswer(content["status"], content["headers"], base64.b64decode(content["body"]), received_at)

    def open_enrolment(self, entry: Entry) -> str:
        """The credential that `enrol` kept. Raises `SealedCellError` like `open_answer`."""
        return self._keyring.open(entry.enrolment, Context(ANSWER_FIELD, entry.location_id, entry.origin))

    def mark(self, entry_id: int, step: str) -> None:
        """Set what became of an entry: `lost` or `aside`."""
        self._execute("UPDATE entries SET step = ? WHERE id = ?", step, entry_id)

    def finish(self, entry_ids: Iterable[int], spent: Iterable[Spent] = ()) -> None:
        """Forget entries whose end the store has confirmed, and remember the tokens that were replaced by it."""
        now = self._clock.now()
        horizon = iso(now - timedelta(days=SPENT_DAYS))
        statements: list[_Statement] = [
            (
                "INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?)",
                (self._keyring.fingerprint(one.token), one.location_id, one.provider, iso(now)),
            )
            for one in spent
        ]
        statements += [("DELETE FROM entries WHERE id = ?", (entry_id,)) for entry_id in entry_ids]
        if statements:
            self._commit([*statements, ("DELETE FROM spent WHERE spent_at < ?", (horizon,))])

    def entries(self, *steps: str) -> list[Entry]:
        """The unfinished entries at one of these steps, oldest first."""
        marks = ", ".join("?" for _ in steps)
        query = f"SELECT {', '.join(_COLUMNS)} FROM entries WHERE step IN ({marks}) ORDER BY id"  # noqa: S608 - names
        with self._lock:
            try:
                records = self._database.execute(query, steps).fetchall()
            except sqlite3.Error as error:
                raise _refused(error) from None
        return [_entry(record) for record in records]

    def lost(self) -> list[Entry]:
        """Refreshes whose answer never came, in this run or one that died."""
        return [entry for entry in self.entries(STEP_LOST, STEP_SENT) if not entry.enrolment]

    def fingerprint(self, cell: str) -> str:
        """What recognises this cell later; empty for an empty cell."""
        return self._keyring.fingerprint(cell) if cell else ""

    def is_of(self, entry: Entry, cell: str) -> bool:
        """Whether the entry was made from this refresh cell."""
        return entry.cell in self._keyring.fingerprints(cell)

    def is_spent(self, token: str) -> bool:
        """Whether this refresh token was replaced by one that was stored."""
        marks = self._keyring.fingerprints(token)
        with self._lock:
            query = "SELECT 1 FROM spent WHERE token = ?"
            try:
                return any(self._database.execute(query, (mark,)).fetchone() for mark in marks)
            except sqlite3.Error as error:
                raise _refused(error) from None

    def _insert(self, *values: str) -> int:
        query = (
            "INSERT INTO entries (row_key, location_id, provider, origin, cell, enrolment, step, started_at, sent_at)"
        )
        now = iso(self._clock.now())
        return self._execute(query + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *values, STEP_SENT, now, now)

    def _execute(self, statement: str, *values: str | int) -> int:
        return self._commit([(statement, values)])

    def _commit(self, statements: Sequence[_Statement]) -> int:
        """Make `statements` durable; returns the id of the last row inserted.

        A commit waits for the disk, so threads share one: whoever comes next takes along all that wait by then.
        """
        ticket = _Ticket(statements)
        with self._waiting_lock:
            self._waiting.append(ticket)
        with self._lock:
            if not ticket.is_done:
                with self._waiting_lock:
                    batch, self._waiting = self._waiting, []
                self._transact(batch)
        if ticket.error is not None:
            raise _refused(ticket.error)
        return ticket.last_id

    def _transact(self, batch: Sequence[_Ticket]) -> None:
        error: sqlite3.Error | None = None
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for ticket in batch:
                for statement, values in ticket.statements:
                    ticket.last_id = self._database.execute(statement, values).lastrowid or 0
            self._database.execute("COMMIT")
        except sqlite3.Error as refusal:
            error = refusal
            if self._database.in_transaction:
                self._database.rollback()
        for ticket in batch:
            ticket.error, ticket.is_done = error, True


@dataclass(eq=False)
class _Ticket:
    """What one thread wants to have written, and what became of it."""

    statements: Sequence[_Statement]
    last_id: int = 0
    error: sqlite3.Error | None = None
    is_done: bool = False


def _fill(path: Path, size: int) -> None:
    """Take up the room on the disk, so that nobody else does. Raises `OSError` where there is none."""
    if size and not (path.exists() and path.stat().st_size >= size):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)


def _entry(record: Sequence[Any]) -> Entry:
    values = dict(zip(_COLUMNS, record, strict=True))
    times = {name: parse_time(values[name]) for name in ("started_at", "sent_at", "lost_at")}
    return Entry(**{**values, **times})


def _refused(error: Exception) -> JournalError:
    return JournalError(
        f"the journal cannot be written ({error})",
        "Free disk space or correct the permissions of STATE_DIR. Nothing is refreshed until then.",
    )
