"""What is on its way: every request and every answer, durable before the next step is taken.

An answer is written down sealed before anything is read out of it, and stays until the store has confirmed the new
tokens. Where the journal's disk refuses it, it stays in the spare folder instead. Plain in the journal are location,
provider, key id, step and time; never a token, a secret or an answer.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import json
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from crypto import Context, Keyring, SealedCellError, is_cell, key_id_of
from providers.base import RawAnswer
from token_refresh.base.clock import Clock, iso, parse_time
from token_refresh.base.events import AnswerNotSaved, answer_not_saved
from token_refresh.journal.failures import Failures
from token_refresh.journal.file import Connect, Inherit, JournalError, JournalFile, Statement, inherit_nothing, refused
from token_refresh.journal.spare import SpareFolder, read, remove

ANSWER_FIELD = "answer"
PREVIOUS_FIELD = "previous_refresh"
SPENT_DAYS = 400  # how long a spent refresh token is remembered
MOST_VALUES = 500  # in one question: SQLite bounds the number of parameters


class Step(enum.StrEnum):
    """How far a refresh came."""

    SENT = "sent"  # a request may be on its way
    ANSWERED = "answered"  # an answer waits for the store
    LOST = "lost"  # no usable answer came: the token may or may not be spent
    SUPERSEDED = "superseded"  # somebody else's credential is in the row; ours is kept, sealed
    UNPROVEN = "unproven"  # its row holds a new token that no refresh has proved yet
    UNREAD = "unread"  # the answer is a success in a form that is not known: the token is not sent again


OPEN_STEPS = (Step.SENT, Step.ANSWERED, Step.LOST)  # of what the next run brings to its end


@dataclass(frozen=True)
class Entry:
    """One refresh that is not finished.

    Attributes:
        id: in this journal; 0 where it is in that of another store, see `Journal.adopt`.
        uid: 16 hexadecimal digits that no other entry has, in whichever journal file it is.
        place: the table that the row is in, as it was addressed then; see `Store.place`.
        cell: the fingerprint of the refresh cell it was made from, and of the one that the token was moved to.
        token: the fingerprint of the refresh token in it.
        sent_at: when the last request with it was about to leave.
        lost_at: when the request left whose answer was the first to be lost; None where none was.
        answer: the sealed answers to its requests, oldest first, with a blank between two; see `answers`.
        admission: the credential that a person entered, sealed; empty where a row is refreshed.
        successor: the fingerprints of unproven tokens that came for it; the last is to be proved, or was refused, too.
        previous: the token that was sent, sealed as the row's `previous_refresh`, while its successor is unproven.
    """

    id: int
    uid: str
    place: str
    row_key: str
    location_id: str
    provider: str
    origin: str
    cell: str
    token: str
    step: Step
    started_at: datetime
    sent_at: datetime
    lost_at: datetime | None
    answer: str = field(repr=False)
    admission: str = field(repr=False)
    successor: str = ""
    previous: str = field(default="", repr=False)

    @property
    def answers(self) -> list[str]:
        """The sealed answers to its requests, oldest first."""
        return self.answer.split()

    @property
    def context(self) -> Context:
        """What its answers and its admission are sealed for."""
        return Context(ANSWER_FIELD, self.location_id, self.origin)

    @property
    def lacks_answer(self) -> bool:
        """Whether the answer to its last request is missing, and may be given to `Journal.keep_sealed`."""
        return self.step in (Step.SENT, Step.LOST) or not self.answer

    def answered(self, sealed: str) -> Entry:
        """The same with one more answer, as `Journal.keep_sealed` leaves it."""
        return replace(self, step=Step.ANSWERED, answer=f"{self.answer} {sealed}".lstrip())


_COLUMNS = tuple(Entry.__dataclass_fields__)
_TIMES = ("started_at", "sent_at", "lost_at")
_SEALED_COLUMNS = {"answer": ANSWER_FIELD, "admission": ANSWER_FIELD, "previous": PREVIOUS_FIELD}


@dataclass
class _Request:
    """A request that is out, when the disk may refuse to be read.

    Attributes:
        uid, provider, token: as in its entry.
        not_saved: its answers that the journal does not hold.
        files: its files in the spare folder.
    """

    uid: str = ""
    provider: str = ""
    token: str = ""
    not_saved: list[AnswerNotSaved] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class Place(NamedTuple):
    """Where new tokens wait that the store has not taken.

    Attributes:
        where: to be put after "the new tokens wait".
        keep: what must stay as it is until they are stored.
        stored_by: what stores them.
    """

    where: str
    keep: str
    stored_by: str = "the next run"


IN_JOURNAL = Place("in the journal", "STATE_DIR")
PRINTED = Place("in a line that is printed at the end", "that line", "`recover --cell`")


class Journal:
    """The journal of one store, used by all threads of one process.

    Args:
        folder: the store's state folder.
        keyring: seals answers and fingerprints cells and tokens.
        clock: when things happened.
        ballast_bytes: room kept free for answers, in a file that is given up when the disk is full.
        connect: opens the file.
        inherit: see `JournalFile`.
        spare: the folder for answers that the disk refuses; what earlier processes left there is taken over.
        place: the table whose rows are refreshed; see `Store.place`.
        earlier, state: see `JournalFile`.

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
        inherit: Inherit | None = inherit_nothing,
        spare: Path | None = None,
        place: str = "",
        earlier: Sequence[Path] = (),
        state: Path | None = None,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._place = place
        self._spare = SpareFolder(spare) if spare is not None else None
        self._requests: defaultdict[int, _Request] = defaultdict(_Request)  # by entry
        self._file = JournalFile(folder, ballast_bytes, connect, inherit, earlier, state)
        self.failures = Failures(self._file, clock, place)
        try:
            self._take_over_spare_files()
        except BaseException:
            self.close()
            raise

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

        `token` and `cell` are the fingerprints of the token and of the refresh cell that holds it. `lost_entry` is the
        earlier refresh of the same token whose answer never came: it is taken over and keeps its time.
        """
        if lost_entry is not None:
            # The row may be a copy, or a restored one, with a name of its own.
            move = "UPDATE entries SET row_key = ?, cell = ?, token = ? WHERE id = ?"
            self._file.execute([(move, (row_key, cell, token, lost_entry))], synced=False)
            return self.send_again(lost_entry, origin, is_lost=True)
        return self._insert(token, provider, row_key=row_key, location_id=location_id, origin=origin, cell=cell)

    def send_again(self, entry_id: int, origin: str, *, is_lost: bool) -> int:
        """Note durably that another request for the same token is about to leave; returns the entry.

        `is_lost`: the answer to the one before was lost, so the token may be spent already.
        """
        again = (
            "UPDATE entries SET step = ?, origin = ?, sent_at = ?,"
            " lost_at = CASE WHEN ? AND lost_at = '' THEN sent_at ELSE lost_at END WHERE id = ?"
        )
        self._file.execute([(again, (Step.SENT, origin, iso(self._clock.now()), int(is_lost), entry_id))])
        if entry_id not in self._requests:  # what its answer and a spare file say, when the disk may refuse to be read
            [found] = self._file.select("SELECT uid, provider, token FROM entries WHERE id = ?", entry_id)
            self._requests[entry_id] = _Request(*found)
        return entry_id

    def admit(self, location_id: str, provider: str, origin: str, cell: str, token: str, credential: str) -> int:
        """Note durably, sealed, a credential that a person entered and that is about to be proved.

        `token` is the fingerprint of its refresh token, `cell` that of the refresh cell that it replaces; empty for a
        new row.
        """
        sealed = self._keyring.seal(credential, Context(ANSWER_FIELD, location_id, origin))
        return self._insert(token, provider, location_id=location_id, origin=origin, cell=cell, admission=sealed)

    def note_agreement(self, entry_id: int, context: Context, credential: str, cell: str) -> None:
        """Note durably what a person agreed to behind an answer: the credential, and which cell it may replace."""
        sealed = self._keyring.seal(credential, context)
        self._file.execute([("UPDATE entries SET admission = ?, cell = ? WHERE id = ?", (sealed, cell, entry_id))])

    def keep(self, entry_id: int, raw: RawAnswer, context: Context) -> None:
        """Write an answer down, sealed and durable, before it is read.

        What the journal does not take is put into the spare folder at once, not only when the store has refused it,
        too: a crash while the store is asked would lose it. `finish` deletes that file.

        Raises:
            JournalError: the journal did not take it; `not_saved` says where it is.
        """
        content = {
            "status": raw.status,
            "headers": dict(raw.headers),
            "body": base64.b64encode(raw.body).decode("ascii"),
            "received_at": iso(raw.received_at),
            "is_complete": raw.is_complete,
            "token": self._requests[entry_id].token,
        }
        sealed = self._keyring.seal(json.dumps(content), context)
        try:
            self.keep_sealed(entry_id, sealed)
        except JournalError:
            self._save_to_spare(entry_id, context.location_id, sealed)
            raise

    def keep_sealed(self, entry_id: int, sealed: str) -> None:
        """Write a sealed answer down, behind those that its entry has: none is ever overwritten.

        Raises:
            JournalError: neither the disk nor the room that was kept on it takes it.
        """

        def append(database: sqlite3.Connection) -> int:
            query = "UPDATE entries SET step = ?, answer = ltrim(answer || ' ' || ?) WHERE id = ?"
            return database.execute(query, (Step.ANSWERED, sealed, entry_id)).rowcount

        try:
            self._file.commit(append)
        except Exception:  # whatever it was, the answer must not go with it
            self._file.give_up_ballast()
            try:
                self._file.commit(append)
            except Exception as error:
                raise error if isinstance(error, JournalError) else refused(error) from None

    def not_saved(self) -> list[AnswerNotSaved]:
        """The answers that neither this journal nor, as far as it knows, the store has; for whoever closes it."""
        return [answer for request in list(self._requests.values()) for answer in request.not_saved]

    def place_of(self, entry_id: int | None) -> Place:
        """Where the answer of an entry waits for the store."""
        request = self._requests.get(entry_id) if entry_id is not None else None
        if request is None or not request.not_saved:
            return IN_JOURNAL
        file = request.not_saved[-1].file
        return Place(f"in {file}", "that file") if file is not None else PRINTED

    def open_answer(self, entry: Entry, sealed: str = "") -> RawAnswer:
        """An answer to an entry's requests; the last one where none is named.

        Raises:
            SealedCellError: its key is gone, or the file was changed.
        """
        content = self._content(entry, sealed or entry.answer.rpartition(" ")[2])
        received_at = parse_time(content["received_at"])
        assert received_at is not None
        body, is_complete = base64.b64decode(content["body"]), content.get("is_complete", False)
        return RawAnswer(content["status"], content["headers"], body, received_at, is_complete)

    def answers(self, entry: Entry) -> Iterator[RawAnswer]:
        """All answers that an entry keeps and that open, oldest first."""
        for sealed in entry.answers:
            with contextlib.suppress(SealedCellError):
                yield self.open_answer(entry, sealed)

    def is_answer_to(self, entry: Entry, sealed: str) -> bool:
        """Whether a sealed answer is one to the token that the entry is about, not to another one of the same row."""
        content = self._content_or_none(entry, sealed)
        if content is None:
            return False
        if content.get("token"):
            return bool(content["token"] == entry.token)
        received_at = parse_time(content["received_at"])  # until version 0.1.0 an answer did not name its request
        return received_at is not None and received_at >= entry.started_at

    def _content(self, entry: Entry, sealed: str) -> Any:
        return json.loads(self._keyring.open(sealed, entry.context))

    def _content_or_none(self, entry: Entry, sealed: str) -> Any:
        with contextlib.suppress(SealedCellError):
            return self._content(entry, sealed)
        return None

    def open_admission(self, entry: Entry) -> str:
        """The credential that `admit` kept. Raises `SealedCellError` like `open_answer`."""
        return self._keyring.open(entry.admission, entry.context)

    def mark(self, entry_id: int, step: str) -> None:
        """Set what became of an entry. Not synced: what a power failure undoes, the next run finds out again."""
        self._file.execute([("UPDATE entries SET step = ? WHERE id = ?", (step, entry_id))], synced=False)

    def note_unproven(self, entry_id: int, successor: str, previous: str) -> None:
        """Note durably, before it is stored, a new token that is not known to work; see `Entry`.

        `previous` is what the row held: not the token that was sent, which is kept, where somebody restored the row.
        A successor before it that was not refused is no longer among `Entry.successor`, and is tried after this one.
        """
        note = (
            "UPDATE entries SET previous = iif(previous = '', ?, previous), successor = ltrim(replace(' ' || iif("
            "previous = '', successor, rtrim(successor, '0123456789abcdef:')), ' ' || ?, '') || ' ' || ?) WHERE id = ?"
        )
        self._file.execute([(note, (previous, successor, successor, entry_id))])

    def is_refuted(self, entry: Entry, token: str) -> bool:
        """Whether this token was an unproven successor of an entry's, and was refused."""
        refuted = entry.successor.split()[: -1 if entry.previous else None]
        return not set(refuted).isdisjoint(self._keyring.fingerprints(token))

    def give_to_row(self, entry_id: int, row_key: str, step: Step) -> None:
        """The row holds what an entry is about, or what came of it: from here on it is one of that row's refreshes."""
        give = "UPDATE entries SET step = ?, row_key = ?, admission = '' WHERE id = ?"
        self._file.execute([(give, (step, row_key, entry_id))], synced=False)

    def follow(self, cell: Collection[str], new: str) -> None:
        """Note durably that the refresh cell with these fingerprints is about to be replaced by its successor `new`.

        An onboarding that waits to replace the one replaces the other. Whether the store takes it need not be known.
        """
        add = "UPDATE entries SET cell = cell || ' ' || ? WHERE admission != '' AND ' ' || cell || ' ' LIKE ?"
        self._file.execute([(add, (self._keyring.fingerprint(new), f"% {one} %")) for one in cell])

    def mark_lost(self, entry_id: int, *, is_refuted: bool = True) -> None:
        """The row holds the token that was sent: as if the answer had been lost. `is_refuted`: it is of no use."""
        mark = (
            "UPDATE entries SET step = ?, previous = CASE WHEN ? THEN '' ELSE previous END,"
            " lost_at = CASE WHEN lost_at = '' THEN sent_at ELSE lost_at END WHERE id = ?"
        )
        self._file.execute([(mark, (Step.LOST, int(is_refuted), entry_id))], synced=False)

    def finish(self, entry_ids: Iterable[int], spent: Iterable[int] = ()) -> None:
        """Forget entries whose end the store has confirmed.

        Of those in `spent` the refresh token is remembered: its successor is stored.
        """
        entry_ids = list(entry_ids)
        self._forget_requests(entry_ids)
        now = self._clock.now()
        remember = "INSERT OR REPLACE INTO spent SELECT token, location_id, provider, ? FROM entries WHERE id = ?"
        statements: list[Statement] = [(remember, (iso(now), entry_id)) for entry_id in spent]
        statements += [("DELETE FROM entries WHERE id = ?", (entry_id,)) for entry_id in entry_ids]
        # Not synced: an entry that a power failure brings back is found to be stored already.
        self._file.execute(statements, synced=False)

    def correct_times(self) -> None:
        """Requests that left in the future left now: they are waited for from the first run that sees them.

        When their tokens were sent for the first time is not known any more.
        """
        now = iso(self._clock.now())
        correct = "UPDATE entries SET sent_at = ?, lost_at = iif(step = 'answered', lost_at, ?) WHERE sent_at > ?"
        self._file.execute([(correct, (now, now, now))])

    def forget_old_spent(self) -> None:
        """Forget what was spent long ago; only by a clock that another one has confirmed."""
        horizon = iso(self._clock.now() - timedelta(days=SPENT_DAYS))
        self._file.execute([("DELETE FROM spent WHERE spent_at < ?", (horizon,))], synced=False)

    def entries(self, *steps: str) -> list[Entry]:
        """The unfinished entries, oldest first; where steps are named, those that are at one of these."""
        steps = steps or tuple(Step)
        marks = ", ".join("?" for _ in steps)
        query = f"SELECT {', '.join(_COLUMNS)} FROM entries WHERE step IN ({marks}) ORDER BY id"  # noqa: S608 - names
        return [_entry(record) for record in self._file.select(query, *steps)]

    def entries_elsewhere(self) -> list[Entry]:
        """Unfinished refreshes in the journals of other stores; a base restored from a snapshot has another id.

        With what the spare folder has for them, and without what was adopted; those that have an answer come last.
        """
        own = {uid for [uid] in self._file.select("SELECT uid FROM entries UNION SELECT name FROM looks")}
        query = f"SELECT 0, {', '.join(_COLUMNS[1:])} FROM entries WHERE admission = ''"  # noqa: S608 - names
        found = map(_entry, self._file.select_everywhere(query, all_stores=True))
        left = {entry.uid: entry for entry in found if entry.uid not in own}
        for entry, sealed, _ in self._spare_answers(left):
            if entry.lacks_answer:
                left[entry.uid] = entry.answered(sealed)
        others = [one for one in left.values() if one.lacks_answer or f"{one.uid} {len(one.answers)}" not in own]
        return sorted(others, key=lambda entry: not entry.lacks_answer)

    def unproven(self, elsewhere: Iterable[Entry] | None = None) -> list[Entry]:
        """Entries whose unproven tokens are, or were, in their rows; those in the journals of other stores first.

        `elsewhere`: `entries_elsewhere`, where the caller has them already.
        """
        others = self.entries_elsewhere() if elsewhere is None else elsewhere
        return [one for one in others if one.previous] + self.entries(Step.UNPROVEN, Step.SUPERSEDED)

    def adopt(self, entry: Entry, row_key: str) -> Entry:
        """Note durably here, as one of this row, what the journal of another store keeps; returns the entry here."""
        if entry.id:
            return entry
        # There one that lacks its answer may get it yet, which is not known here.
        uid = secrets.token_hex(8) if entry.lacks_answer else entry.uid
        own = replace(entry, uid=uid, place=self._place, row_key=row_key)
        values = {name: getattr(own, name) or "" for name in _COLUMNS[1:]}
        values |= {name: iso(at) for name in _TIMES if (at := getattr(own, name))}
        # There it stays if nobody uses that table any more: once the entry here is finished, it is over all the same.
        seen = "INSERT OR IGNORE INTO looks VALUES (?, ?)", (f"{uid} {len(own.answers)}", iso(self._clock.now()))
        self._file.execute([_insertion("INSERT OR IGNORE", **values), seen])
        return replace(own, id=int(self._file.select("SELECT id FROM entries WHERE uid = ?", uid)[0][0]))

    def lost(self) -> list[Entry]:
        """Refreshes whose answer never came, in this run or one that died."""
        return [entry for entry in self.entries(Step.LOST, Step.SENT) if not entry.admission]

    def fingerprint(self, text: str) -> str:
        """What recognises this cell or token later; empty for an empty text."""
        return self._keyring.fingerprint(text) if text else ""

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
        for entry in self.entries():
            old = next((mark for mark in entry.cell.split() if mark in marks), None)
            if old is not None:
                both = f"{old} {self._keyring.fingerprint(marks[old])}"
                statements.append(("UPDATE entries SET cell = ? WHERE id = ?", (both, entry.id)))
        statements += self.failures.rekey_statements(
            {mark: self._keyring.fingerprint(new) for mark, new in marks.items()}
        )
        self._file.execute(statements)

    def reseal(self) -> int:
        """Re-encrypt with the primary key what entries keep under older ones; returns how many texts that were.

        What does not open stays as it is: see `key_ids`.
        """
        count, statements = 0, list[Statement]()
        for entry in self.entries():
            for column, name in _SEALED_COLUMNS.items():
                cells = getattr(entry, column).split()
                resealed = [self._resealed(cell, Context(name, entry.location_id, entry.origin)) for cell in cells]
                if resealed != cells:
                    count += sum(new != old for new, old in zip(resealed, cells, strict=True))
                    update = f"UPDATE entries SET {column} = ? WHERE id = ?"  # noqa: S608 - names
                    statements.append((update, (" ".join(resealed), entry.id)))
        self._file.execute(statements)
        return count

    def _resealed(self, cell: str, context: Context) -> str:
        """The same under the primary key; as it is where it is that already, or does not open."""
        if self._keyring.needs_reseal(cell):
            with contextlib.suppress(SealedCellError):
                return self._keyring.seal(self._keyring.open(cell, context), context)
        return cell

    def spent_at(self, token: Collection[str], of: str = "") -> datetime | None:
        """When the refresh token with these fingerprints, one a key, was last replaced by one that was stored.

        In whichever store: a base that was restored from a snapshot has another id. None: it was not, or not by one
        `of` this location.
        """
        return max(self.spent(token, of).values(), default=None)

    def spent(self, tokens: Collection[str], of: str = "") -> dict[str, datetime]:
        """Those of these fingerprints of which `spent_at` says when. To ask for many at once costs little more."""
        wanted, found = list(tokens), list[tuple[str, str]]()
        for start in range(0, len(wanted), MOST_VALUES):
            some = wanted[start : start + MOST_VALUES]
            query = "SELECT spent_at, token FROM spent WHERE ? IN ('', location_id) AND token IN "
            query += f"({', '.join('?' * len(some))})"
            found += self._file.select_everywhere(query, of, *some, all_stores=True)
        return {token: at for text, token in sorted(found) if (at := parse_time(text)) is not None}

    def _insert(self, token: str, provider: str, **values: str) -> int:
        now, uid = iso(self._clock.now()), secrets.token_hex(8)
        values = {"uid": uid, "place": self._place, "row_key": "", "token": token, "provider": provider} | values
        insertion = _insertion("INSERT", **values, step=Step.SENT, started_at=now, sent_at=now)
        entry_id = self._file.execute([insertion])
        self._requests[entry_id] = _Request(uid, provider, token)
        return entry_id

    # The spare folder

    def _forget_requests(self, entry_ids: Iterable[int]) -> None:
        """The store has what came of them: their files go first, for without its entry a file is nobody's."""
        for entry_id in entry_ids:
            for path in self._requests.pop(entry_id, _Request()).files:
                remove(path)

    def _save_to_spare(self, entry_id: int, location_id: str, sealed: str) -> None:
        request = self._requests[entry_id]
        file: Path | None = None
        if self._spare is not None:
            with contextlib.suppress(Exception):  # whatever it is, the answer must not go with it
                file = self._spare.save(request.uid, sealed, self._clock.now())
                request.files.append(file)
        request.not_saved.append(answer_not_saved(location_id, request.provider, sealed, file))

    def _take_over_spare_files(self) -> None:
        """Put the answers in the spare folder where they belong: their requests are in this journal.

        The newest of a request counts; an older one was no success, or it would have been the last. It stays until
        the entry is finished. What belongs to no request here, or does not open for it, is left alone.
        """
        entries = {entry.uid: entry for entry in self.entries()}
        for entry, sealed, path in self._spare_answers(entries):
            if entry.lacks_answer:
                self.keep_sealed(entry.id, sealed)
                entries[entry.uid] = entry.answered(sealed)
            if sealed in entries[entry.uid].answers:  # now, or the last start was cut off before it deleted the file
                remove(path)
            else:
                request = _Request(entry.uid, entry.provider, entry.token)
                self._requests.setdefault(entry.id, request).files.append(path)

    def _spare_answers(self, entries: Mapping[str, Entry]) -> Iterator[tuple[Entry, str, Path]]:
        """The answers in the spare folder to requests of these entries, by uid, newest first, and their files.

        `entries` are looked at again for each.
        """
        for uid, path in self._spare.files() if self._spare is not None and entries else ():
            entry = entries.get(uid)
            if entry is not None and self._content_or_none(entry, sealed := read(path)) is not None:
                yield entry, sealed, path


def key_ids(entries: Iterable[Entry]) -> set[str]:
    """The keys that are needed to open what entries keep."""
    kept = [cell for entry in entries for column in _SEALED_COLUMNS for cell in getattr(entry, column).split()]
    return {key_id_of(cell) for cell in kept if is_cell(cell)}


def predecessors(token: Collection[str], of: str, unproven: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entry whose unproven successor has these fingerprints, the one whose successor is its token, and so on.

    All are `of` one location: a page of a proxy may have shown the same token to several.
    """
    left = {one: entry for entry in unproven for one in entry.successor.split()[-1:] if entry.location_id == of}
    chain: tuple[Entry, ...] = ()
    while found := [left.pop(one) for one in token if one in left]:
        chain += (found[0],)
        token = (found[0].token,)
    return chain


def by_token(entries: Iterable[Entry]) -> Callable[[Collection[str]], Entry | None]:
    """Finds, among these, the entry of a refresh token by its fingerprints, whichever row or cell it is in by now."""
    known = {entry.token: entry for entry in entries}
    return lambda token: next((known[one] for one in token if one in known), None)


def _insertion(verb: str, **values: Any) -> Statement:
    query = f"{verb} INTO entries ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    return query, tuple(values.values())


def _entry(record: Sequence[Any]) -> Entry:
    values = dict(zip(_COLUMNS, record, strict=True))
    times = {name: parse_time(values[name]) for name in _TIMES}
    return Entry(**{**values, **times, "step": Step(values["step"])})
