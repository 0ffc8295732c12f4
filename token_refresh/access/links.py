"""One-time links: with one, a customer logs in for one row and needs no key.

A link is spent when a login through it has stored tokens, not when somebody opens it: mail programs open links to show
a preview. It also ends by its time, and with its row.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.database import Backend, transact
from token_refresh.stores.database.schema import LINKS

SHORTEST_LIFE, LONGEST_LIFE, USUAL_LIFE = timedelta(seconds=1), timedelta(days=30), timedelta(days=7)
_TOKEN_BYTES = 32
_TOKEN = re.compile("[A-Za-z0-9_-]{43}")  # so many bytes in base64url
_SPAN = re.compile("([0-9]{1,8})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Link:
    """A link that may be used: whose login it is for, until when, and the name of the key or user that made it."""

    id: int
    row_id: str
    location_id: str
    provider: str
    expires_at: datetime
    created_by: str


class Links:
    """The links that are kept. Used by any number of threads and processes.

    Raises:
        StoreError: any method, when the database cannot be used.
    """

    def __init__(self, database: Backend, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, row_id: str, location_id: str, provider: str, lifetime: timedelta, created_by: str
    ) -> tuple[str, datetime]:
        """Make a link for a row that exists; its token, of which only a hash is kept, and when it ends.

        Raises:
            ActionableError: `usage`: the lifetime is not between a second and 30 days.
        """
        if not SHORTEST_LIFE <= lifetime <= LONGEST_LIFE:
            raise ActionableError("a link lives 1 second to 30 days", "Write it as 7d, 12h, 30m or 90s.", Kind.USAGE)
        now, token = self._clock.now(), secrets.token_urlsafe(_TOKEN_BYTES)
        add = LINKS.insert().values(
            token_hash=_hash(token),
            row_id=row_id,
            location_id=location_id,
            provider=provider,
            expires_at=now + lifetime,
            created_by=created_by,
        )
        expired = LINKS.delete().where(LINKS.c.expires_at <= now)
        transact(self._database, lambda connection: (connection.execute(expired), connection.execute(add)))
        return token, now + lifetime

    def find(self, token: str) -> Link | None:
        """The link of this token; None where there is none, or it has ended: nobody learns which."""
        if not _TOKEN.fullmatch(token):
            return None
        wanted = (LINKS.c.token_hash == _hash(token), LINKS.c.expires_at > self._clock.now())
        query = LINKS.select().where(*wanted)
        row = transact(self._database, lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        return Link(row.id, row.row_id, row.location_id, row.provider, row.expires_at, row.created_by)

    def still(self, link_id: int) -> bool:
        """Whether it may still be used, for a login that began with it."""
        query = LINKS.select().where(LINKS.c.id == link_id, LINKS.c.expires_at > self._clock.now())
        return transact(self._database, lambda connection: connection.execute(query).one_or_none()) is not None

    def end(self, link_id: int) -> None:
        """It has served: a login through it has stored tokens. Safe to repeat."""
        drop = LINKS.delete().where(LINKS.c.id == link_id)
        transact(self._database, lambda connection: connection.execute(drop))

    def end_of_row(self, row_id: str) -> None:
        """The row is gone, and a database may give its number to another one. Safe to repeat."""
        drop = LINKS.delete().where(LINKS.c.row_id == row_id)
        transact(self._database, lambda connection: connection.execute(drop))


def link_url(public_url: str, token: str) -> str:
    """What the customer gets."""
    return f"{public_url}/connect?link={token}"


def parse_lifetime(text: str) -> timedelta:
    """A length of time such as `7d`, `12h`, `30m` or `90s`.

    Raises:
        ActionableError: `usage`: it is none.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ActionableError("a lifetime cannot be used", "Write it as 7d, 12h, 30m or 90s.", Kind.USAGE)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
