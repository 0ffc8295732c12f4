"""What the two databases do differently: opening, migrating, and what their drivers say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from token_refresh.stores.base import StoreError, StoreRefusedError


class Backend(ABC):
    """One database.

    Attributes:
        engine: makes its connections.
        insert: an insertion that can say what to do where the row is there already.
        patience_seconds: how long a lost server is waited for, where the same may be asked again.
        identity: the id that it keeps; empty until its tables are known to be those of this version.
        is_aborted: nothing may be asked of it any more.
    """

    engine: Engine
    insert: Callable[[sa.Table], Any]
    patience_seconds: float = 0.0
    identity: str = ""
    is_aborted: bool = False

    def abort(self) -> None:
        """End what is under way, in whatever thread, and let nothing else begin."""
        self.is_aborted = True

    def check(self) -> None:  # noqa: B027 - a server is asked by whatever comes next
        """Look, before a store uses it again, whether it is still the same database and may still be used.

        Raises:
            StoreRefusedError: it may not.
        """

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    def clock(self, connection: Connection) -> datetime | None:  # noqa: ARG002 - a file has no clock
        """What the server's clock says; None where it is this machine's."""
        return None

    @abstractmethod
    def version(self, connection: Connection) -> int:
        """Which version of the program's tables is there; 0: none."""

    @abstractmethod
    def migrate(self, connection: Connection) -> None:
        """Bring the tables to `SCHEMA_VERSION`, in the transaction that is open. Two programs may do so at once."""

    @abstractmethod
    def conflict(self, error: IntegrityError) -> StoreError:
        """What to say where the row is there already, or a rule that somebody made for the table speaks against it."""

    @abstractmethod
    def refusal(self, error: SQLAlchemyError) -> StoreError:
        """The error in words, with nothing of statements, values or passwords."""

    def is_lost(self, error: SQLAlchemyError) -> bool:  # noqa: ARG002
        """Whether the connection is gone, so that another may do better."""
        return False


class ShutOutError(StoreRefusedError):
    """The server does not let the program in, or at the table. That is no row's fault, and waiting does not help."""


def newer() -> StoreRefusedError:
    """What a program of an older version says."""
    return StoreRefusedError("a newer version of this program made the database", "Update the program on this machine.")


def taken() -> StoreRefusedError:
    """What is said of one row that is there already."""
    return StoreRefusedError(
        "the database already has a row of this location and provider", "Replace that row instead."
    )


def ruled_out() -> StoreRefusedError:
    """What is said of one row. The rule's own words may quote it."""
    return StoreRefusedError(
        "a constraint or trigger of the table does not let this row be written",
        "Correct the rule or the row; the database's log may say more.",
    )
