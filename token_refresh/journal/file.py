"""The files behind the journal: one a process, locked while it lives, every commit on the disk before it returns.

A start takes over what processes that died have left, and deletes their files when it has all of it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import is_store_folder
from token_refresh.base.fork import let_go
from token_refresh.journal.lock import hold

BALLAST_FILE = "ballast"
SCHEMA_VERSION = 5

# `uid` tells an entry that was taken over from one that was not, should the taking be cut off half-way.
# `place`: which table of the store; empty where there is only one.
# `cell`, `token`: keyed hashes of the refresh cell and of the refresh token in it.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    place TEXT NOT NULL DEFAULT '',
    row_key TEXT NOT NULL,
    location_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    origin TEXT NOT NULL,
    cell TEXT NOT NULL,
    token TEXT NOT NULL,
    step TEXT NOT NULL,
    started_at TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    lost_at TEXT NOT NULL DEFAULT '',
    answer TEXT NOT NULL DEFAULT '',
    admission TEXT NOT NULL DEFAULT '',
    successor TEXT NOT NULL DEFAULT '',
    previous TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS spent (
    token TEXT PRIMARY KEY,
    location_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    spent_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ix_spent_spent_at ON spent (spent_at);
CREATE TABLE IF NOT EXISTS failures (
    row_key TEXT PRIMARY KEY,
    location_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    cell TEXT NOT NULL,
    status TEXT NOT NULL,
    last_error TEXT NOT NULL,
    failure_count INTEGER NOT NULL,
    dead_since TEXT NOT NULL,
    tried_at TEXT NOT NULL,
    retry_at TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks (
    name TEXT PRIMARY KEY,
    looked_at TEXT NOT NULL
) WITHOUT ROWID;
"""
# Of one thing in two files, by its key, when the second knows more.
_KNOWS_MORE = {
    # Both noted what the journal of another store keeps, and one had the row's claim and went on.
    "entries": ("uid", "step = 'unproven' AND excluded.step != step"),
    "spent": ("token", "excluded.spent_at > spent_at"),
    "failures": ("row_key", "excluded.tried_at > tried_at"),  # two processes may have met one row
    "looks": ("name", "excluded.looked_at > looked_at"),
}
_ADDED = ("successor", "previous", "place")
# What a file needs that comes from a version before this one.
_UPGRADES = {
    3: ("UPDATE entries SET step = 'superseded' WHERE step = 'aside'",),
    4: (
        "ALTER TABLE entries RENAME COLUMN enrolment TO admission",
        *(f"ALTER TABLE entries ADD COLUMN {name} TEXT NOT NULL DEFAULT ''" for name in _ADDED),
    ),
    5: ("ALTER TABLE failures ADD COLUMN retry_at TEXT NOT NULL DEFAULT ''",),
}

Statement = tuple[str, tuple[str | int, ...]]
Act = Callable[[sqlite3.Connection], int]
"""What is done in one transaction; it returns the id of the last row inserted."""
Connect = Callable[..., sqlite3.Connection]
Inherit = Callable[[int, Path, int], None]


def all_of(statements: Sequence[Statement]) -> Act:
    """One statement after the other."""

    def act(database: sqlite3.Connection) -> int:
        return [database.execute(statement, values).lastrowid or 0 for statement, values in statements][-1]

    return act


def inherit_nothing(_slot: int, _folder: Path, _dead_slot: int) -> None:
    """For a store without claims."""


class JournalError(ActionableError):
    """The journal cannot be written; nothing may be refreshed then."""

    kind = Kind.CONFIGURATION


class JournalFile:
    """This process's journal file, used by all its threads.

    Args:
        folder: the store's state folder, on a local disk.
        ballast_bytes: room kept free for answers, in a file that is given up when the disk is full.
        connect: opens a file.
        inherit: called with this process's slot, and folder and slot of a dead one, before what that left is deleted;
            at first with its own slot, which dead ones had before. None: nothing is taken over, for a process that
            does not hold the run lock.
        earlier: other folders whose files are taken over, too, as version 0.1.0 left them; they are deleted then.
        state: what holds the folders of all stores.

    Attributes:
        slot: the number in the file's name; no other live process of this host and store has it.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        ballast_bytes: int,
        connect: Connect,
        inherit: Inherit | None,
        earlier: Sequence[Path] = (),
        state: Path | None = None,
    ) -> None:
        self._folder = folder
        self._earlier = earlier
        self._state = state
        self._connect = connect
        self._inherit = inherit
        self._ballast = folder / BALLAST_FILE
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._is_led = False  # one thread at a time commits, for all that wait by then
        self._turn = threading.Lock()
        self._is_synced = True
        try:
            _fill(self._ballast, ballast_bytes)
            self.slot, self._held = _free_slot(folder, is_unused=inherit is None)
            try:
                self._database = _open(connect, _file(folder, self.slot))
            except BaseException:
                let_go(self._held)
                raise
        except (OSError, sqlite3.Error) as error:
            raise refused(error) from None
        try:
            self._take_over()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file."""
        self._database.close()
        let_go(self._held)  # after SQLite's own locks, never before

    def give_up_ballast(self) -> None:
        """Make room on a full disk: this is what it was kept for. A disk that rejects writes may refuse that, too."""
        with suppress(OSError):
            self._ballast.unlink()

    def execute(self, statements: Sequence[Statement], *, synced: bool = True) -> int:
        """Commit these together; returns the last id inserted. Nothing is done where there are none."""
        return self.commit(all_of(statements), synced=synced) if statements else 0

    def commit(self, act: Act, *, synced: bool = True) -> int:
        """Do `act` in a transaction, together with those of other threads; returns what it returns.

        With `synced` it is on the disk when this returns. Without, a power failure may undo it: right where the next
        run comes to the same end again. A sync is slow, so threads share one: whoever comes next takes along all that
        wait by then. An act may be done more than once, after a rollback.
        """
        ticket = _Ticket(act, synced)
        try:
            with self._turn:
                self._waiting.append(ticket)
                ticket.leads, self._is_led = not self._is_led, True
            if not ticket.leads:
                ticket.woken.acquire()
            if ticket.leads:
                self._write_waiting()
        finally:
            self._leave(ticket)
        if isinstance(ticket.error, sqlite3.Error):
            raise refused(ticket.error)
        if ticket.error is not None:
            raise ticket.error
        return ticket.last_id

    def select(self, query: str, *values: str | int) -> list[Any]:
        """The records that a query finds in this process's file."""
        with self._lock:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise refused(error) from None

    def select_everywhere(self, query: str, *values: str | int, all_stores: bool = False) -> list[Any]:
        """The records that a query finds in this file and in those of other processes.

        `all_stores`: also in the files of the other stores.
        """
        others: dict[Path, int] | None = None
        while others != (others := self._others(all_stores=all_stores)):
            # Again where one came or went: what a dead process left may have moved on into a file that was read before.
            found = self.select(query, *values)
            for path in others:
                found += _peek(path, query, values)
        return found

    def _others(self, *, all_stores: bool) -> dict[Path, int]:
        """The files of other processes, and which each is."""
        folders = [self._folder]
        if all_stores and self._state is not None:
            folders = [path for path in self._state.iterdir() if is_store_folder(path)]
        paths = {_file(folder, slot) for folder in folders for slot in _slots(folder)}
        found: dict[Path, int] = {}
        for path in sorted(paths - {_file(self._folder, self.slot)}):
            with suppress(FileNotFoundError):
                found[path] = path.stat().st_ino
        return found

    def _write_waiting(self) -> None:
        """Commit what waits by now, and wake those whose it was."""
        batch: list[_Ticket] = []
        try:
            with self._lock:
                with self._turn:
                    batch, self._waiting = self._waiting, []
                self._transact(batch)
        finally:
            with self._turn:  # what an interrupted leader had for others is left to the next
                self._waiting[:0] = [ticket for ticket in batch if not ticket.is_done]
                for ticket in batch:
                    if ticket.is_done and not ticket.leads:
                        ticket.woken.release()

    def _leave(self, ticket: _Ticket) -> None:
        """Wake whoever leads next, and no other: to wake all that wait costs more than their commit."""
        if ticket.is_done and not ticket.leads:
            return
        with self._turn:
            if ticket in self._waiting:  # its thread was interrupted
                self._waiting.remove(ticket)
            if ticket.leads:
                self._is_led = bool(self._waiting)
                for heir in self._waiting[:1]:
                    heir.leads = True
                    heir.woken.release()

    def _transact(self, batch: Sequence[_Ticket]) -> None:
        error = self._try(batch)
        if error is None or isinstance(error, sqlite3.Error) or len(batch) == 1:
            for ticket in batch:
                ticket.error, ticket.is_done = error, True
        else:  # a value that SQLite cannot take at all is one thread's mistake, and none of the others'
            for ticket in batch:
                self._transact([ticket])

    def _try(self, batch: Sequence[_Ticket]) -> Exception | None:
        """Write a batch; what kept it from the disk, whatever that was: the threads behind it must hear of it."""
        try:
            self._sync_commits(any(ticket.synced for ticket in batch))
            self._database.execute("BEGIN IMMEDIATE")
            for ticket in batch:
                ticket.last_id = ticket.act(self._database)
            self._database.execute("COMMIT")
        except Exception as error:
            return error
        finally:
            if self._database.in_transaction:
                self._database.rollback()
        return None

    def _sync_commits(self, synced: bool) -> None:
        if synced != self._is_synced:
            self._database.execute(f"PRAGMA synchronous={'EXTRA' if synced else 'NORMAL'}")
            self._is_synced = synced

    def _take_over(self) -> None:
        """Copy what dead processes left, then delete it there; repeated from the start if cut off between the two."""
        inherit = self._inherit
        if inherit is None:
            return
        inherit(self.slot, self._folder, self.slot)
        for folder in (self._folder, *self._earlier):
            for slot in _slots(folder):
                if (folder, slot) != (self._folder, self.slot):
                    self._take_over_from(folder, slot, inherit)
        for folder in self._earlier:
            if not _slots(folder):
                _discard(folder)

    def _take_over_from(self, folder: Path, slot: int, inherit: Inherit) -> None:
        held = hold(_lock(folder, slot))
        if held is None:
            return
        try:
            self._copy(_file(folder, slot))
            inherit(self.slot, folder, slot)
            _delete(folder, slot)
        finally:
            let_go(held)

    def _copy(self, path: Path) -> None:
        try:
            with closing(_open(self._connect, path)) as other:
                statements = [statement for table in _KNOWS_MORE for statement in _inserts(other, table)]
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {path} of an earlier run cannot be read ({error})",
                "Restore it from a backup; without it, move it away, and what was on its way then may be lost.",
            ) from None
        self.execute(statements)


def _closed() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False)
class _Ticket:
    """What one thread wants to have written, and what became of it.

    Attributes:
        leads: its thread writes, for all that wait.
        woken: released when it is done, or leads.
    """

    act: Act
    synced: bool
    last_id: int = 0
    error: Exception | None = None
    is_done: bool = False
    leads: bool = False
    woken: threading.Lock = field(default_factory=_closed)


def refused(error: Exception) -> JournalError:
    """What a person reads when the disk refuses; the words of any other mistake may hold what it was given."""
    reason = str(error) if isinstance(error, OSError | sqlite3.Error) else type(error).__name__
    return JournalError(
        f"the journal cannot be written ({reason})",
        "Free disk space or correct the permissions of STATE_DIR. Nothing is refreshed until then.",
    )


def read_only(folder: Path, query: str, *values: str | int) -> list[Any]:
    """The records that a query finds in all journals of a store, without taking or making any."""
    found: list[Any] = []
    for slot in _slots(folder):
        found += _peek(_file(folder, slot), query, values)
    return found


def _free_slot(folder: Path, *, is_unused: bool) -> tuple[int, int]:
    """The lowest slot that nobody holds, and the descriptor that holds it now; `is_unused`: that has no file yet."""
    slot = 1
    while (held := hold(_lock(folder, slot))) is None or (is_unused and _file(folder, slot).exists()):
        let_go(held)
        slot += 1
    return slot, held


def _slots(folder: Path) -> list[int]:
    with suppress(FileNotFoundError):  # of a folder that was taken over meanwhile
        names = [re.fullmatch(r"journal-(\d+)\.sqlite3", path.name) for path in folder.iterdir()]
        return sorted(int(name[1]) for name in names if name)
    return []


def _file(folder: Path, slot: int) -> Path:
    return folder / f"journal-{slot}.sqlite3"


def _lock(folder: Path, slot: int) -> Path:
    return folder / f"journal-{slot}.lock"


def _delete(folder: Path, slot: int) -> None:
    """The database after its write-ahead log, which must never meet another database; the lock last."""
    path = _file(folder, slot)
    for name in (Path(f"{path}-wal"), Path(f"{path}-shm"), path, _lock(folder, slot)):
        name.unlink(missing_ok=True)


def _discard(folder: Path) -> None:
    """Delete a folder whose journals were taken over. What stays is harmless: nobody reads it."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _open(connect: Connect, path: Path) -> sqlite3.Connection:
    """The database of a file, made where there is none.

    Raises:
        sqlite3.Error, OSError: the disk refuses.
        JournalError: a newer version of this program made it.
    """
    if not path.exists():
        # Only a new file: to open and close one in use would drop this process's own SQLite locks on it (POSIX).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # NORMAL may lose the last commits when the power fails: those are the refresh tokens.
        database.execute("PRAGMA synchronous=EXTRA")
        [version] = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JournalError(
                "a newer version of this program made the journal", "Update the program on this machine."
            )
        if version < SCHEMA_VERSION:
            versions = range(version + 1, SCHEMA_VERSION + 1) if version else ()
            steps = ";".join(step for number in versions for step in _UPGRADES.get(number, ()))
            database.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} {steps}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
    except BaseException:
        database.close()
        raise
    return database


def _peek(path: Path, query: str, values: Sequence[str | int]) -> list[Any]:
    """What a query finds in another process's file; nothing where it is not ready yet."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=30)) as reader:
        return reader.execute(query, values).fetchall()
    return []


def _inserts(other: sqlite3.Connection, table: str) -> Iterator[Statement]:
    key, knows_more = _KNOWS_MORE[table]
    names = [name for _, name, *_ in other.execute(f"PRAGMA table_info({table})") if name != "id"]
    values, newer = ", ".join("?" for _ in names), ", ".join(f"{name} = excluded.{name}" for name in names)
    insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"  # noqa: S608 - names
    insert += f" ON CONFLICT ({key}) DO UPDATE SET {newer} WHERE {knows_more}"
    for record in other.execute(f"SELECT {', '.join(names)} FROM {table}"):  # noqa: S608 - names
        yield insert, record


def _fill(path: Path, size: int) -> None:
    """Take up the room on the disk, so that nobody else does. Raises `OSError` where there is none."""
    if size and not (path.exists() and path.stat().st_size >= size):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
