"""How the month's calls stand against the Airtable plan."""

from __future__ import annotations

from dataclasses import dataclass

# Calls a workspace a month, airtable.com/pricing; the larger plans have no cap.
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
        said = f"{self.calls} Airtable calls this month from this machine, {self.forecast} by its end"
        return said if self.limit is None else f"{said}; the plan has {self.limit}"


SHORT_ACTION = "Run less often, or change the plan."
UNKNOWN_ACTION = "Set AIRTABLE_PLAN to compare it with your plan."
