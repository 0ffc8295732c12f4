"""What is known at the end of a run, for everybody who acts after it. Nothing in it is secret."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from token_refresh.base.events import RunFinished
from token_refresh.base.text import sentences
from token_refresh.stores.base import Usage


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


_OF_ROWS = (Code.LOGIN_NEEDED, Code.UNREADABLE_CELL, Code.NEEDS_FIXING, Code.FAILING)


@dataclass(frozen=True)
class Item:
    """One thing that a person should look at, as long as it lasts; a row may have several. Times are ISO 8601.

    Attributes:
        code: one of `Code`.
        message: what is wrong, without the location and without a full stop.
        action: what to do, as a sentence; may be empty.
        location_id, provider: of the row; empty where it is of none.
        part: with `ENDING` what ends, `refresh_token`, `client_secret` or `access_token`; or which host it is.
        since: when it began, where that is known.
        ends: with `ENDING`: when.
        step: grows where it gets worse: then it is sent again. 0: too early to send it to anybody.
        is_lasting: it was sent before.
    """

    code: str
    message: str
    action: str = ""
    location_id: str = ""
    provider: str = ""
    part: str = ""
    since: str = ""
    ends: str = ""
    step: int = 1
    is_lasting: bool = False

    @property
    def key(self) -> str:
        """What tells it from others."""
        return "|".join((self.code, self.location_id, self.provider, self.part))

    @property
    def group(self) -> tuple[str, ...]:
        """What is over when all of it is: a row that needs a login instead has not recovered from failing."""
        return (self.location_id, self.provider) if self.code in (*_OF_ROWS, Code.STORE) else (self.key,)

    @property
    def is_of_table(self) -> bool:
        """Whether all machines that work on the table see the same; the rest is this machine's own."""
        return bool(self.location_id) or self.code == Code.ROTATION_UNFINISHED

    @property
    def words(self) -> str:
        """The code, for people; whether it is known already."""
        return ("still " if self.is_lasting else "") + self.code.replace("_", " ")

    def __str__(self) -> str:
        whose = f"{self.location_id} {self.provider}: " if self.location_id else ""
        since = f" (since {self.since[:16].replace('T', ' ')} UTC)" if self.since else ""
        return f"{self.words}: {whose}{sentences(self.message, self.action)}{since}"


@dataclass(frozen=True)
class Facts:
    """What is known of all rows, and of this machine's journal, at the end of a run.

    Attributes:
        items: what a person should look at.
        first_end: of the access tokens of rows that are expired, failing or need a login.
        tokens: how many rows are in which state, by provider and state; rows that wait for onboarding are not counted.
        next_expiry, refresh_token_end: the first end of an access token, and of a refresh token, by provider.
        unreadable_cells: how many cannot be decrypted.
        journal_entries: how many the journal of this machine has, by step.
        usage: the month's calls of the store; None where nobody counts them.
        monthly_calls: how many the plan has; None where that is not known.
    """

    items: Sequence[Item] = ()
    first_end: datetime | None = None
    tokens: Mapping[tuple[str, str], int] = field(default_factory=dict)
    next_expiry: Mapping[str, datetime] = field(default_factory=dict)
    refresh_token_end: Mapping[str, datetime] = field(default_factory=dict)
    unreadable_cells: int = 0
    journal_entries: Mapping[str, int] = field(default_factory=dict)
    usage: Usage | None = None
    monthly_calls: int | None = None


@dataclass(eq=False)
class RunSummary:
    """One run; complete once it has ended, also where an error ended it.

    Attributes:
        run: what it did; where it never began (the store could not be opened), its id is empty and `error` says why.
        is_scheduled: it came by itself (cron, `--every`, the library's scheduler), for all rows that were due.
        interval: seconds between two runs.
        folder: the store's state folder; None where the store could not be opened.
        store_calls: how many it made.
        facts: None where the store could not be asked.
        exit_code: what the command ends with, or would.
    """

    run: RunFinished
    is_scheduled: bool
    interval: float
    folder: Path | None = None
    store_calls: int = 0
    facts: Facts | None = None
    exit_code: int = 0

    @property
    def ended_at(self) -> datetime:
        """When the run did."""
        return self.run.finished_at or self.run.started_at

    @property
    def did_its_work(self) -> bool:
        """Whether all was tried that was due, whatever became of single rows."""
        return self.exit_code in (0, 1)
