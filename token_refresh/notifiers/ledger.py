"""What outlives a run and no refresh needs: documents that one process at a time may change, in a file or as a note in
the database, and small SQLite files."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import parse_object, read_object, replace_file
from token_refresh.base.fork import let_go
from token_refresh.journal.lock import hold
from token_refresh.stores.base import Store

Execute = Callable[[str, Mapping[str, Any]], list[Any]]
"""Runs a statement, whose values are named `:so`, and returns what it found."""
Transact = Callable[[Callable[[Execute], Any]], Any]
"""Does all that a function does with `Execute` in one transaction, and returns its result."""
HELD_SECONDS = 30.0  # a note of a process that died is free again after that
_BUSY_SECONDS = 5.0
_T = TypeVar("_T")


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[int]:
    """While inside, no other thread or process has this file; gives its descriptor.

    Raises:
        TimeoutError: another one had it for so many seconds.
    """
    file = _wait_for(lambda: hold(path), seconds, 0.001)  # most hold it for less than that
    try:
        yield file
    finally:
        let_go(file)


@contextmanager
def held_file(path: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """The document in this file, to be changed inside, and written at the end. Raises like `locked`."""
    with locked(path.with_suffix(".lock"), seconds):
        document = read_object(path)
        before = json.dumps(document)
        try:
            yield document
        finally:
            if (after := json.dumps(document)) != before:
                replace_file(path, after.encode())


@contextmanager
def held_note(
    open_store: Callable[[], AbstractContextManager[Store]], name: str, seconds: float
) -> Iterator[dict[str, Any]]:
    """The same in the database, for all machines that work on it."""
    with open_store() as store:
        store.hurry()  # whoever waits for an outage here keeps the program from its end
        document = parse_object(_wait_for(lambda: store.take_note(name, HELD_SECONDS), seconds, 0.05))
        try:
            yield document
        finally:
            store.put_note(name, json.dumps(document))


def transact_in(file: Path, schema: str, say: Callable[[str, str], None]) -> Transact:
    """What does something in the file, which is made where it is not there. It raises `ActionableError`: see below.

    A file that cannot be read any more is moved away: `say` warns of that once, and another one begins. Where the disk
    refuses, or another process keeps the file, that is an error.
    """

    def transact(act: Callable[[Execute], Any]) -> Any:
        try:
            return _in_transaction(file, schema, act)
        except (sqlite3.OperationalError, OSError) as error:  # the file itself is in order
            what = f"{file} cannot be written ({error})"
            raise ActionableError(what, "Free disk space or correct its permissions.", Kind.CONFIGURATION) from None
        except sqlite3.DatabaseError:
            places = (file.with_name(f"{file.name}.{number}") for number in range(1, 1000))
            file.replace(moved := next(place for place in places if not place.exists()))
            for end in ("-wal", "-shm"):
                file.with_name(f"{file.name}{end}").unlink(missing_ok=True)
            say(f"{file.name} cannot be read any more; it was moved to {moved}, and a new one begins", "")
            return _in_transaction(file, schema, act)

    return transact


def _in_transaction(file: Path, schema: str, act: Callable[[Execute], Any]) -> Any:
    if not file.exists():
        file.touch(mode=0o600)
    with closing(sqlite3.connect(file, isolation_level=None, timeout=_BUSY_SECONDS)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")  # a power failure may undo the last lines
        database.executescript(schema)
        database.execute("BEGIN IMMEDIATE")
        result = act(lambda statement, values: database.execute(statement, values).fetchall())
        database.execute("COMMIT")
        return result


def _wait_for(take: Callable[[], _T | None], seconds: float, poll_seconds: float) -> _T:
    ending = time.monotonic() + seconds
    while (taken := take()) is None:
        if time.monotonic() >= ending:
            raise TimeoutError("another process keeps it")
        time.sleep(poll_seconds)
    return taken
