"""Rows for everybody who shows them: with what is remembered of their failures, and their states. No cell is opened."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from crypto import Keyring
from providers.base import ProviderSummary
from token_refresh.base.errors import Kind
from token_refresh.journal.failures import Failure, read_failures
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.jobs import ProviderIndex
from token_refresh.refresh.result import with_remembered_failure
from token_refresh.stores.base import IDLE_STATUSES, STATUS_DISABLED, STATUS_REAUTHORIZE, Row


class RowState(enum.StrEnum):
    """The states of a row; an earlier one wins over a later one."""

    REAUTHORIZE = STATUS_REAUTHORIZE
    DISABLED = STATUS_DISABLED
    WAITING = "waiting"  # for its credential
    EXPIRED = "expired"
    FAILING = "failing"
    DUE = "due"
    FRESH = "fresh"


ALARMS: Mapping[RowState, Kind] = {
    RowState.EXPIRED: Kind.ROW,
    RowState.FAILING: Kind.ROW,
    RowState.REAUTHORIZE: Kind.LOGIN_NEEDED,
}
"""The states that somebody has to look at, and what each is to `status --check`."""


@dataclass(frozen=True)
class RowStatus:
    """One row, the name of its provider, and its state."""

    row: Row
    provider: str
    state: RowState


def row_state(row: Row, provider: ProviderSummary | None, policy: DuePolicy, now: datetime) -> RowState:
    """The state of one row; `provider` is None where the catalogue does not have the row's."""
    if row.status in IDLE_STATUSES:
        return RowState(row.status)
    if row.error is not None:
        return RowState.FAILING
    if not row.encrypted_refresh:
        return RowState.WAITING
    if row.access_token_expiry is not None and row.access_token_expiry <= now:
        return RowState.EXPIRED
    if row.failure_count or row.last_error:
        return RowState.FAILING
    return RowState.DUE if policy.is_due(row, provider, now) else RowState.FRESH


def row_statuses(
    rows: Iterable[Row], providers: ProviderIndex, default_provider: str, policy: DuePolicy, now: datetime
) -> list[RowStatus]:
    """All rows with their states, by location and provider."""
    named = [(row, providers.slug_of(row.provider or default_provider) or row.provider) for row in rows]
    known = providers.summaries
    statuses = [RowStatus(row, name, row_state(row, known.get(name), policy, now)) for row, name in named]
    return sorted(statuses, key=lambda one: (one.row.location_id, one.provider))


def with_remembered_failures(rows: Iterable[Row], folder: Path, keyring: Keyring, columns: frozenset[str]) -> list[Row]:
    """The same for many rows, read beside a run that is active; `folder` is the store's state folder."""
    known = read_failures(folder)

    def find(row: Row) -> Failure | None:
        failure = known.get(row.key)
        return failure if failure is not None and failure.is_of(keyring.fingerprints(row.encrypted_refresh)) else None

    return [with_remembered_failure(row, find(row), columns) for row in rows]
