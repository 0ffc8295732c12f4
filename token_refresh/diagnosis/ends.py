"""What of a client ends on a day that no refresh moves: its login, a refresh token that stays, the app's secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from providers.base import Provider, ProviderError
from token_refresh.base.clock import parse_day
from token_refresh.refresh.jobs import read_params
from token_refresh.refresh.listing import WARNED_AHEAD
from token_refresh.stores.base import IDLE_STATUSES, Row

ONE_DAY = timedelta(days=1)
ACCESS_TOKEN, REFRESH_TOKEN, CLIENT_SECRET = "access_token", "refresh_token", "client_secret"
WORDS = {
    ACCESS_TOKEN: "its access token",
    REFRESH_TOKEN: "its refresh token",
    CLIENT_SECRET: "the client secret of its app",
}


def ends_of(row: Row, provider: Provider) -> Iterator[tuple[str, datetime]]:
    """What ends, a name of `WORDS`, and when. Raises `ProviderError` for parameters that cannot be read."""
    end = row.refresh_token_expiry
    is_moved = provider.rotates != "never" and not provider.login.refresh_ends_anyway
    if end is not None and (row.status in IDLE_STATUSES or not is_moved):
        yield REFRESH_TOKEN, end
    secret_ends = parse_day(read_params(row.provider_params).get("secret_ends", ""))
    if secret_ends is not None:
        yield CLIENT_SECRET, secret_ends


def next_end(row: Row, slug: str, get: Callable[[str], Provider], now: datetime) -> tuple[str, datetime] | None:
    """The first of them within 30 days, or over since a day; None where there is none, or the provider is not known."""
    try:
        ends = list(ends_of(row, get(slug)))
    except ProviderError:
        return None
    near = [one for one in ends if now - ONE_DAY < one[1] < now + WARNED_AHEAD]
    return min(near, key=lambda one: one[1], default=None)
