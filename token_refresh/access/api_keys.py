"""Keys of the HTTP service: who made which, and what each allows.

A key is `trk_<id>_<secret>`: the prefix lets scanners of repositories find it, the id lets a row be looked up by
something public, and of the secret, 256 random bits, only the SHA-256 is kept. A slow hash is for passwords, which
people choose: nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.base import StoreError
from token_refresh.stores.database import Backend, transact
from token_refresh.stores.database.schema import API_KEYS, KEY_OF_ID

SCOPES = ("tokens", "clients", "read", "admin")  # and `tokens:LOCATION`, for one location's token
USE_NOTED = timedelta(minutes=5)  # a write for each request would cost more than the request
LONGEST_NAME = 100  # characters
_OF_ONE = "tokens:"
_KEY = re.compile("trk_([0-9a-f]{16})_([0-9a-f]{64})")
_NO_HASH = "0" * 64  # of no secret


@dataclass(frozen=True)
class ApiKey:
    """A key, without its secret. Times are aware; `last_used_at` is exact to five minutes, None where never used."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None

    def allows(self, scope: str, location_id: str | None = None) -> bool:
        """Whether it has that scope; `tokens` with a location: also by the scope of that location alone."""
        if "admin" in self.scopes or scope in self.scopes:
            return True
        return scope == "tokens" and location_id is not None and f"{_OF_ONE}{location_id}" in self.scopes

    def allows_some(self, scope: str) -> bool:
        """Whether it has that scope for one location at least: which one is judged when it is known."""
        return self.allows(scope) or (scope == "tokens" and any(one.startswith(_OF_ONE) for one in self.scopes))


class ApiKeys:
    """The keys that are kept. Used by any number of threads and processes.

    Raises:
        StoreError: any method, when the database cannot be used.
    """

    def __init__(self, database: Backend, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, scopes: Collection[str]) -> str:
        """Make a key, and return it; only its hash is kept, so nobody can show it again.

        Raises:
            ActionableError: `usage`: the name is taken or unusable, or a scope does not exist.
        """
        name, known = name.strip(), _scopes(scopes)
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
            raise ActionableError(
                f"the name of a key must have 1 to {LONGEST_NAME} visible characters", "Name its user.", Kind.USAGE
            )
        key_id, secret = secrets.token_hex(8), secrets.token_hex(32)
        values = {
            "id": key_id,
            "name": name,
            "secret_hash": _hash(secret),
            "scopes": json.dumps(known),
            "created_at": self._clock.now(),
        }
        insert = self._database.insert(API_KEYS).values(values)
        add = insert.on_conflict_do_nothing(index_elements=[API_KEYS.c.name]).returning(API_KEYS.c.id)
        if transact(self._database, lambda connection: connection.execute(add).scalar_one_or_none()) is None:
            what = f"there is a key named {name} already"
            raise ActionableError(what, "Choose another name, or revoke that key first.", Kind.USAGE)
        return f"trk_{key_id}_{secret}"

    def all(self) -> list[ApiKey]:
        """Every key, by its name."""
        query = API_KEYS.select().order_by(API_KEYS.c.name)
        return [_key(row) for row in transact(self._database, lambda connection: connection.execute(query).all())]

    def revoke(self, name: str) -> None:
        """End a key at once, for every process.

        Raises:
            ActionableError: `not_found`.
        """
        drop = API_KEYS.delete().where(API_KEYS.c.name == name.strip())
        if not transact(self._database, lambda connection: connection.execute(drop).rowcount):
            raise ActionableError(f"there is no key named {name.strip()}", "See: api-key list", Kind.NOT_FOUND)

    def find(self, text: str) -> ApiKey | None:
        """The key that this text is; None where it is none. It takes as long for a wrong secret as for the right one.

        Its use is noted, at most every five minutes; a database that takes no writes at the moment does not matter.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        row = self._row(match[1])
        is_right = hmac.compare_digest(_hash(match[2]), row.secret_hash if row is not None else _NO_HASH)
        if row is None or not is_right:
            return None
        self._note_use(key := _key(row))
        return key

    def still(self, key_id: str) -> ApiKey | None:
        """The key of that id, for a session that began with it; None once it is revoked."""
        row = self._row(key_id)
        return _key(row) if row is not None else None

    def _row(self, key_id: str) -> Any:
        return transact(
            self._database, lambda connection: connection.execute(KEY_OF_ID, {"key_id": key_id}).one_or_none()
        )

    def _note_use(self, key: ApiKey) -> None:
        now = self._clock.now()
        if key.last_used_at is None or abs(now - key.last_used_at) >= USE_NOTED:
            used = API_KEYS.update().where(API_KEYS.c.id == key.id).values(last_used_at=now)
            with suppress(StoreError):
                transact(self._database, lambda connection: connection.execute(used))


def _scopes(asked: Iterable[str]) -> list[str]:
    """Scopes without repetition. Raises `ActionableError`."""
    known = list(dict.fromkeys(_OF_ONE + one[len(_OF_ONE) :].strip() if _is_of_one(one) else one for one in asked))
    if not known or not all(one in SCOPES or (_is_of_one(one) and one != _OF_ONE) for one in known):
        what = "a scope does not exist" if known else "a key without a scope allows nothing"
        raise ActionableError(what, f"Use: {', '.join(SCOPES)}, or tokens:LOCATION.", Kind.USAGE)
    return known


def _is_of_one(scope: str) -> bool:
    return scope.startswith(_OF_ONE)


def _key(row: Any) -> ApiKey:
    return ApiKey(row.id, row.name, tuple(json.loads(row.scopes)), row.created_at, row.last_used_at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
