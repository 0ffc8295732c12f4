"""Requests of rows, as a run notes them in the journal."""

from __future__ import annotations

from token_refresh.journal.entries import Journal
from token_refresh.stores.base import Row


def intend(journal: Journal, row: Row, token: str, provider: str, origin: str, lost_entry: int | None = None) -> int:
    """See `Journal.intend`; what it takes of the row is taken from `row`."""
    return journal.intend(
        row_key=row.key,
        location_id=row.location_id,
        provider=provider,
        origin=origin,
        cell=journal.fingerprint(row.encrypted_refresh),
        token=journal.fingerprint(token),
        lost_entry=lost_entry,
    )


def is_spent(journal: Journal, token: str) -> bool:
    """Whether a token was replaced by one that was stored."""
    return journal.spent_at(journal._keyring.fingerprints(token)) is not None
