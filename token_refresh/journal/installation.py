"""Which installation this is: what a state folder knows of itself, and how it notices that it is not the only one.

The id is random, and belongs to a file beside it: in a copy of the folder, and in one that was restored, that file is
another one. Two machines that were cloned whole differ in the numbers of their runs.
"""

from __future__ import annotations

import base64
import fcntl
import os
import random
import re
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from crypto import Context, FingerprintKey, Keyring, SealedCellError, key_id_of
from token_refresh.base.clock import iso, parse_time
from token_refresh.journal.file import refused
from token_refresh.journal.state_folder import file_system

_T = TypeVar("_T")

FILE = "installation.sqlite3"
EARLIER_ID_FILE = "host-id"  # of version 0.1.0
MARK_FILE = "installation.mark"
KEPT_RUNS = 1000
# The next run's number is not the next one, or clones that always run at the same minute would number alike.
_STEP = 2**16
_GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION
_STABLE_IDS = ("ext4", "btrfs")  # whose file system ids outlive a restart
_FINGERPRINT_KEY = Context("fingerprint_key", "", "")

_SCHEMA = """
CREATE TABLE identity (id TEXT NOT NULL, mark TEXT NOT NULL);
CREATE TABLE runs (number INTEGER PRIMARY KEY);
CREATE TABLE takeovers (store TEXT PRIMARY KEY, at TEXT NOT NULL);
CREATE TABLE fingerprint_keys (id TEXT PRIMARY KEY, sealed TEXT NOT NULL, is_own INTEGER NOT NULL);
"""


class Identity(NamedTuple):
    """Who a run is.

    Attributes:
        id: of the installation.
        number: of the run.
        is_copy: the folder was copied or restored, or had a twin, and nobody has said yet that it goes on alone.
        taken_over_at: when somebody last said so of this store; what others did before does not count.
        missing_key: the id of a key that something needs by which used tokens are recognised; empty where none is.
    """

    id: str
    number: int
    is_copy: bool
    taken_over_at: datetime | None
    missing_key: str

    def number_in(self, refreshed_by: str) -> int | None:
        """The run of ours that wrote `refreshed_by`; 0: one of version 0.1.0; None: another installation."""
        found = re.fullmatch(rf".*-{self.id}(?:-([0-9]{{1,18}}))?", refreshed_by, re.DOTALL)
        return int(found[1] or 0) if found is not None else None


class InstallationFile:
    """The file that a state folder knows itself by; made where there is none.

    Args:
        state: the state folder.

    Raises:
        JournalError: any method, when the disk refuses.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = state / FILE

    def begin(self, store: str, now: datetime, keyring: Keyring, *, takes_over: bool) -> Identity:
        """Give this run a number, which is on the disk when this returns.

        Args:
            store: what the store is.
            now: the time.
            keyring: see `keyring`.
            takes_over: a person said that no other installation refreshes this store any more, and goes on without
                what does not open.
        """
        known = [key.key_id for key in keyring.fingerprint_keys]
        unknown = f"FROM fingerprint_keys WHERE id NOT IN ({', '.join('?' * len(known))})"

        def act(database: sqlite3.Connection) -> Identity:
            [(own_id, mark)] = database.execute("SELECT id, mark FROM identity").fetchall()
            is_copy = not _is_same(mark, self._mark())
            if takes_over:
                if is_copy:  # the other one may go on under the old id; it finds out by the new one
                    own_id, is_copy = os.urandom(8).hex(), False
                    database.execute("UPDATE identity SET id = ?, mark = ?", (own_id, self._mark()))
                database.execute("INSERT OR REPLACE INTO takeovers VALUES (?, ?)", (store, iso(now)))
                database.execute(f"DELETE {unknown}", known)
            locked = database.execute(f"SELECT sealed {unknown}", known).fetchone()
            # A copy takes a number that the original knows, too: what it stores is no sign of a twin.
            number = _last_run(database) if is_copy else _next_run(database)
            at = database.execute("SELECT at FROM takeovers WHERE store = ?", (store,)).fetchone()
            missing = key_id_of(locked[0]) if locked else ""
            return Identity(own_id, number, is_copy, parse_time(at[0]) if at else None, missing)

        return self._transact(act)

    def has_issued(self, number: int) -> bool:
        """Whether a run of this installation had that number; of long ago that is not known, and assumed."""
        query = "SELECT ? < (SELECT min(number) FROM runs) OR ? IN (SELECT number FROM runs)"
        return self._transact(lambda database: bool(database.execute(query, (number, number)).fetchone()[0]))

    def doubt(self) -> None:
        """A twin was found: from now on this counts as a copy."""
        self._transact(lambda database: database.execute("UPDATE identity SET mark = ''"))

    def keyring(self, primary: bytes, fallbacks: Collection[bytes]) -> Keyring:
        """These keys, with the fingerprint keys of this installation; see `Identity.missing_key`."""
        plain = Keyring(primary, fallbacks)
        return Keyring(primary, fallbacks, self._transact(lambda database: self._opened_keys(database, plain)))

    def reseal_keys(self, keyring: Keyring) -> None:
        """Re-encrypt the fingerprint keys with the primary key. One that does not open stays as it is."""

        def act(database: sqlite3.Connection) -> None:
            for key_id, sealed in database.execute("SELECT id, sealed FROM fingerprint_keys").fetchall():
                if keyring.needs_reseal(sealed):
                    with suppress(SealedCellError):
                        again = keyring.seal(keyring.open(sealed, _FINGERPRINT_KEY), _FINGERPRINT_KEY)
                        database.execute("UPDATE fingerprint_keys SET sealed = ? WHERE id = ?", (again, key_id))

        self._transact(act)

    def _transact(self, act: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            with closing(self._open()) as database:
                database.execute("BEGIN IMMEDIATE")
                if not database.execute("PRAGMA user_version").fetchone()[0]:
                    self._make(database)
                done = act(database)
                database.execute("COMMIT")
                return done
        except (OSError, sqlite3.Error) as error:
            raise refused(error) from None

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        # A number that a power failure takes back would look like a twin's.
        database.execute("PRAGMA synchronous=EXTRA")
        return database

    def _make(self, database: sqlite3.Connection) -> None:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            database.execute(statement)
        database.execute("PRAGMA user_version = 1")
        own_id = os.urandom(8).hex()
        with suppress(FileNotFoundError):
            own_id = (self._state / EARLIER_ID_FILE).read_text().strip() or own_id
        database.execute("INSERT INTO identity VALUES (?, ?)", (own_id, self._mark()))

    def _mark(self) -> str:
        """What is another one for a copy of the folder: two files' inodes, and the file system's id where that is kept.

        An inode's number is given again, to the next file; its generation (ioctl_iflags(2)) tells the two apart. Of a
        folder that is restored over itself only the files are replaced that differ, as this database does.
        """
        # A file of its own: to close the database's would take its locks from other threads (POSIX).
        descriptor = os.open(self._state / MARK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            inode, generation = str(os.fstat(descriptor).st_ino), bytes(8)
            with suppress(OSError):  # of this file system none is known
                generation = fcntl.ioctl(descriptor, _GET_GENERATION, generation)
        finally:
            os.close(descriptor)
        is_stable, database = file_system(self._path) in _STABLE_IDS, self._path.stat().st_ino
        return f"{inode}.{generation[:4].hex()}.{database} {os.statvfs(self._path).f_fsid if is_stable else ''}"

    def _make_keys(self, database: sqlite3.Connection, keyring: Keyring) -> list[FingerprintKey]:
        """A random key; beside the first one also those that version 0.1.0 derived from the keys in use."""
        keys = [(FingerprintKey.generate(), 1)]
        if any(self._state.glob("*/journal-*.sqlite3")):
            keys += [(key, 0) for key in keyring.fingerprint_keys]
        for key, is_own in keys:
            sealed = keyring.seal(base64.b64encode(key.raw).decode("ascii"), _FINGERPRINT_KEY)
            database.execute("INSERT OR IGNORE INTO fingerprint_keys VALUES (?, ?, ?)", (key.key_id, sealed, is_own))
        return self._opened_keys(database, keyring)

    def _opened_keys(self, database: sqlite3.Connection, keyring: Keyring) -> list[FingerprintKey]:
        """Those that open, the newest of its own first; made where there are none."""
        found: list[FingerprintKey] = []
        query = "SELECT id, sealed FROM fingerprint_keys ORDER BY is_own DESC, rowid DESC"
        kept = database.execute(query).fetchall()
        for key_id, sealed in kept:
            with suppress(SealedCellError):
                found.append(FingerprintKey(key_id, base64.b64decode(keyring.open(sealed, _FINGERPRINT_KEY))))
        return found if kept else self._make_keys(database, keyring)


def _is_same(kept: str, found: str) -> bool:
    (inode, _, file_system_id), (now, _, id_now) = kept.partition(" "), found.partition(" ")
    return inode == now and (file_system_id == id_now or not (file_system_id and id_now))


def _last_run(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()[0])


def _next_run(database: sqlite3.Connection) -> int:
    number = _last_run(database) + random.randint(1, _STEP)
    database.execute("INSERT INTO runs VALUES (?)", (number,))
    oldest = "SELECT number FROM runs ORDER BY number DESC LIMIT ?"
    database.execute(f"DELETE FROM runs WHERE number NOT IN ({oldest})", (KEPT_RUNS,))  # noqa: S608 - no values
    return number
