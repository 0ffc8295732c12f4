"""What is known at the end of a run, for everybody who acts after it. Nothing in it is secret."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from token_refresh.base.events import RunFinished


class Code(enum.StrEnum):
    """What news is about, worst first."""

    LOGIN_NEEDED = "login_needed"
    UNREADABLE_CELL = "unreadable_cell"  # with the keys that are configured
    JOURNAL_WAITING = "journal_waiting"  # new tokens that for more than a day could not be stored in the table
    NEEDS_FIXING = "needs_fixing"  # by whoever runs the program
    STORE = "store_unavailable"
    QUOTA = "quota"  # the month's Airtable calls will not last
    FAILING = "failing"
    HOST_UNAVAILABLE = "host_unavailable"  # a provider's; it was not asked any more
    ROTATION_UNFINISHED = "rotation_unfinished"  # some values are still encrypted with an older key
    NOTHING_REFRESHED = "nothing_refreshed"  # rows have been due for two intervals
    ENDING = "ending"  # a refresh token, or the secret of an app, on a day that no refresh moves
    RECOVERED = "recovered"


@dataclass(frozen=True)
class RowFact:
    """One thing of one row that a person should look at; a row may have several.

    Attributes:
        state: the row's, one of the five that `status`, metrics and page show.
        code: `LOGIN_NEEDED`, `UNREADABLE_CELL`, `NEEDS_FIXING`, `FAILING` or `ENDING`. A row fails from its first
            failed run on; the news waits for the second.
        message: what is wrong, without the location and without a full stop.
        action: what to do, as a sentence; may be empty.
        since: when it began; the same time in each run, as long as it lasts. None where nobody knows.
        failures: how many runs have failed it.
        token_ends: when its access token does.
        ends: with `ENDING`: when.
        part: with `ENDING`: what ends, `refresh_token`, `client_secret` or `access_token`.
    """

    location_id: str
    provider: str
    state: str
    code: Code
    message: str
    action: str = ""
    since: datetime | None = None
    failures: int = 0
    token_ends: datetime | None = None
    ends: datetime | None = None
    part: str = ""


@dataclass(frozen=True)
class Usage:
    """How the month's calls of the store stand: so far, by its end, and what the plan has (None: not known)."""

    calls: int
    forecast: int
    limit: int | None


@dataclass(frozen=True)
class Facts:
    """What is known of all rows at the end of a run.

    Attributes:
        rows: what a person should look at.
        tokens: how many rows are in which state, by provider and state; rows that wait for onboarding are not counted.
        next_expiry, refresh_token_ends: the first end of an access token, and of a refresh token, by provider.
        unreadable_cells: how many cannot be decrypted.
        journal_entries: how many the journal of this machine has, by step.
        old_entries: how many of those with new tokens have waited for more than a day.
        rows_to_rotate: how many rows hold a value that an older key encrypted, where a rotation was begun.
        usage: None where nobody counts the store's calls.
    """

    rows: Sequence[RowFact] = ()
    tokens: Mapping[tuple[str, str], int] = field(default_factory=dict)
    next_expiry: Mapping[str, datetime] = field(default_factory=dict)
    refresh_token_ends: Mapping[str, datetime] = field(default_factory=dict)
    unreadable_cells: int = 0
    journal_entries: Mapping[str, int] = field(default_factory=dict)
    old_entries: int = 0
    rows_to_rotate: int = 0
    usage: Usage | None = None


@dataclass(eq=False)
class RunSummary:
    """One run; complete once it has ended, also where an error ended it.

    Attributes:
        run: what it did; where it never began (the store could not be opened), its id is empty and `error` says why.
        is_scheduled: it came by itself (cron, `--every`, the library's scheduler), for all rows that were due.
        store: `airtable` or `database`.
        interval: seconds between two runs.
        folder: the store's state folder; None where the store could not be opened.
        store_calls: how many it made.
        facts: None where the store could not be asked.
        exit_code: what the command ends with, or would.
    """

    run: RunFinished
    is_scheduled: bool
    store: str
    interval: float
    folder: Path | None = None
    store_calls: int = 0
    facts: Facts | None = None
    exit_code: int = 0

    @property
    def ended_at(self) -> datetime:
        """When the run did."""
        return self.run.finished_at or self.run.started_at
