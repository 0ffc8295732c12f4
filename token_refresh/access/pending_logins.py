"""Logins that somebody has begun and whose callback is still to come: any replica may get it, and each only once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from token_refresh.base.clock import Clock
from token_refresh.stores.database import Backend, transact
from token_refresh.stores.database.schema import PENDING_LOGINS


@dataclass(frozen=True)
class PendingLogin:
    """A login that waits for its callback.

    Attributes:
        state_hash: of the `state` that went to the provider, by which the callback is recognised.
        browser_hash: of the cookie of the browser that began it: no other may end it.
        link_id: of the link that allowed it; None where a signed-in user began it.
        content: what is needed to end it, encrypted.
        ends_at: from then on it is too late.
    """

    state_hash: str
    browser_hash: str
    link_id: int | None
    content: str
    ends_at: datetime


class PendingLogins:
    """The logins that are kept. Used by any number of threads and processes.

    Raises:
        StoreError: any method, when the database cannot be used.
    """

    def __init__(self, database: Backend, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, login: PendingLogin) -> None:
        """Keep one; those that nobody ended in time go."""
        late = PENDING_LOGINS.delete().where(PENDING_LOGINS.c.ends_at <= self._clock.now())
        add = PENDING_LOGINS.insert().values(vars(login))
        transact(self._database, lambda connection: (connection.execute(late), connection.execute(add)))

    def find(self, state_hash: str) -> PendingLogin | None:
        """The one of that state; None where there is none, or it is too late."""
        table = PENDING_LOGINS.c
        query = PENDING_LOGINS.select().where(table.state_hash == state_hash, table.ends_at > self._clock.now())
        row = transact(self._database, lambda connection: connection.execute(query).mappings().one_or_none())
        return PendingLogin(**row) if row is not None else None

    def end(self, state_hash: str) -> bool:
        """Take it away; whether it was still there: of two callbacks at once one alone may go on."""
        drop = PENDING_LOGINS.delete().where(PENDING_LOGINS.c.state_hash == state_hash)
        return transact(self._database, lambda connection: connection.execute(drop).rowcount) == 1
