"""What is said of a row, and remembered, after it was tried: outcome, words, and the cells without a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from providers.base import Answer, Verdict
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.base.text import safe_error
from token_refresh.journal.failures import Failure
from token_refresh.refresh.due import stated_lifetime
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.refresh.result import action_of, outcome_of
from token_refresh.stores.base import STATUS_ACTIVE, STATUS_REAUTHORIZE, Row, Value


@dataclass(frozen=True)
class RowResult:
    """The end of one row.

    Attributes:
        finished: what is said of it, once the store has it.
        values: what the row should say, by column.
        failed: the row as it is after its failure; None where it did not fail.
        is_lost: an answer to the token was lost, and it has no successor that is known.
    """

    finished: RowFinished
    values: Mapping[str, Value]
    failed: Row | None = None
    is_lost: bool = False


def result_of(
    job: Job, answer: Answer, verdict: Verdict, lost_at: datetime | None, before: Failure | None, refreshed_by: str
) -> RowResult:
    """What became of a row that was sent.

    Args:
        job: the row.
        answer: the last one.
        verdict: what it means for the row; after a judgement of the client it may differ from the answer's.
        lost_at: when an earlier answer to the same token was lost; that is remembered until the row is refreshed.
        before: what was remembered of the row.
        refreshed_by: which run this is; see `Claimant.refreshed_by`.
    """
    if job.provider.rotates == "never":
        lost_at = None  # a lost answer cost nothing
    outcome = outcome_of(verdict, job.provider.rotates)
    if lost_at is not None and outcome is Outcome.TRANSIENT:
        outcome = Outcome.UNKNOWN  # this request did nothing, but the one before may have
    location_id, slug = job.row.location_id, job.provider.slug
    if outcome is Outcome.REFRESHED:
        expires_at = _expires_at(job.row, answer)
        finished = RowFinished(location_id, slug, outcome, expires_at=expires_at, is_news=_is_news(before, None))
        return RowResult(finished, _success_values(job.row, answer, expires_at, refreshed_by))
    error = _error(job, answer, verdict, lost_at)
    failed = _failed(job.row, outcome, error)
    action = answer.action or action_of(outcome, verdict)
    is_news = _is_news(before, failed)
    finished = RowFinished(location_id, slug, outcome, error, action, job.row.access_token_expiry, is_news)
    # A refused client is no row's fault: none is marked.
    values = {} if verdict is Verdict.CLIENT_REFUSED else _failure_values(job.row, failed)
    is_lost = not is_spent(job, answer) and (outcome is Outcome.UNKNOWN or lost_at is not None)
    return RowResult(finished, values, failed, is_lost)


def result_of_unusable(fault: UnusableRow, before: Failure | None) -> RowResult:
    """What to say of a row that cannot be tried; its cells are only touched where they do not say so already."""
    error = safe_error(str(fault.error))
    failed = _failed(fault.row, Outcome.OPERATOR, error)
    is_news = before is None or before.last_error != error
    finished = RowFinished(
        fault.row.location_id, fault.provider, Outcome.OPERATOR, error, fault.error.action, is_news=is_news
    )
    return RowResult(finished, _failure_values(fault.row, failed) if fault.row.last_error != error else {}, failed)


def result_of_refuted(job: Job, answer: Answer, before: Failure | None) -> RowResult:
    """What to say of a row whose unproven token was refused, and that gets the one before back."""
    said = safe_error(answer.error or "", job.credential.refresh_token, job.credential.client_secret)
    error = f"the last answer brought a refresh token that does not work; the one before is back ({said})"
    failed = _failed(job.row, Outcome.UNKNOWN, error)
    action = action_of(Outcome.UNKNOWN, Verdict.UNCLEAR)
    finished = RowFinished(
        job.row.location_id, job.provider.slug, Outcome.UNKNOWN, error, action, None, _is_news(before, failed)
    )
    return RowResult(finished, _failure_values(job.row, failed), failed)


def is_spent(job: Job, answer: Answer) -> bool:
    """Whether the refresh token that was sent has a successor in the answer."""
    return answer.refresh_token not in (None, job.credential.refresh_token)


def _expires_at(row: Row, answer: Answer) -> datetime | None:
    """Where the answer does not say when the token ends: by the shorter of the row's last lifetime and the catalogue's.

    Customers set lifetimes at some providers, and the last one was said.
    """
    last = stated_lifetime(row)
    if not answer.is_expiry_assumed or answer.received_at is None or answer.expires_at is None or last is None:
        return answer.expires_at
    return min(answer.expires_at, answer.received_at + last)


def _success_values(row: Row, answer: Answer, expires_at: datetime | None, refreshed_by: str) -> dict[str, Value]:
    values: dict[str, Value] = {"access_token_expiry": expires_at, "refreshed_by": refreshed_by}
    values["last_refreshed"] = answer.received_at
    if answer.refresh_expires_at is not None or answer.refresh_token is not None:
        values |= _differing(row, {"refresh_token_expiry": answer.refresh_expires_at})  # of the one before no more
    status = STATUS_ACTIVE if row.status == STATUS_REAUTHORIZE else row.status
    return values | _differing(row, {"last_error": "", "failure_count": 0, "status": status})


def _error(job: Job, answer: Answer, verdict: Verdict, lost_at: datetime | None) -> str:
    """What to say of a refresh that failed."""
    error = safe_error(answer.error or "", job.credential.refresh_token, job.credential.client_secret)
    if verdict is Verdict.DEAD_GRANT and lost_at is not None:
        return f"the answer was lost on {lost_at:%Y-%m-%d %H:%M} UTC, and the token is spent ({error})"
    return error


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
