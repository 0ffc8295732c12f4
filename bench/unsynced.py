"""One run like that of `peak`, whose journal leaves it to the system when to write: what durability costs."""

from __future__ import annotations

import functools
import sqlite3
import sys
from typing import Any

from bench import peak


class Unsynced(sqlite3.Connection):
    """Takes every wish for a sync for its opposite."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection.execute`."""
        return super().execute("PRAGMA synchronous=OFF" if "synchronous" in statement else statement, *values)


if __name__ == "__main__":
    # The journal asks `sqlite3`, SQLAlchemy `sqlite3.dbapi2`: the store is as durable as ever.
    sqlite3.connect = functools.partial(sqlite3.connect, factory=Unsynced)  # type: ignore[assignment]
    sys.exit(peak.main())
