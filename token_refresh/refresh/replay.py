"""When a refresh token may be sent, or sent again. Rules without I/O: what is known is handed in.

Most providers accept a refresh token once. A provider's `replay` says what it makes of a second time: `safe` (it gives
the same answer again), `once` (one more request is harmless), `last_minute` (it may revoke the whole grant). Some have
a window after the first time in which a second one brings a pair whatever `replay` says: so the first request ends
early enough for another to begin in it.
"""

from __future__ import annotations

import enum
import math
from datetime import datetime, timedelta

from providers.base import SERVER_ERROR, TOO_MANY_REQUESTS, Judgement, Provider, ProviderSummary, Verdict
from token_refresh.journal.entries import Entry
from token_refresh.journal.failures import A_DAY, Failure
from token_refresh.net.transport import EXCHANGE_SECONDS

MAX_ATTEMPTS = 3  # of one refresh token, in one run
SHORTEST_WINDOW = 15  # seconds; a shorter one leaves no room for a second request
FIRST_SECONDS = 12.0  # of the first request where there is a window, and a third of that at most
# How long a dead grant is tried again where the provider is known to err: a week, and what a run takes.
DOUBT = timedelta(days=7, hours=1)


class Wait(enum.Enum):
    """Why a refresh token is not sent in this run, although its row was asked for: in words about `provider`."""

    TOO_EARLY = "{provider.name} accepts a refresh only {provider.earliest} s before the access token ends"
    UNDER_WAY = "a request of an earlier run may still be on its way"
    LAST_MINUTE = "the last answer was lost; the provider is asked again when the access token runs out"


def is_lost(provider: Provider, answer: Judgement) -> bool:
    """Whether the provider may have replaced the refresh token without our knowing the new one."""
    return answer.verdict is Verdict.UNCLEAR and not answer.brings_refresh_token and provider.rotates != "never"


def window_of(provider: Provider) -> int:
    """Seconds after its first use in which a refresh token brings a pair again; 0: there is no such time."""
    return provider.replay_window if provider.replay_window >= SHORTEST_WINDOW else 0


def limit_of(provider: Provider | None, *, is_first: bool) -> float:
    """Seconds that a request may take, of any provider where none is named; `is_first`: no answer was lost before."""
    window = window_of(provider) if provider is not None and is_first else 0
    return min(FIRST_SECONDS, window / 3) or EXCHANGE_SECONDS


def may_resend_within(provider: Provider, attempts: int, *, was_lost: bool, is_last_minute: bool) -> float:
    """How many seconds after its request left a token whose answer was just lost may be sent once more at once.

    `attempts` went out in this run; `was_lost`: an answer before this one was lost, too, in this run or an earlier
    one; `is_last_minute`: the old access token is nearly out. 0: never; infinite: whenever the run comes to it.
    """
    if provider.replay == "safe":  # but often only for minutes: the next run may come too late
        return math.inf if attempts < MAX_ATTEMPTS else 0
    if was_lost:
        return 0
    return math.inf if provider.replay == "once" or is_last_minute else window_of(provider)


def may_retry(answer: Judgement, attempts: int) -> bool:
    """Whether a token that was not spent is sent again in this run: `attempts` went out, and the failure may pass."""
    is_passing = answer.status is None or answer.status == TOO_MANY_REQUESTS or answer.status >= SERVER_ERROR
    return is_passing and answer.verdict in (Verdict.NOT_ACTED, Verdict.UNCLEAR) and attempts < MAX_ATTEMPTS


def arrives_by(entry: Entry, provider: Provider | None = None) -> datetime:
    """From when on the last request of a dead run can no longer arrive at its provider; without `provider`, at any."""
    return entry.sent_at + timedelta(seconds=limit_of(provider, is_first=entry.lost_at is None))


def is_in_window(provider: Provider, lost: Entry, now: datetime) -> bool:
    """Whether a dead run sent a token once, and so short a time ago that another request brings a pair."""
    return lost.lost_at is None and timedelta(0) <= now - lost.sent_at < timedelta(seconds=window_of(provider))


def reason_to_wait(
    provider: Provider, expires_at: datetime | None, lost: Entry | None, now: datetime, last_minute: datetime | None
) -> tuple[Wait, datetime] | None:
    """Why a row's token is not sent yet, and until when; None where it is.

    Args:
        expires_at: when the row's access token ends.
        lost: the entry of the last request with it, where an earlier run never saw the answer. In the window it has
            to wait, too, but for seconds: the run itself does that.
        last_minute: when the access token is nearly out; None where its end is not known.
    """
    if expires_at is not None and provider.earliest:
        opens_at = expires_at - timedelta(seconds=provider.earliest)
        if now < opens_at:
            return Wait.TOO_EARLY, opens_at
    if lost is None or is_in_window(provider, lost, now):
        return None
    if now < (until := arrives_by(lost, provider)):
        return Wait.UNDER_WAY, until
    if provider.replay == "last_minute" and last_minute is not None and now < last_minute:
        return Wait.LAST_MINUTE, last_minute
    return None


def is_used_up(provider: Provider, *, is_spent: bool) -> bool:
    """Whether a refresh token must not be sent because it was replaced by one that was stored."""
    return is_spent and provider.rotates != "never" and provider.replay != "safe"


def is_newer(superseded: Entry, provider: Provider, spent_at: datetime | None) -> bool:
    """Whether kept tokens came after a token of their row that must not be sent: it was replaced before their request.

    Of another credential, which the row had before, they are older, and the newer token is elsewhere.
    """
    is_after = spent_at is not None and spent_at <= superseded.started_at
    return is_after and superseded.provider == provider.slug and is_used_up(provider, is_spent=True)


def may_live(provider: ProviderSummary | None, failure: Failure, now: datetime) -> bool:
    """Whether a grant that was found dead is tried again: once a day, where the provider is known to err."""
    if provider is None or failure.dead_since is None or failure.tried_at is None:
        return False
    is_doubtful = provider.unreliable_invalid_grant and now - failure.dead_since <= DOUBT
    was_tried = timedelta(0) <= now - failure.tried_at < A_DAY  # in the future: by a clock that was wrong
    return is_doubtful and not was_tried
