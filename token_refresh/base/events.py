"""What a run says as it goes, as typed events, and the one way to those who listen.

Console, log, JSON report and the library's logger are subscribers. A run begins with `RunStarted` and ends with
`RunFinished`, also where an error ended it; between them each row that was tried finishes once, and
each that is due and was not tried is waiting.
"""

from __future__ import annotations

import enum
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from token_refresh.base.errors import ActionableError, Kind, TokenError, actionable_error, internal_error, library_error
from token_refresh.base.program import TOKEN_MANAGER


class Outcome(enum.StrEnum):
    """The ends that a row can come to in a run."""

    REFRESHED = "refreshed"
    CHANGED = "changed"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    REAUTHORIZE = "reauthorize"
    OPERATOR = "operator"


KINDS = {
    Outcome.TRANSIENT: Kind.RETRY_LATER,
    Outcome.UNKNOWN: Kind.RETRY_LATER,
    Outcome.REAUTHORIZE: Kind.LOGIN_NEEDED,
    Outcome.OPERATOR: Kind.ROW,
}
FAILURES = tuple(KINDS)


class NoticeCode(enum.StrEnum):
    """What a notice is about; the value is the `code` of log lines."""

    UNKNOWN_STATUS = "unknown_status"  # the row's status means nothing to the program: it counts as active
    COLUMN_UNSUITABLE = "column_unsuitable"  # a column of the table does not take everything that belongs there
    SHORT_LIFETIME = "short_lifetime"  # a provider's tokens expire before the next run
    LOGIN_ENDS = "login_ends"  # a token does, soon, and no refresh brings another one
    RARE_RUNS = "rare_runs"  # runs come more rarely than `REFRESH_INTERVAL` says
    INSTALLS_CHANGED = "installs_changed"  # locations of an agency got the app, or lost it
    QUOTA_SHORT = "quota_short"  # the month's Airtable calls will not last
    NOT_SELECTED = "not_selected"  # no row of a location that was asked for can be refreshed
    TABLE_EMPTY = "table_empty"  # there is no row in it
    ROWS_LEFT = "rows_left"  # a run that was stopped has not come to all rows
    ROW_UNUSABLE = "row_unusable"  # in a dry run: somebody has to fix the row first
    CLOCK_OFF = "clock_off"  # our clock and another disagree by more than five minutes
    IMPOSSIBLE_TIME = "impossible_time"  # a row's times cannot be: it counts as due
    ANSWER_NOT_SAVED = "answer_not_saved"  # neither journal nor store took a provider's answer: see `AnswerNotSaved`
    ANSWER_UNREADABLE = "answer_unreadable"  # an entry of the journal cannot be used, by a mistake of this program
    KEY_MISSING = "key_missing"  # an entry of the journal was sealed with a key that is not configured
    TOKENS_WAIT = "tokens_wait"  # new tokens stay in the journal until their row is fixed
    ROW_GONE = "row_gone"  # journalled tokens whose row was deleted: kept in the journal
    SUPERSEDED = "superseded"  # journalled tokens of a row that holds another credential by now: kept in the journal
    ONBOARDING_WAITS = "onboarding_waits"  # an onboarding that was cut off cannot be finished yet
    ONBOARDING_ABANDONED = "onboarding_abandoned"  # one that was cut off may not be sent again as it is
    ONBOARDING_FINISHED = "onboarding_finished"  # one that was cut off came to its end
    SUBSCRIBER_FAILED = "subscriber_failed"  # a listener has a mistake; the run is as it would have been without it


@dataclass(frozen=True)
class RunStarted:
    """A run begins; `run_id` is a name that no other run ever had."""

    run_id: str
    started_at: datetime
    dry_run: bool = False


@dataclass(frozen=True)
class RowsListed:
    """So many rows were listed, as far as is known by now; `due` of them are to be refreshed, the others unusable."""

    total: int
    due: int


@dataclass(frozen=True, slots=True)  # a run keeps one a row
class RowFinished:
    """What happened to one row; `outcome` is None in a dry run, for a row that would be refreshed. Times are aware."""

    location_id: str
    provider: str
    outcome: Outcome | None
    error: str | None = None
    action: str | None = None
    expires_at: datetime | None = None
    is_news: bool = False  # the first failure, the change to `reauthorize`, the recovery: each is news once
    client_id: str = ""  # as the row names it
    is_unreadable: bool = False  # one of the row's cells cannot be decrypted
    owner: str = ""  # of an onboarding: whose tokens its provider says they are, where that is another location

    @property
    def kind(self) -> Kind | None:
        """Of which kind its failure is; None where it did not fail."""
        return KINDS.get(self.outcome) if self.outcome is not None else None

    @property
    def is_saved(self) -> bool:
        """Of an onboarding: whether the credential is in the table, now or already; one that asks for a look is not."""
        return self.outcome not in FAILURES and self.action is None

    def as_error(self) -> TokenError:
        """What it means for whoever wanted the row's token."""
        what = f"{self.location_id} {self.provider}: {self.outcome}, {self.error or 'no reason was given'}"
        kind = KINDS.get(self.outcome or Outcome.OPERATOR, Kind.RETRY_LATER)
        return library_error(ActionableError(what, self.action or "", kind))


@dataclass(frozen=True)
class RowWaiting:
    """A due row that was not tried, and why.

    Attributes:
        reason: what it waits for, without a full stop.
        until: when that ends, where it is known.
        action: what to do about it, as a sentence; empty where it ends by itself.
        is_claimed: another process has claimed it.
        is_brief: claimed so lately that it is being refreshed right now: no failure of this run.
        host: of its provider, where that does not answer and is not asked any more.
    """

    location_id: str
    provider: str
    reason: str
    until: datetime | None = None
    action: str = ""
    is_claimed: bool = False
    is_brief: bool = False
    host: str = ""


@dataclass(frozen=True)
class Notice:
    """Something that a person should know. `location_id` and `provider` are None where it is about no single row.

    Attributes:
        message: what happened, without the location and without a full stop.
        action: what to do about it, as a sentence; empty where the message says everything.
    """

    code: NoticeCode
    location_id: str | None
    message: str
    action: str = ""
    provider: str | None = None

    def __str__(self) -> str:
        """The message, with the location that it is about."""
        return self.message if self.location_id is None else f"{self.location_id}: {self.message}"


@dataclass(frozen=True)
class AnswerNotSaved(Notice):
    """Neither the journal nor, as far as is known, the store took a provider's answer, in which new tokens may be.

    Whoever says it does so whatever the log level: where there is no file, it holds the only copy.

    Attributes:
        sealed: the answer as the journal would have kept it, safe to print; `recover --cell` takes it.
        file: its file in the spare folder; None where no disk took it.
    """

    sealed: str = field(kw_only=True)
    file: Path | None = field(kw_only=True)

    @property
    def is_left(self) -> bool:
        """Whether no later run has taken it over, as far as this process can know."""
        return self.file is None or os.path.lexists(self.file)


def answer_not_saved(location_id: str, provider: str, sealed: str, file: Path | None) -> AnswerNotSaved:
    """What is said of a sealed answer that is in `file`, or nowhere."""
    answer = "its provider's answer, which may hold new tokens,"
    if file is not None:
        message = f"{answer} is neither in the journal nor in the table, but in {file}"
        action = "Keep that file: the next run takes it over."
    else:
        message = f"{answer} could not be saved anywhere"
        action = f"Keep this line and give it to `{TOKEN_MANAGER} recover --cell -`: {sealed}"
    return AnswerNotSaved(NoticeCode.ANSWER_NOT_SAVED, location_id, message, action, provider, sealed=sealed, file=file)


@dataclass
class RunFinished:
    """What a run did. The run fills it in, says it as its last event and returns it.

    Attributes:
        run_id, started_at, dry_run: as in `RunStarted`.
        finished_at: when it ended.
        results: the rows that were tried, or stored from the journal; in a dry run those that would be tried.
        due: how many rows were to be refreshed.
        notices: what else was said, in order.
        waiting: the due rows that were not tried.
        stopped: why the run ended early, where it did: a deadline or a signal.
        store_error: what kept the store from taking results, where something did.
        journal_error: what kept the journal from being written, where something did.
        error: what ended the run before its end, where something did; the caller of the run gets it raised, too.
    """

    run_id: str
    started_at: datetime
    dry_run: bool = False
    finished_at: datetime | None = None
    results: list[RowFinished] = field(default_factory=list)
    due: int = 0
    notices: list[Notice] = field(default_factory=list)
    waiting: list[RowWaiting] = field(default_factory=list)
    stopped: str | None = None
    store_error: ActionableError | None = None
    journal_error: ActionableError | None = None
    error: ActionableError | None = None

    def collect(self, event: Event) -> None:
        """Take in what was said of a row, or else."""
        if isinstance(event, RowsListed):
            self.due = event.due
        elif isinstance(event, RowFinished):
            self.results.append(event)
        elif isinstance(event, RowWaiting):
            self.waiting.append(event)
        elif isinstance(event, Notice):
            self.notices.append(event)

    def counts(self) -> dict[str, int]:
        """How many rows came to which end."""
        if self.dry_run:
            return {"due": self.due}
        return dict(Counter(str(result.outcome) for result in self.results))

    def kinds(self) -> set[Kind]:
        """Of which kinds the run's failures are; none where all went well."""
        errors = (self.store_error, self.journal_error, self.error)
        kinds = {error.kind for error in errors if error is not None}
        if self.stopped is not None:
            kinds.add(Kind.STOPPED)
        waits = any(not row.is_brief for row in self.waiting)
        not_saved = (NoticeCode.ONBOARDING_WAITS, NoticeCode.ONBOARDING_ABANDONED)
        waits |= any(notice.code in not_saved for notice in self.notices)
        if waits and not self.dry_run:
            kinds.add(Kind.RETRY_LATER)
        return kinds | {result.kind for result in self.results if result.kind is not None}


def onboarding_ended(end: RowFinished, *, is_open: bool) -> Notice:
    """What a run says of an onboarding that it went on with; `is_open`: it still waits in the journal."""
    ended = NoticeCode.ONBOARDING_FINISHED if end.is_saved else NoticeCode.ONBOARDING_ABANDONED
    code, what = (NoticeCode.ONBOARDING_WAITS, "waits in the journal") if is_open else (ended, "was brought to an end")
    message = f"its onboarding {what}: {end.outcome}" + (f", {end.error}" if end.error else "")
    return Notice(code, end.location_id, message, end.action or "", end.provider)


@dataclass
class CredentialUsed:
    """A credential was put to a use outside of a run. For the security log alone; whoever uses it fills it in.

    Attributes:
        use: `get`, `onboard`, `login`, `rotate`, `import`, `export`, or another verb; of the HTTP service's keys
            `key made`, `key revoked`, `key used`, `access refused`.
        location_id: None where it is every row's.
        outcome: `done`, an `Outcome`, or the kind of the error that kept it from being used.
        key: the name of the key that a request came with.
    """

    use: str
    location_id: str | None = None
    client_id: str = ""
    outcome: str = "done"
    key: str = ""


Event = RunStarted | RowsListed | RowFinished | RowWaiting | Notice | RunFinished | CredentialUsed
Subscriber = Callable[[Event], None]


class Audit(Protocol):
    """Notes uses of credentials in the security log, those that it gets together at once; never raises."""

    def __call__(self, *events: Event) -> None: ...


@contextmanager
def audited(audit: Subscriber, use: str, location_id: str | None = None) -> Iterator[CredentialUsed]:
    """Say at the end of what is inside that it used a credential, and how that ended."""
    used = CredentialUsed(use, location_id)
    try:
        yield used
    except BaseException as error:
        used.outcome = actionable_error(error).kind
        raise
    finally:
        audit(used)


class FanOut:
    """Passes each event on to all subscribers, in their order; none of them can stop a run or keep it from another.

    One that cannot write any more (`OSError`: whoever read along has gone) is ignored; a mistake in one is named to
    all in one notice.
    """

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = subscribers
        self._failed: list[Subscriber] = []

    def __call__(self, event: Event) -> None:
        """Pass it on."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except OSError:
                pass
            except Exception as error:
                self._name(subscriber, error)

    def _name(self, subscriber: Subscriber, error: Exception) -> None:
        if any(one is subscriber for one in self._failed):
            return
        self._failed.append(subscriber)
        problem = internal_error(error)
        self(Notice(NoticeCode.SUBSCRIBER_FAILED, None, f"{problem}; the run goes on without it", problem.action))
