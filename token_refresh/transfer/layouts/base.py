"""What the layouts share: what one found credential is, and how a database's values are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from providers.index import ProviderIndex
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.base import Row, Store

_TRUE = ("1", "t", "true", "yes", "on")


@dataclass(frozen=True)
class Found:
    """One record of a source.

    Attributes:
        name: where it is; no other record has it.
        provider: the catalogue's name of it; empty where the record names none.
        client_id, client_secret: empty where the settings know them.
        cells: which of `client_secret`, `refresh_token` and `access_token` are cells of the earlier program.
        expiry: of the access token; None where it is not certain.
        has_no_end: the record says that the access token does not expire.
        params: what goes into `provider_params`.
        details: what else is known of the client, by column.
        is_active: false where the earlier program had switched it off.
        row: the row that it is, where the source is a table of this program's own kind; its other cells stay.
        reason, action: why it is not taken, and what to do; empty where nothing is against it.
        is_wrong: that somebody has to fix this, not merely know it.
    """

    name: str
    location_id: str
    provider: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    cells: frozenset[str] = frozenset()
    expiry: datetime | None = None
    last_refreshed: datetime | None = None
    has_no_end: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    is_active: bool = True
    row: Row | None = None
    reason: str = ""
    action: str = ""
    is_wrong: bool = False


TOKEN_CELLS = frozenset({"refresh_token", "access_token"})


@dataclass(frozen=True)
class EarlierApp:
    """The one Microsoft app that an earlier program had in its environment; empty where that is not set."""

    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    redirect_uri: str = ""


@dataclass(frozen=True)
class Source:
    """Where a layout reads.

    Attributes:
        database_url: the address of the source's database, as `SourceDatabase` wants it; raises where the command line
            names none.
        open_table: opens the source's table in the configured Airtable base; raises where there is none.
        providers: the catalogue.
        app: of the earlier program.
        redirect_uri: of the login, where the source does not keep it.
    """

    database_url: Callable[[], str]
    open_table: Callable[[], Store]
    providers: ProviderIndex
    app: EarlierApp
    redirect_uri: str = ""

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """The records of a database's table.

        Raises:
            ActionableError: the source is no address of a database, or holds a password.
            StoreError: the database cannot be read.
        """
        from token_refresh.transfer.source_database import SourceDatabase

        url = self.database_url()
        parts = urlsplit(url)
        if parts.password or any("password" in name.lower() for name in parse_qs(parts.query)):
            raise ActionableError(
                "the source's address holds a password, which every user of this machine could read",
                "Leave it out: PostgreSQL's PGPASSFILE, ~/.pgpass or PGPASSWORD may hold it.",
                Kind.USAGE,
            )
        with closing(SourceDatabase(url)) as database:
            yield from database.rows(table, columns)


def text(value: object) -> str:
    """A value as text without outer space; empty for nothing."""
    return "" if value is None else str(value).strip()


def flag(value: object) -> bool:
    """A truth value, whatever the database makes of it."""
    return text(value).lower() in _TRUE


def time_with_zone(value: object) -> datetime | None:
    """The time in a column that was declared with a time zone; SQLite drops the zone, which is UTC then."""
    found = _time(value)
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else parse_time(found)


def certain_time(value: object) -> datetime | None:
    """A time that names its zone. Without one it may be any machine's local time, and so a token that is out may seem
    to live: then it is None, and the next run refreshes.
    """
    return parse_time(_time(value))


def words(value: object) -> str:
    """A list of scopes, or their text, either also as JSON; blank-separated."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, list):
        return " ".join(text(one) for one in value if isinstance(one, str))
    return text(value) if isinstance(value, str) else ""


def moment(value: datetime | None) -> str:
    """A time among details, as ISO 8601."""
    return iso(value) if value is not None else ""


def some(**params: str) -> dict[str, str]:
    """Those that are not empty."""
    return {name: value for name, value in params.items() if value}


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text(value))
    except ValueError:
        return None
