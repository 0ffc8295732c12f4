"""When a token is due. Pure rules on a clock that is handed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.base import FALLBACK_LIFETIME_SECONDS, ProviderSummary
from token_refresh.stores.base import DueQuery, Row

EARLY_SHARE = 1 / 3  # a long-lived token is renewed when a third of its life is left
LATEST_SHARE = 9 / 10  # a run right after another finds nothing due
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
        seconds = min(max(self.interval + self.buffer, lifetime * EARLY_SHARE), lifetime * LATEST_SHARE)
        return timedelta(seconds=min(seconds, earliest) if earliest else seconds)

    def is_due(self, row: Row, provider: ProviderSummary | None, now: datetime) -> bool:
        """Whether the row's token is to be refreshed now. A missing, unreadable or impossible expiry is due.

        So is a row whose provider the catalogue does not have: somebody has to hear of it.
        """
        if provider is None or row.access_token_expiry is None or self.is_impossible(row, provider, now):
            return True
        return row.access_token_expiry - now < self.window(lifetime_of(row, provider), provider.earliest)

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
        return DueQuery(named, other, default_provider, latest=latest, ahead=now + AHEAD)

    def _reach(self, lifetime: float, earliest: int = 0) -> timedelta:
        seconds = self.interval + self.buffer
        return max(self.window(lifetime, earliest), timedelta(seconds=min(seconds, earliest) if earliest else seconds))

    def is_last_minute(self, row: Row, now: datetime) -> bool:
        """Whether the old access token is nearly out, or its expiry unknown."""
        if row.access_token_expiry is None:
            return True
        return row.access_token_expiry - now < timedelta(seconds=self.interval + self.buffer)

    def outpaces(self, provider: ProviderSummary) -> bool:
        """Whether a token of this provider can live through the time between two runs."""
        return provider.default_lifetime > self.interval


def lifetime_of(row: Row, provider: ProviderSummary) -> float:
    """Seconds between the row's last refresh and its expiry where both are known, else the catalogue's lifetime."""
    if row.access_token_expiry is not None and row.last_refreshed is not None:
        lifetime = (row.access_token_expiry - row.last_refreshed).total_seconds()
        if lifetime > 0:
            return lifetime
    return provider.default_lifetime
