"""When a token is due. Pure rules on a clock that is handed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.base import FALLBACK_LIFETIME_SECONDS, ProviderSummary
from token_refresh.stores.base import DueQuery, Row

EARLY_SHARE = 1 / 3  # a long-lived token is renewed when a third of its life is left
LATEST_SHARE = 9 / 10  # a run right after another finds nothing due
ENDING = timedelta(days=7)  # before an access token that nothing refreshes ends: a person needs time for a login
AHEAD = timedelta(minutes=5)  # so far in the future a time that we wrote may lie: another machine's clock


@dataclass(frozen=True)
class DuePolicy:
    """How early tokens are refreshed.

    Args:
        interval: seconds between two runs.
        buffer: seconds of safety on top.
    """

    interval: int
    buffer: int

    def window(self, lifetime: float, earliest: int = 0) -> timedelta:
        """How long before its expiry a token of this lifetime (seconds) is due.

        `earliest` is how many seconds before expiry its provider accepts a refresh at all; 0: any time.
        """
        seconds = min(max(self._two_runs, lifetime * EARLY_SHARE), lifetime * LATEST_SHARE)
        return timedelta(seconds=min(seconds, earliest) if earliest else seconds)

    @property
    def _two_runs(self) -> int:
        """Seconds in which a refresh that fails is tried once more."""
        return 2 * self.interval + self.buffer

    def is_due(self, row: Row, provider: ProviderSummary | None, now: datetime) -> bool:
        """Whether the row's token is to be refreshed now. A missing, unreadable or impossible expiry is due.

        So is a row whose provider the catalogue does not have: somebody has to hear of it. Where a provider gives
        nothing to refresh with, nothing is.
        """
        if provider is not None and provider.grant == "none":
            return False
        if provider is None or row.access_token_expiry is None or self.is_impossible(row, provider, now):
            return True
        left = row.access_token_expiry - now
        return left < self.window(lifetime_of(row, provider), provider.earliest) or self._is_ending(row, provider, now)

    def _is_ending(self, row: Row, provider: ProviderSummary, now: datetime) -> bool:
        """Whether the refresh token itself ends soon, where a refresh brings another one."""
        end, last = row.refresh_token_expiry, row.last_refreshed
        if end is None or provider.rotates == "never" or (last is not None and last >= end):
            return False  # a token that was refreshed after its end has another one
        lifetime = end - last if last is not None else timedelta.max
        return end - now < min(timedelta(seconds=self._two_runs), lifetime * LATEST_SHARE)

    def is_impossible(self, row: Row, provider: ProviderSummary, now: datetime) -> bool:
        """Whether the row's times cannot be: refreshed in the future, or with more life than its provider gives."""
        if row.last_refreshed is None:
            return False
        claim = row.access_token_expiry - now if row.access_token_expiry is not None else timedelta(0)
        return row.last_refreshed > now + AHEAD or claim > timedelta(seconds=provider.longest_lifetime)

    def query(self, providers: Iterable[ProviderSummary], default_provider: str, now: datetime) -> DueQuery:
        """One cut-off a provider, by its catalogue lifetime; `is_due` then looks at each row's own.

        A row's token may live longer than the catalogue says, so none is cut off that would run out before the
        next run. The many providers that have the cut-off of all others are not named, so that the stores' filters
        stay short. A row that spells its provider in a way that is not named has that cut-off, too: it is found
        before its token ends, but perhaps later than its provider's other rows.
        """
        other = now + self._reach(FALLBACK_LIFETIME_SECONDS)
        cutoffs: dict[str, datetime] = {}
        providers = list(providers)
        for entry in providers:
            cutoff = now + self._reach(entry.default_lifetime, entry.earliest)
            for name in entry.spellings:  # where two share a name, the later cut-off lets through the rows of both
                cutoffs[name] = max(cutoff, cutoffs.get(name, cutoff))
        named = {name: cutoff for name, cutoff in cutoffs.items() if cutoff != other}
        latest = now + timedelta(seconds=max((entry.longest_lifetime for entry in providers), default=0))
        ending = now + timedelta(seconds=self._two_runs)
        return DueQuery(named, other, default_provider, latest=latest, ahead=now + AHEAD, ending=ending)

    def _reach(self, lifetime: float, earliest: int = 0) -> timedelta:
        seconds = self._two_runs
        return max(self.window(lifetime, earliest), timedelta(seconds=min(seconds, earliest) if earliest else seconds))

    def believed_expiry(self, row: Row, provider: ProviderSummary, now: datetime) -> datetime | None:
        """When its access token ends; None where nothing that can be says so."""
        return None if self.is_impossible(row, provider, now) else row.access_token_expiry

    def last_minute(self, expires_at: datetime | None) -> datetime | None:
        """When an access token with this end is nearly out: before the next run; None where its end is unknown."""
        return None if expires_at is None else expires_at - timedelta(seconds=self.interval + self.buffer)

    def is_last_minute(self, row: Row, provider: ProviderSummary, now: datetime) -> bool:
        """Whether the old access token is nearly out, or its expiry unknown."""
        moment = self.last_minute(self.believed_expiry(row, provider, now))
        return moment is None or now > moment

    def runs_in(self, provider: ProviderSummary) -> int:
        """How many runs, two at most, come between the time that a token of this provider is due and its end."""
        window = self.window(provider.default_lifetime, provider.earliest).total_seconds()
        return min(2, int(window // self.interval)) if provider.default_lifetime > self.interval else 0


def stated_lifetime(row: Row) -> timedelta | None:
    """The time between the row's last refresh and its expiry; None where one of them is not known, or cannot be."""
    if row.access_token_expiry is None or row.last_refreshed is None:
        return None
    lifetime = row.access_token_expiry - row.last_refreshed
    return lifetime if lifetime > timedelta(0) else None


def lifetime_of(row: Row, provider: ProviderSummary) -> float:
    """Seconds: the row's own where it is known, else the catalogue's."""
    own = stated_lifetime(row)
    return own.total_seconds() if own is not None else provider.default_lifetime
