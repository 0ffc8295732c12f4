"""Rows for everybody who shows them: with what is remembered of their failures, and their states. No cell is opened."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from crypto import Keyring
from providers.base import ProviderSummary, Verdict
from token_refresh.base.checks import BAD, Check
from token_refresh.base.errors import Kind
from token_refresh.base.events import Outcome
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.diagnosis.ends import next_end
from token_refresh.journal.failures import Failure, read_failures
from token_refresh.refresh.due import ENDING, DuePolicy
from token_refresh.refresh.jobs import ProviderIndex
from token_refresh.refresh.result import action_of, with_remembered_failure
from token_refresh.stores.base import IDLE_STATUSES, STATUS_DISABLED, STATUS_REAUTHORIZE, Row


class RowState(enum.StrEnum):
    """The states of a row, in the order in which they need a person."""

    EXPIRED = "expired"
    REAUTHORIZE = STATUS_REAUTHORIZE
    FAILING = "failing"
    ENDING = "ending"  # its access token ends within a week, or its login or the app's secret within 30 days
    WAITING = "waiting"  # for its credential
    DUE = "due"
    FRESH = "fresh"
    DISABLED = STATUS_DISABLED


ALARMS: Mapping[RowState, Kind] = {
    RowState.EXPIRED: Kind.ROW,
    RowState.FAILING: Kind.ROW,
    RowState.ENDING: Kind.LOGIN_NEEDED,
    RowState.REAUTHORIZE: Kind.LOGIN_NEEDED,
}
"""The states that somebody has to look at, and what each is to `status --check`."""


_SHOWN_NAMES = 10
_ORDER = list(RowState)  # what needs a person first
_LOGIN = action_of(Outcome.REAUTHORIZE, Verdict.DEAD_GRANT) or ""
_ACTIONS = {
    RowState.REAUTHORIZE: _LOGIN,
    RowState.ENDING: _LOGIN,
    RowState.WAITING: f"Enter its credential: {ONBOARD_CLIENT}",
    RowState.DISABLED: f"To use it again: {TOKEN_MANAGER} enable LOCATION",
    RowState.FAILING: "Fix what the last error says; the next run tries again.",
}


@dataclass(frozen=True)
class RowStatus:
    """One row, the name of its provider, and its state."""

    row: Row
    provider: str
    state: RowState
    ends: tuple[str, datetime] | None = None

    @property
    def action(self) -> str:
        """What to do about it; empty where nothing is to be done."""
        if self.row.error is not None and self.state is RowState.FAILING:
            return self.row.error.action
        if self.state is RowState.ENDING and self.ends is not None:
            what, end = self.ends
            return f"On {end:%Y-%m-%d} {what} ends: renew it before."
        if self.state is RowState.EXPIRED:
            if self.row.has_only_access_token:
                return _LOGIN
            failing = self.row.failure_count or self.row.last_error
            return _ACTIONS[RowState.FAILING] if failing else f"Run: {TOKEN_MANAGER}; and look whether cron does."
        return _ACTIONS.get(self.state, "").replace("LOCATION", self.row.location_id)


def row_state(
    row: Row,
    provider: ProviderSummary | None,
    policy: DuePolicy,
    now: datetime,
    ends: tuple[str, datetime] | None = None,
) -> RowState:
    """The state of one row.

    Args:
        provider: None where the catalogue does not have the row's.
        ends: what no refresh moves; see `next_end`.
    """
    if row.status in IDLE_STATUSES:
        return RowState(row.status)
    if row.error is not None:
        return RowState.FAILING
    if not (row.encrypted_refresh or row.has_only_access_token):
        return RowState.WAITING
    if row.access_token_expiry is not None and row.access_token_expiry <= now:
        return RowState.EXPIRED
    if row.failure_count or row.last_error:
        return RowState.FAILING
    if row.has_only_access_token:
        return RowState.ENDING if _ends_soon(row, now) else RowState.FRESH
    if ends is not None:
        return RowState.ENDING
    return RowState.DUE if policy.is_due(row, provider, now) else RowState.FRESH


def check_clients(rows: Iterable[RowStatus]) -> Iterator[Check]:
    """What `doctor` says of the clients that need a person; nothing where none does."""
    names = [f"{one.row.location_id} ({one.state})" for one in rows if one.state in ALARMS]
    if names:
        shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
        yield Check("clients", BAD, f"{len(names)} need somebody: {shown}", f"See: {TOKEN_MANAGER} status")


def _ends_soon(row: Row, now: datetime) -> bool:
    return row.access_token_expiry is not None and row.access_token_expiry - now < ENDING


def row_statuses(
    rows: Iterable[Row], providers: ProviderIndex, default_provider: str, policy: DuePolicy, now: datetime
) -> list[RowStatus]:
    """All rows with their states: first those that need a person, then by location and provider."""
    named = [(row, providers.slug_of(row.provider or default_provider) or row.provider) for row in rows]
    known = providers.summaries
    ends = {row.key: next_end(row, name, providers.get, now) for row, name in named}
    statuses = [
        RowStatus(row, name, row_state(row, known.get(name), policy, now, ends.get(row.key)), ends.get(row.key))
        for row, name in named
    ]
    return sorted(statuses, key=lambda one: (_ORDER.index(one.state), one.row.location_id, one.provider))


def with_remembered_failures(rows: Iterable[Row], folder: Path, keyring: Keyring, columns: frozenset[str]) -> list[Row]:
    """Rows with what their table does not say of their failures, read beside a run that is active.

    `folder` is the store's state folder; `columns` are those that say it themselves.
    """
    known = read_failures(folder)

    def find(row: Row) -> Failure | None:
        failure = known.get(row.key)
        return failure if failure is not None and failure.is_of(keyring.fingerprints(row.encrypted_refresh)) else None

    return [_with_unmarked_failure(with_remembered_failure(row, find(row), columns), find(row)) for row in rows]


def _with_unmarked_failure(row: Row, failure: Failure | None) -> Row:
    """A refused client is no row's fault, so none is marked; but whoever looks at its rows has to know."""
    if failure is None or failure.tried_at is None or row.last_error or row.status in IDLE_STATUSES:
        return row
    if row.last_refreshed is not None and row.last_refreshed >= failure.tried_at:
        return row
    return replace(row, last_error=failure.last_error, failure_count=failure.failure_count)
