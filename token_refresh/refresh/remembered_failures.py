"""Rows with what the journal remembers of their failures, where their table has no columns that hold it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crypto import Keyring
from token_refresh.journal.failures import Failure, RowFailure, read_failures
from token_refresh.stores.base import IDLE_STATUSES, STATUS_REAUTHORIZE, Row


def with_remembered_failure(row: Row, failure: Failure | None, columns: frozenset[str]) -> Row:
    """The row with what its table has no columns for; `failure` is what is remembered of it."""
    if failure is None:
        return row
    known = {"status": failure.status, "last_error": failure.last_error, "failure_count": failure.failure_count}
    missing: dict[str, Any] = {name: value for name, value in known.items() if name not in columns}
    if row.status in IDLE_STATUSES:
        missing.pop("status", None)  # a person's word, in a column that does not hold every one of ours
    return replace(row, **missing) if missing else row


def with_remembered_failures(rows: Iterable[Row], folder: Path, keyring: Keyring, columns: frozenset[str]) -> list[Row]:
    """The same for many rows, read beside a run that is active; `folder` is the store's state folder."""
    known = read_failures(folder)

    def find(row: Row) -> Failure | None:
        failure = known.get(row.key)
        return failure if failure is not None and failure.is_of(keyring.fingerprints(row.encrypted_refresh)) else None

    return [with_remembered_failure(row, find(row), columns) for row in rows]


def failure_of(row: Row, keyring: Keyring) -> RowFailure:
    """What is to be remembered of a row; it is handed in as it is after its failure."""
    return RowFailure(
        row.key,
        row.location_id,
        row.provider,
        keyring.fingerprint(row.encrypted_refresh),
        row.status,
        row.last_error,
        row.failure_count,
        is_dead=row.status == STATUS_REAUTHORIZE,
    )
