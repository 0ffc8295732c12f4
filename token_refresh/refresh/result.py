"""What an answer means for its row: outcome and words, cells without a token, what is remembered of a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from crypto import Keyring
from providers.base import Answer, Rotation, Verdict
from token_refresh.base.errors import Kind
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER
from token_refresh.base.text import safe_error
from token_refresh.journal.failures import Failure
from token_refresh.refresh.due import stated_lifetime
from token_refresh.refresh.jobs import Job, UnusableRow
from token_refresh.stores.base import IDLE_STATUSES, STATUS_ACTIVE, STATUS_REAUTHORIZE, Row, Value

_OUTCOMES = {
    Verdict.GRANTED: Outcome.REFRESHED,
    Verdict.DEAD_GRANT: Outcome.REAUTHORIZE,
    Verdict.CLIENT_REFUSED: Outcome.OPERATOR,
    Verdict.REQUEST_REFUSED: Outcome.OPERATOR,
    Verdict.NOT_ACTED: Outcome.TRANSIENT,
    Verdict.UNREAD: Outcome.OPERATOR,
}
_ACTIONS = {
    Outcome.TRANSIENT: "Nothing to do if it passes: the next run tries again.",
    Outcome.UNKNOWN: "Nothing to do now: the next run tries again, and the old access token stays in place.",
    Outcome.REAUTHORIZE: f"A person must log in again: connect the account again, then run `{ONBOARD_CLIENT}`.",
    Outcome.OPERATOR: f"Correct the row, or onboard it again with `{ONBOARD_CLIENT}`.",
}
_VERDICT_ACTIONS = {
    Verdict.CLIENT_REFUSED: f"Correct the app's client_id and secret ({ONBOARD_CLIENT}); its rows were left alone.",
    Verdict.UNREAD: (
        f"Report the provider and how its answer looks. To send the same refresh token again: {TOKEN_MANAGER} recover"
        " --resend LOCATION --provider P. To give the answer up: recover --discard LOCATION --provider P."
    ),
}


def outcome_of(verdict: Verdict, rotates: Rotation) -> Outcome:
    """What a verdict means for the row. An unclear answer is harmless where refresh tokens never change."""
    if verdict is Verdict.UNCLEAR:
        return Outcome.TRANSIENT if rotates == "never" else Outcome.UNKNOWN
    return _OUTCOMES[verdict]


def action_of(outcome: Outcome, verdict: Verdict) -> str | None:
    """What to do about an outcome, where the provider has no better advice; None on success."""
    return _VERDICT_ACTIONS.get(verdict) or _ACTIONS.get(outcome)


@dataclass(frozen=True)
class RowResult:
    """The end of one row.

    Attributes:
        finished: what is said of it, once the store has it.
        values: what the row should say, by column.
        failed: the row as it is after its failure; None where it did not fail.
        is_lost: an answer to the token was lost, and it has no successor that is known.
        retry_after: for how many seconds the provider asks to be left alone; None or 0 where it does not.
    """

    finished: RowFinished
    values: Mapping[str, Value]
    failed: Row | None = None
    is_lost: bool = False
    retry_after: float | None = None


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
    if outcome is Outcome.REFRESHED:
        row, ends_at, is_news = job.row, _expires_at(job.row, answer), _is_news(before, None)
        finished = RowFinished(row.location_id, job.provider.slug, outcome, None, None, ends_at, is_news, row.client_id)
        return RowResult(finished, _success_values(row, answer, ends_at, refreshed_by))
    error = _error(job, answer, verdict, lost_at)
    action = _masked(job, answer.action) or action_of(outcome, verdict)
    result = _failure(job.row, job.provider.slug, outcome, error, action, before)
    # A refused client is no row's fault: none is marked.
    values = {} if verdict is Verdict.CLIENT_REFUSED else result.values
    retry_after = answer.retry_after if outcome in (Outcome.TRANSIENT, Outcome.UNKNOWN) else None
    is_lost = not job.has_successor_in(answer) and (outcome is Outcome.UNKNOWN or lost_at is not None)
    return replace(result, values=values, is_lost=is_lost, retry_after=retry_after)


def result_of_unusable(fault: UnusableRow, before: Failure | None) -> RowResult:
    """What to say of a row that cannot be tried; its cells are only touched where they do not say so already."""
    error = safe_error(str(fault.error))
    result = _failure(fault.row, fault.provider, Outcome.OPERATOR, error, fault.error.action, before)
    is_news, unreadable = before is None or before.last_error != error, fault.error.kind is Kind.UNREADABLE_CELL
    values = result.values if fault.row.last_error != error else {}
    return replace(result, finished=replace(result.finished, is_news=is_news, is_unreadable=unreadable), values=values)


def result_of_refuted(job: Job, answer: Answer, before: Failure | None) -> RowResult:
    """What to say of a row whose unproven token was refused, and that gets the one before back."""
    said = _masked(job, answer.error)
    error = f"the last answer brought a refresh token that does not work; the one before is back ({said})"
    return _failure(job.row, job.provider.slug, Outcome.UNKNOWN, error, _ACTIONS[Outcome.UNKNOWN], before)


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
    return values | _differing(row, {"last_error": "", "failure_count": 0, "status": status, "previous_refresh": ""})


def _error(job: Job, answer: Answer, verdict: Verdict, lost_at: datetime | None) -> str:
    """What to say of a refresh that failed."""
    error = _masked(job, answer.error)
    if verdict is Verdict.DEAD_GRANT and lost_at is not None:
        return f"the answer was lost on {lost_at:%Y-%m-%d %H:%M} UTC, and the token is spent ({error})"
    return error


def _masked(job: Job, words: str | None) -> str:
    """What a provider said, or an address that it named, without what it was sent."""
    return safe_error(words or "", job.credential.refresh_token, job.credential.client_secret)


def _failure(
    row: Row, provider: str, outcome: Outcome, error: str, action: str | None, before: Failure | None
) -> RowResult:
    """What any failure means for its row."""
    status = STATUS_REAUTHORIZE if outcome is Outcome.REAUTHORIZE else row.status
    failed = replace(row, last_error=error, failure_count=row.failure_count + 1, status=status)
    end, is_news = row.access_token_expiry, _is_news(before, failed)
    finished = RowFinished(row.location_id, provider, outcome, error, action, end, is_news, row.client_id)
    values = _differing(row, {name: getattr(failed, name) for name in ("last_error", "failure_count", "status")})
    return RowResult(finished, values, failed)


def _differing(row: Row, values: dict[str, Value]) -> dict[str, Value]:
    """A write names only the columns it changes."""
    return {name: value for name, value in values.items() if getattr(row, name) != value}


def _is_news(before: Failure | None, failed: Row | None) -> bool:
    """The first failure, the change to `reauthorize`, and the recovery; `before` is what was remembered."""
    if failed is None or before is None:
        return (failed is None) == (before is not None)
    return failed.status != before.status


def with_remembered_failure(row: Row, failure: Failure | None, columns: frozenset[str]) -> Row:
    """The row with what its table has no columns for; `failure` is what is remembered of it."""
    if failure is None:
        return row
    known = {"status": failure.status, "last_error": failure.last_error, "failure_count": failure.failure_count}
    missing: dict[str, Any] = {name: value for name, value in known.items() if name not in columns}
    if row.status in IDLE_STATUSES:
        missing.pop("status", None)  # a person's word, in a column that does not hold every one of ours
    return replace(row, **missing) if missing else row


def failure_of(row: Row, keyring: Keyring, now: datetime, retry_after: float | None = None) -> Failure:
    """What is to be remembered of a row, handed in as it is after its failure; for `retry_after` see `RowResult`."""
    cell = keyring.fingerprint(row.encrypted_refresh)
    dead_since = now if row.status == STATUS_REAUTHORIZE else None
    said = (row.status, row.last_error, row.failure_count)
    retry_at = now + timedelta(seconds=retry_after) if retry_after else None
    return Failure(row.key, row.location_id, row.provider, cell, *said, dead_since, now, retry_at)
