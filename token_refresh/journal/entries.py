"""What is on its way: every request and every answer, durable before the next step is taken.

An answer is written down sealed before anything is read out of it, and stays until the store has confirmed the new
tokens. Plain in it are location, provider, key id, step and time; never a token, a secret or an answer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crypto import Context, Keyring, SealedCellError, is_cell, key_id_of
from providers.base import RawAnswer
from token_refresh.base.clock import Clock, iso, parse_time
from token_refresh.journal.failures import Failures
from token_refresh.journal.file import Connect, Inherit, JournalError, JournalFile, Statement, inherit_nothing, refused

ANSWER_FIELD = "answer"
SPENT_DAYS = 400  # how long a spent refresh token is remembered

STEP_SENT = "sent"  # a request may be on its way
STEP_ANSWERED = "answered"  # an answer waits for the store
STEP_LOST = "lost"  # no usable answer came: the token may or may not be spent
STEP_SUPERSEDED = "superseded"  # somebody else's credential is in the row; ours is kept, sealed
ALL_STEPS = (STEP_SENT, STEP_ANSWERED, STEP_LOST, STEP_SUPERSEDED)


class AnswerNotSavedError(JournalError):
    """An answer could not be written down.

    Attributes:
        sealed: the answer as it would have been written, safe to print; `recover` takes it.
    """

    def __init__(self, error: JournalError, sealed: str) -> None:
        super().__init__(str(error), error.action)
        self.sealed = sealed


@dataclass(frozen=True)
class Entry:
    """One refresh that is not finished.

    Attributes:
        cell: the fingerprint of the refresh cell it was made from, and of the one that the token was moved to.
        token: the fingerprint of the refresh token in it.
        sent_at: when the last request with it was about to leave.
        lost_at: when the request left whose answer was the first to be lost; None where none was.
    """

    id: int
    row_key: str
    location_id: str
    provider: str
    origin: str
    cell: str
    token: str
    step: str
    started_at: datetime
    sent_at: datetime
    lost_at: datetime | None
    answer: str = field(repr=False)
    enrolment: str = field(repr=False)


_COLUMNS = tuple(Entry.__dataclass_fields__)


class Journal:
    """The journal of one store, used by all threads of one process.

    Args:
        folder: the store's state folder.
        keyring: seals answers and fingerprints cells and tokens.
        clock: when things happened.
        ballast_bytes: room kept free for answers, in a file that is given up when the disk is full.
        connect: opens the file.
        inherit: see `JournalFile`.

    Attributes:
        failures: which rows fail, and since when.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        keyring: Keyring,
        clock: Clock,
        ballast_bytes: int = 0,
        connect: Connect = sqlite3.connect,
        inherit: Inherit = inherit_nothing,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._file = JournalFile(folder, ballast_bytes, connect, inherit)
        self.failures = Failures(self._file, keyring, clock)

    @property
    def slot(self) -> int:
        """The number of this process among those of its host and store."""
        return self._file.slot

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def intend(
        self,
        *,
        row_key: str,
        location_id: str,
        provider: str,
        origin: str,
        cell: str,
        token: str,
        lost_entry: int | None = None,
    ) -> int:
        """Note durably that a request with a row's refresh token is about to leave; returns the entry.

        `cell` is the refresh cell that holds `token`. `lost_entry` is the earlier refresh of the same token whose
        answer never came: it is taken over and keeps its time.
        """
        mark = self.fingerprint(cell)
        if lost_entry is not None:
            # The row may be a copy, or a restored one, with a name of its own.
            move = "UPDATE entries SET row_key = ?, cell = ?, token = ? WHERE id = ?"
            again = _sent_again(lost_entry, origin, iso(self._clock.now()), is_lost=True)
            self._file.commit([(move, (row_key, mark, self.fingerprint(token), lost_entry)), again])
            return lost_entry
        return self._insert(row_key, location_id, provider, origin, mark, token)

    def send_again(self, entry_id: int, origin: str, *, is_lost: bool) -> int:
        """Note durably that another request for the same token is about to leave; returns the entry.

        `is_lost`: the answer to the one before was lost, so the token may be spent already.
        """
        self._file.commit([_sent_again(entry_id, origin, iso(self._clock.now()), is_lost=is_lost)])
        return entry_id

    def enrol(self, location_id: str, provider: str, origin: str, cell: str, token: str, credential: str) -> int:
        """Note durably, sealed, a credential that a person entered and that is about to be proved.

        `cell` is the fingerprint of the refresh cell that it replaces; empty for a new row.
        """
        sealed = self._keyring.seal(credential, Context(ANSWER_FIELD, location_id, origin))
        return self._insert("", location_id, provider, origin, cell, token, sealed)

    def keep(self, entry_id: int, raw: RawAnswer, context: Context) -> None:
        """Write an answer down, sealed and durable, before it is read.

        Raises:
            AnswerNotSavedError: neither the disk nor the room that was kept on it takes it.
        """
        content = {
            "status": raw.status,
            "headers": dict(raw.headers),
            "body": base64.b64encode(raw.body).decode("ascii"),
            "received_at": iso(raw.received_at),
        }
        self.keep_sealed(entry_id, self._keyring.seal(json.dumps(content), context))

    def keep_sealed(self, entry_id: int, sealed: str) -> None:
        """Write a sealed answer down; see `keep`."""
        update: list[Statement] = [
            ("UPDATE entries SET step = ?, answer = ? WHERE id = ?", (STEP_ANSWERED, sealed, entry_id))
        ]
        try:
            self._file.commit(update)
        except Exception:  # whatever it was, the answer must not go with it
            self._file.give_up_ballast()
            try:
                self._file.commit(update)
            except Exception as error:
                reason = error if isinstance(error, JournalError) else refused(error)
                raise AnswerNotSavedError(reason, sealed) from None

    def open_answer(self, entry: Entry) -> RawAnswer:
        """The answer that an entry keeps.

        Raises:
            SealedCellError: its key is gone, or the file was changed.
        """
        return self.open_sealed(entry, entry.answer)

    def open_sealed(self, entry: Entry, sealed: str) -> RawAnswer:
        """A sealed answer to an entry's request. Raises `SealedCellError` like `open_answer`."""
        content = json.loads(self._keyring.open(sealed, Context(ANSWER_FIELD, entry.location_id, entry.origin)))
        received_at = parse_time(content["received_at"])
        assert received_at is not None
        return RawAnswer(content["status"], content["headers"], base64.b64decode(content["body"]), received_at)

    def open_enrolment(self, entry: Entry) -> str:
        """The credential that `enrol` kept. Raises `SealedCellError` like `open_answer`."""
        return self._keyring.open(entry.enrolment, Context(ANSWER_FIELD, entry.location_id, entry.origin))

    def mark(self, entry_id: int, step: str) -> None:
        """Set what became of an entry: `lost` or `superseded`."""
        # Not synced: what a power failure undoes here, the next run finds out again.
        self._file.commit([("UPDATE entries SET step = ? WHERE id = ?", (step, entry_id))], synced=False)

    def finish(self, entry_ids: Iterable[int], spent: Iterable[int] = ()) -> None:
        """Forget entries whose end the store has confirmed.

        Of those in `spent` the refresh token is remembered: its successor is stored.
        """
        now = self._clock.now()
        remember = "INSERT OR REPLACE INTO spent SELECT token, location_id, provider, ? FROM entries WHERE id = ?"
        statements: list[Statement] = [(remember, (iso(now), entry_id)) for entry_id in spent]
        statements += [("DELETE FROM entries WHERE id = ?", (entry_id,)) for entry_id in entry_ids]
        if statements:
            horizon = iso(now - timedelta(days=SPENT_DAYS))
            statements.append(("DELETE FROM spent WHERE spent_at < ?", (horizon,)))
            # Not synced: an entry that a power failure brings back is found to be stored already.
            self._file.commit(statements, synced=False)

    def entries(self, *steps: str) -> list[Entry]:
        """The unfinished entries at one of these steps, oldest first."""
        marks = ", ".join("?" for _ in steps)
        query = f"SELECT {', '.join(_COLUMNS)} FROM entries WHERE step IN ({marks}) ORDER BY id"  # noqa: S608 - names
        return [_entry(record) for record in self._file.select(query, *steps)]

    def lost(self) -> list[Entry]:
        """Refreshes whose answer never came, in this run or one that died."""
        return [entry for entry in self.entries(STEP_LOST, STEP_SENT) if not entry.enrolment]

    def fingerprint(self, text: str) -> str:
        """What recognises this cell or token later; empty for an empty text."""
        return self._keyring.fingerprint(text) if text else ""

    def by_token(self, entries: Iterable[Entry]) -> Callable[[str], Entry | None]:
        """Finds, among these, the entry of a refresh token, whichever row or cell it is in by now."""
        known = {entry.token: entry for entry in entries}

        def find(token: str) -> Entry | None:
            marks = self._keyring.fingerprints(token) if known else ()
            return next((known[mark] for mark in marks if mark in known), None)

        return find

    def is_of(self, entry: Entry, cell: str) -> bool:
        """Whether the entry was made from this refresh cell, or from another that the same token was in."""
        return not set(entry.cell.split()).isdisjoint(self._keyring.fingerprints(cell))

    def rekey_entries(self, cells: Mapping[str, str]) -> None:
        """Note durably that refresh cells, old to new, are about to be replaced by others of the same token.

        An entry that was made from the old cell is one of the new cell too. Whether the store takes the new one
        need not be known: the row holds either.
        """
        marks = {mark: new for old, new in cells.items() if old for mark in self._keyring.fingerprints(old)}
        statements: list[Statement] = []
        for entry in self.entries(*ALL_STEPS):
            old = next((mark for mark in entry.cell.split() if mark in marks), None)
            if old is not None:
                both = f"{old} {self._keyring.fingerprint(marks[old])}"
                statements.append(("UPDATE entries SET cell = ? WHERE id = ?", (both, entry.id)))
        statements += self.failures.rekey_statements(
            {mark: self._keyring.fingerprint(new) for mark, new in marks.items()}
        )
        if statements:
            self._file.commit(statements)

    def reseal(self) -> int:
        """Re-encrypt with the primary key what entries keep under older ones; returns how many texts that were.

        What does not open stays as it is; `key_ids` tells.
        """
        statements: list[Statement] = []
        for entry in self.entries(*ALL_STEPS):
            context = Context(ANSWER_FIELD, entry.location_id, entry.origin)
            for column in ("answer", "enrolment"):
                cell = getattr(entry, column)
                if self._keyring.needs_reseal(cell):
                    with contextlib.suppress(SealedCellError):
                        resealed = self._keyring.seal(self._keyring.open(cell, context), context)
                        statements.append((f"UPDATE entries SET {column} = ? WHERE id = ?", (resealed, entry.id)))  # noqa: S608
        if statements:
            self._file.commit(statements)
        return len(statements)

    def key_ids(self) -> set[str]:
        """The keys that are needed to open what entries keep."""
        kept = [cell for entry in self.entries(*ALL_STEPS) for cell in (entry.answer, entry.enrolment)]
        return {key_id_of(cell) for cell in kept if is_cell(cell)}

    def is_spent(self, token: str) -> bool:
        """Whether this refresh token was replaced by one that was stored."""
        marks = self._keyring.fingerprints(token)
        query = f"SELECT 1 FROM spent WHERE token IN ({', '.join('?' for _ in marks)})"  # noqa: S608 - question marks
        return bool(self._file.select_everywhere(query, *marks))

    def _insert(
        self, row_key: str, location_id: str, provider: str, origin: str, cell: str, token: str, enrolment: str = ""
    ) -> int:
        now = iso(self._clock.now())
        query = (
            "INSERT INTO entries (uid, row_key, location_id, provider, origin, cell, token, enrolment, step,"
            " started_at, sent_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        values = (row_key, location_id, provider, origin, cell, self.fingerprint(token), enrolment)
        return self._file.commit([(query, (secrets.token_hex(8), *values, STEP_SENT, now, now))])


def _sent_again(entry_id: int, origin: str, now: str, *, is_lost: bool) -> Statement:
    query = (
        "UPDATE entries SET step = ?, origin = ?, sent_at = ?,"
        " lost_at = CASE WHEN ? AND lost_at = '' THEN sent_at ELSE lost_at END WHERE id = ?"
    )
    return query, (STEP_SENT, origin, now, int(is_lost), entry_id)


def _entry(record: Sequence[Any]) -> Entry:
    values = dict(zip(_COLUMNS, record, strict=True))
    times = {name: parse_time(values[name]) for name in ("started_at", "sent_at", "lost_at")}
    return Entry(**{**values, **times})
