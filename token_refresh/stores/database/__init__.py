"""A database as a store: SQLite or PostgreSQL, on one code path; what differs is in `sqlite` and `postgres`."""

from token_refresh.stores.database.schema import CREDENTIALS, SCHEMA_VERSION
from token_refresh.stores.database.store import DatabaseStore

__all__ = ["CREDENTIALS", "SCHEMA_VERSION", "DatabaseStore"]
