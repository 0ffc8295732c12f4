"""A database as a store: SQLite or PostgreSQL, on one code path; what differs is in `sqlite` and `postgres`."""

from token_refresh.stores.database.backend import Backend
from token_refresh.stores.database.schema import CREDENTIALS, SCHEMA_VERSION
from token_refresh.stores.database.session import transact, transact_in_words
from token_refresh.stores.database.store import DatabaseStore, open_backend

__all__ = ["CREDENTIALS", "SCHEMA_VERSION", "Backend", "DatabaseStore", "open_backend", "transact", "transact_in_words"]
