"""From what happened to a row to what is written back, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from providers.base import Answer, Verdict
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.base.text import safe_error
from token_refresh.journal.failures import Failure, Failures
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.result import action_of, outcome_of
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    STATUS_REAUTHORIZE,
    Change,
    Row,
    Value,
)
from token_refresh.stores.sealed import SealedStore


@dataclass(frozen=True)
class Pending:
    """A result on its way into the store.

    Attributes:
        entry_id: the journal entry that is finished by it; None where there is none.
        is_lost: the entry stays, as a lost answer.
        is_spent: the token that was sent has a successor among the values.
        failed: the row as it is after its failure; None where it did not fail.
    """

    change: Change
    result: RowFinished
    entry_id: int | None = None
    is_lost: bool = False
    is_spent: bool = False
    failed: Row | None = None
    is_urgent: bool = False
    brings_token: bool = False


class ResultBuilder:
    """Makes the write-back of a row from what happened to it.

    Args:
        store: seals the new cells.
        host_name: for `refreshed_by`.
        failures: says what is news.
    """

    def __init__(self, store: SealedStore, host_name: str, failures: Failures) -> None:
        self._store = store
        self._host_name = host_name
        self._failures = failures

    def of(self, job: Job, answer: Answer, verdict: Verdict, entry_id: int | None, lost_at: datetime | None) -> Pending:
        """The end of a job: new tokens, or what the row should say about the failure.

        `lost_at` is when an earlier answer to the same token was lost; that is remembered until the row is refreshed.
        """
        if job.provider.rotates == "never":
            lost_at = None  # a lost answer cost nothing
        outcome = outcome_of(verdict, job.provider.rotates)
        if lost_at is not None and outcome is Outcome.TRANSIENT:
            outcome = Outcome.UNKNOWN  # this request did nothing, but the one before may have
        brings_token = answer.refresh_token is not None or answer.access_token is not None
        values: dict[str, Value] = {}
        if brings_token:
            values |= self._store.renewed_cells(
                job.row, job.binding, job.opened, answer.access_token, answer.refresh_token
            )
        if brings_token and answer.refresh_expires_at is not None:
            values["refresh_token_expiry"] = answer.refresh_expires_at
        error = None if outcome is Outcome.REFRESHED else _error(job, answer, verdict, lost_at)
        failed = None if error is None else _failed(job.row, outcome, error)
        before = self._failures.find(job.row.key, job.row.encrypted_refresh)
        if failed is None:
            values |= self._success_values(job.row, answer)
        elif verdict is not Verdict.CLIENT_REFUSED:  # a refused client is no row's fault: none is marked
            values |= _failure_values(job.row, failed)
        new_token = answer.refresh_token not in (None, job.credential.refresh_token)
        is_lost = failed is not None and not new_token and (outcome is Outcome.UNKNOWN or lost_at is not None)
        return Pending(
            self._change(job.row, values, keeps_claim=is_lost),
            _result(job, answer, verdict, outcome, error, is_news=_is_news(before, failed)),
            entry_id,
            is_lost=is_lost,
            is_spent=new_token,
            failed=failed,
            is_urgent=job.provider.rotates != "never",
            brings_token=brings_token,
        )

    def of_unusable(self, fault: UnusableRow) -> Pending:
        """A row that cannot be tried; its cell is only touched where it does not say so already."""
        error = safe_error(str(fault.error))
        failed = _failed(fault.row, Outcome.OPERATOR, error)
        before = self._failures.find(fault.row.key, fault.row.encrypted_refresh)
        is_news = before is None or before.last_error != error
        result = RowFinished(
            fault.row.location_id, fault.provider, Outcome.OPERATOR, error, fault.error.action, is_news=is_news
        )
        values = _failure_values(fault.row, failed) if fault.row.last_error != error else {}
        return Pending(self._change(fault.row, values), result, failed=failed)

    def _change(self, row: Row, values: dict[str, Value], *, keeps_claim: bool = False) -> Change:
        columns = self._store.store.columns
        known = {name: value for name, value in values.items() if name in columns}
        return Change(row.key, row.encrypted_refresh, known, keeps_claim)

    def _success_values(self, row: Row, answer: Answer) -> dict[str, Value]:
        values: dict[str, Value] = {"access_token_expiry": answer.expires_at, "refreshed_by": self._host_name}
        values["last_refreshed"] = answer.received_at
        status = STATUS_ACTIVE if row.status == STATUS_REAUTHORIZE else row.status
        return values | _differing(row, {"last_error": "", "failure_count": 0, "status": status})


def _error(job: Job, answer: Answer, verdict: Verdict, lost_at: datetime | None) -> str:
    """What to say of a refresh that failed."""
    error = safe_error(answer.error or "", job.credential.refresh_token, job.credential.client_secret)
    if verdict is Verdict.DEAD_GRANT and lost_at is not None:
        return f"the answer was lost on {lost_at:%Y-%m-%d %H:%M} UTC, and the token is spent ({error})"
    return error


def _result(
    job: Job, answer: Answer, verdict: Verdict, outcome: Outcome, error: str | None, *, is_news: bool
) -> RowFinished:
    location_id, slug = job.row.location_id, job.provider.slug
    if error is None:
        return RowFinished(location_id, slug, outcome, expires_at=answer.expires_at, is_news=is_news)
    action = answer.action or action_of(outcome, verdict)
    return RowFinished(location_id, slug, outcome, error, action, job.row.access_token_expiry, is_news)


def _failed(row: Row, outcome: Outcome, error: str) -> Row:
    """The row as it is after a failure."""
    status = STATUS_REAUTHORIZE if outcome is Outcome.REAUTHORIZE else row.status
    return replace(row, last_error=error, failure_count=row.failure_count + 1, status=status)


def _failure_values(row: Row, failed: Row) -> dict[str, Value]:
    names = ("last_error", "failure_count", "status")
    return _differing(row, {name: getattr(failed, name) for name in names})


def _differing(row: Row, values: dict[str, Value]) -> dict[str, Value]:
    """A write names only the columns it changes."""
    return {name: value for name, value in values.items() if getattr(row, name) != value}


def _is_news(before: Failure | None, failed: Row | None) -> bool:
    """The first failure, the change to `reauthorize`, and the recovery; `before` is what was remembered."""
    if failed is None or before is None:
        return (failed is None) == (before is not None)
    return failed.status != before.status
