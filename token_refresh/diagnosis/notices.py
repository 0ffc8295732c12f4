"""What a person should know of a run and its rows: what it finds wrong although nothing fails by it yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from token_refresh.base.checks import GOOD, Check
from token_refresh.base.errors import RunError
from token_refresh.base.events import Notice, NoticeCode
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.diagnosis.ends import ONE_DAY, WORDS, next_end
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import KNOWN_STATUSES, DueQuery, Row

_TOO_FEW_RUNS = {
    0: "not longer than REFRESH_INTERVAL",
    1: "too short for two runs at REFRESH_INTERVAL: where one refresh fails, the token ends before the next",
}
_CONNECT = f"Connect the account again before, then run: {ONBOARD_CLIENT}"
RARE_RUNS = 1.5  # intervals between two runs that are too many


def first_notices(context: RunContext, scope: Scope, quota: Check | None, last: datetime | None) -> Iterator[Notice]:
    """What a person should know of it at the start of a run.

    Args:
        context, scope: of the run.
        quota: how the store's calls stand against its plan; None where nobody counts them.
        last: when the last run began that came by itself, as far as that is known.
    """
    if last is not None and not (scope.is_by_hand or scope.dry_run or scope.takeover):
        yield from _rare_runs(last, context.policy.interval, context.clock.now())
    if quota is not None and quota.state != GOOD:  # once the calls are spent nothing can be stored, nor refreshed
        yield Notice(NoticeCode.QUOTA_SHORT, None, quota.message, quota.action)


def table_notices(context: RunContext, last: Path | None) -> Iterator[Notice]:
    """What to say of a database without rows.

    Args:
        context: of the run.
        last: the folder of the table that the last run at this address found rows in.

    Raises:
        RunError: that table is gone, or elsewhere.
    """
    store = context.store.store
    if not store.claims or last == context.folder or not store.is_empty():
        return
    if last is not None:
        raise RunError(
            "the table has no rows, and is not the one that the last run refreshed: that one is gone, or elsewhere",
            "Put its file back, or correct DATABASE_URL or STATE_DIR. To begin again, onboard a client.",
        )
    action = f"Add a client: {ONBOARD_CLIENT}. If there should be some, correct DATABASE_URL or STATE_DIR."
    yield Notice(NoticeCode.TABLE_EMPTY, None, "the table has no rows: nothing can be refreshed", action)


def row_notices(context: RunContext, listed: Sequence[Row], due: Sequence[Row], query: DueQuery) -> Iterator[Notice]:
    """What a person should know of the rows that `query` listed, and of those among them that are due."""
    yield from filter(None, map(unknown_status_notice, due))
    yield from _of_lifetimes(context, due)
    yield from _of_times(context, due)
    yield from _of_ends(context, listed, query)
    yield from _of_lone_tokens(context, listed)


def _rare_runs(last: datetime, interval: int, now: datetime) -> Iterator[Notice]:
    """Tokens are renewed in time only if the program knows how often it is run."""
    if (now - last).total_seconds() > RARE_RUNS * interval:
        yield Notice(
            NoticeCode.RARE_RUNS,
            None,
            f"the last run was at {last:%Y-%m-%d %H:%M} UTC, longer ago than REFRESH_INTERVAL ({interval} s)",
            "Set REFRESH_INTERVAL to the seconds between two runs of cron.",
        )


def unknown_status_notice(row: Row) -> Notice | None:
    """What to say of a status that means nothing to the program; such a row counts as active."""
    if row.status in KNOWN_STATUSES:
        return None
    message = f"status {row.status[:40]!r} is not known and counts as active"
    return Notice(NoticeCode.UNKNOWN_STATUS, row.location_id, message, provider=row.provider or None)


def _of_lifetimes(context: RunContext, rows: Iterable[Row]) -> list[Notice]:
    """What to say of each provider whose tokens expire before the next run can renew them."""
    named = {provider.slug: provider for row in rows if (provider := context.provider_of(row)) is not None}
    return [
        Notice(
            NoticeCode.SHORT_LIFETIME,
            None,
            f"{provider.name}: tokens live {provider.default_lifetime} s, {_TOO_FEW_RUNS[runs]}",
            "Run cron more often and lower it, or ask for a token with `get` when it is needed.",
            provider.slug,
        )
        for _, provider in sorted(named.items())
        if (runs := context.policy.runs_in(provider)) in _TOO_FEW_RUNS
    ]


def _of_ends(context: RunContext, rows: Iterable[Row], query: DueQuery) -> Iterator[Notice]:
    """What to say, once a day, of what ends within 30 days and no refresh moves."""
    now = context.clock.now()
    for row in rows if query.lone is not None else ():
        slug = context.job_factory.provider_name(row)
        if (found := next_end(row, slug, context.job_factory.find_provider, now)) is not None:
            message = f"{WORDS[found[0]]} ends on {found[1]:%Y-%m-%d %H:%M} UTC, and no refresh renews it"
            yield Notice(NoticeCode.LOGIN_ENDS, row.location_id, message, _CONNECT, slug)


def _of_lone_tokens(context: RunContext, rows: Iterable[Row]) -> Iterator[Notice]:
    """What to say of access tokens that nothing refreshes and that end soon, or did since the last look."""
    now = context.clock.now()
    for row in rows:
        end = row.access_token_expiry
        if row.encrypted_refresh or row.error is not None or end is None or end < now - ONE_DAY:
            continue
        verb, action = ("ends", _CONNECT) if end > now else ("ended", _CONNECT.replace(" before", ""))
        message = f"its access token {verb} on {end:%Y-%m-%d %H:%M} UTC, and there is no refresh token"
        provider = context.job_factory.provider_name(row)
        yield Notice(NoticeCode.LOGIN_ENDS, row.location_id, message, action, provider)


def _of_times(context: RunContext, rows: Iterable[Row]) -> Iterator[Notice]:
    """What to say of rows whose times cannot be."""
    now = context.clock.now()
    for row in rows:
        provider = context.provider_of(row)
        if provider is not None and context.policy.is_impossible(row, provider, now):
            times = ", ".join(
                f"{name} {moment:%Y-%m-%d %H:%M}"
                for name, moment in (("last_refreshed", row.last_refreshed), ("expiry", row.access_token_expiry))
                if moment is not None
            )
            message = f"its times cannot be ({times} UTC): written by hand, or by a clock that was wrong; it is due now"
            yield Notice(NoticeCode.IMPOSSIBLE_TIME, row.location_id, message, provider=provider.slug)
