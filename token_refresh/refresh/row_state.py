"""What state a row is in, for everybody who shows rows. No cell is opened."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from providers.base import ProviderSummary
from token_refresh.base.errors import Kind
from token_refresh.refresh.due import DuePolicy
from token_refresh.refresh.jobs import ProviderIndex
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
    return RowState.DUE if provider is None or policy.is_due(row, provider, now) else RowState.FRESH


def row_statuses(
    rows: Iterable[Row], providers: ProviderIndex, default_provider: str, policy: DuePolicy, now: datetime
) -> list[RowStatus]:
    """All rows with their states, by location and provider."""
    named = [(row, providers.slug_of(row.provider or default_provider) or row.provider) for row in rows]
    known = providers.summaries
    statuses = [RowStatus(row, name, row_state(row, known.get(name), policy, now)) for row, name in named]
    return sorted(statuses, key=lambda one: (one.row.location_id, one.provider))
