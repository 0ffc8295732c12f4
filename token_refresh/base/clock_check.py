"""Our clock against every other that a run hears of: what is due, waited for and forgotten hangs on it.

`offset` is how far another clock is ahead of ours; None where it said nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from token_refresh.base.errors import RunError
from token_refresh.base.events import Notice, NoticeCode

TOLERANCE = timedelta(minutes=5)
HOPELESS = timedelta(days=1)
_ACTION = "Set the clock of this machine, and have it kept right (NTP)."


def clock_notice(name: str, offset: timedelta | None, now: datetime, provider: str | None = None) -> Notice | None:
    """What to say where the clock of `name` and ours are five minutes apart or more."""
    if offset is None or abs(offset) < TOLERANCE:
        return None
    return Notice(NoticeCode.CLOCK_OFF, None, _sentence(name, offset, now), _ACTION, provider)


def refuse_hopeless(name: str, offset: timedelta | None, now: datetime) -> None:
    """With a clock that is a day off nothing may be refreshed.

    Raises:
        RunError: the clock of `name` says so.
    """
    if offset is not None and abs(offset) >= HOPELESS:
        raise RunError(_sentence(name, offset, now), _ACTION)


def _sentence(name: str, offset: timedelta, now: datetime) -> str:
    return f"the clock here says {now:%Y-%m-%d %H:%M} UTC, that of {name} {now + offset:%Y-%m-%d %H:%M} UTC"
