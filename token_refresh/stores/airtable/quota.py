"""How the month's calls stand against the Airtable plan."""

from __future__ import annotations

from dataclasses import dataclass

from token_refresh.base.checks import BAD, DOUBTFUL, GOOD, Check
from token_refresh.base.text import counted
from token_refresh.stores.base import Usage

# Calls a workspace a month, airtable.com/pricing; the larger plans have no cap.
CALLS_OF_AN_IDLE_RUN = 1
MONTHLY_CALLS = {"free": 1_000, "team": 100_000}


@dataclass(frozen=True)
class Quota:
    """What this machine has called this month, what it leads to, and what the plan allows (None: no cap known)."""

    calls: int
    forecast: int
    limit: int | None

    @classmethod
    def of(cls, plan: str, calls: int, forecast: int) -> Quota:
        """The stand under this plan (empty: not known)."""
        return cls(calls, forecast, MONTHLY_CALLS.get(plan))

    @property
    def is_short(self) -> bool:
        """Whether the month ends after the calls do."""
        return self.limit is not None and self.forecast > self.limit

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.limit is not None and self.calls >= self.limit

    def __str__(self) -> str:
        said = f"{counted(self.calls, 'Airtable call')} this month from this machine, {self.forecast} by its end"
        return said if self.limit is None else f"{said}; the plan has {self.limit}"


SHORT_ACTION = "Run less often, or change the plan."
UNKNOWN_ACTION = "Set AIRTABLE_PLAN to compare it with your plan."


def check_quota(plan: str, usage: Usage, interval: int) -> Check:
    """How the month's calls stand against the plan (empty: not known); `interval`: seconds between two runs.

    However few calls were made so far, each run that is still to come makes some.
    """
    least = usage.calls + round(CALLS_OF_AN_IDLE_RUN * usage.seconds_left / interval)
    stand = Quota.of(plan, usage.calls, max(usage.forecast, least))
    if stand.is_short:
        return Check("quota", BAD if stand.is_spent else DOUBTFUL, str(stand), SHORT_ACTION)
    return Check("quota", GOOD, str(stand), "" if plan else UNKNOWN_ACTION)
