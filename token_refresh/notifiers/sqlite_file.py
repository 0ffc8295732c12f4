"""A small SQLite file in the state folder, for what no refresh needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from token_refresh.base.errors import ActionableError, Kind

Execute = Callable[[str, Mapping[str, Any]], list[Any]]
"""Runs a statement, whose values are named `:so`, and returns what it found."""
Transact = Callable[[Callable[[Execute], Any]], Any]
"""Does all that a function does with `Execute` in one transaction, and returns its result."""
_BUSY_SECONDS = 5.0


def transact_in(file: Path, schema: str, say: Callable[[str, str], None]) -> Transact:
    """What does something in the file, which is made where it is not there. It raises `ActionableError`: see below.

    A file that cannot be read any more is moved away: `say` warns of that once, and another one begins. Where the disk
    refuses, or another process keeps the file, that is an error.
    """

    def transact(act: Callable[[Execute], Any]) -> Any:
        try:
            return _in_transaction(file, schema, act)
        except sqlite3.OperationalError as error:  # the file itself is in order
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
