"""When a refresh token may be sent, or sent again. Rules without I/O: what is known is handed in.

Most providers accept a refresh token once. A provider's `replay` says what it makes of a second time: `safe` (it gives
the same answer again), `once` (one more request is harmless), `last_minute` (it may revoke the whole grant).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from providers.base import SERVER_ERROR, TOO_MANY_REQUESTS, Judgement, Provider, ProviderSummary, Verdict
from token_refresh.base.events import NoticeCode
from token_refresh.journal.failures import A_DAY, Failure
from token_refresh.net.transport import EXCHANGE_SECONDS

MAX_ATTEMPTS = 3  # of one refresh token, in one run
# How long a dead grant is tried again where the provider is known to err: a week, and what a run takes.
DOUBT = timedelta(days=7, hours=1)


def is_lost(provider: Provider, answer: Judgement) -> bool:
    """Whether the provider may have replaced the refresh token without our knowing the new one."""
    return answer.verdict is Verdict.UNCLEAR and not answer.brings_refresh_token and provider.rotates != "never"


def may_resend(provider: Provider, attempts: int, *, was_lost: bool, is_last_minute: bool) -> bool:
    """Whether a refresh token whose answer was just lost may be sent once more at once.

    `attempts` went out in this run; `was_lost`: an answer before this one was lost, too, in this run or an earlier
    one; `is_last_minute`: the old access token is nearly out.
    """
    if provider.replay == "safe":  # but often only for minutes: the next run may come too late
        return attempts < MAX_ATTEMPTS
    return not was_lost and (provider.replay == "once" or is_last_minute)


def may_retry(answer: Judgement, attempts: int) -> bool:
    """Whether a token that was not spent is sent again in this run: `attempts` went out, and the failure may pass."""
    is_passing = answer.status is None or answer.status == TOO_MANY_REQUESTS or answer.status >= SERVER_ERROR
    return is_passing and answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR) and attempts < MAX_ATTEMPTS


def is_under_way(sent_at: datetime, now: datetime) -> bool:
    """Whether a request that a dead run sent may still arrive at its provider.

    `sent_at` is not in the future: see `Journal.correct_times`.
    """
    return now - sent_at < timedelta(seconds=EXCHANGE_SECONDS)


def reason_to_wait(
    provider: Provider, expires_at: datetime | None, lost_sent_at: datetime | None, now: datetime, *, last_minute: bool
) -> NoticeCode | None:
    """Why a row's token is not sent yet; None where it is.

    `lost_sent_at`: when the last request with it left, where an earlier run never saw the answer.
    """
    left = expires_at - now if expires_at is not None else timedelta(0)
    if provider.earliest and left > timedelta(seconds=provider.earliest):
        return NoticeCode.TOO_EARLY
    if lost_sent_at is None:
        return None
    if is_under_way(lost_sent_at, now):
        return NoticeCode.REQUEST_UNDER_WAY
    return NoticeCode.WAITS_FOR_EXPIRY if provider.replay == "last_minute" and not last_minute else None


def is_used_up(provider: Provider, *, is_spent: bool) -> bool:
    """Whether a refresh token must not be sent because it was replaced by one that was stored."""
    return is_spent and provider.rotates != "never" and provider.replay != "safe"


def may_live(provider: ProviderSummary | None, failure: Failure, now: datetime) -> bool:
    """Whether a grant that was found dead is tried again: once a day, where the provider is known to err."""
    if provider is None or failure.dead_since is None or failure.tried_at is None:
        return False
    is_doubtful = provider.unreliable_invalid_grant and now - failure.dead_since <= DOUBT
    was_tried = timedelta(0) <= now - failure.tried_at < A_DAY  # in the future: by a clock that was wrong
    return is_doubtful and not was_tried
