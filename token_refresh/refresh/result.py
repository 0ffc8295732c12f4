"""How a row's refresh ends: a closed set, and what a run reports."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from providers.base import Rotation, Verdict
from token_refresh.base.errors import ActionableError, Kind, TokenError, library_error
from token_refresh.journal.entries import AnswerNotSavedError
from token_refresh.journal.file import JournalError
from token_refresh.stores.base import StoreError


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

_OUTCOMES = {
    Verdict.GRANTED: Outcome.REFRESHED,
    Verdict.DEAD_GRANT: Outcome.REAUTHORIZE,
    Verdict.CLIENT_REFUSED: Outcome.OPERATOR,
    Verdict.REQUEST_REFUSED: Outcome.OPERATOR,
    Verdict.NOT_ACTED: Outcome.TRANSIENT,
}
_ACTIONS = {
    Outcome.TRANSIENT: "Nothing to do if it passes: the next run tries again.",
    Outcome.UNKNOWN: "The next run settles it; the old access token stays in place.",
    Outcome.REAUTHORIZE: "A person must log in again: connect the account anew, then run `python onboard_client.py`.",
    Outcome.OPERATOR: "Correct the row, or onboard it again with `python onboard_client.py`.",
}
_CLIENT_ACTION = "Correct client_id and client secret of this app (python onboard_client.py); its rows were left alone."


def outcome_of(verdict: Verdict, rotates: Rotation) -> Outcome:
    """What a verdict means for the row. An unclear answer is harmless where refresh tokens never change."""
    if verdict is Verdict.UNCLEAR:
        return Outcome.TRANSIENT if rotates == "never" else Outcome.UNKNOWN
    return _OUTCOMES[verdict]


def action_of(outcome: Outcome, verdict: Verdict) -> str | None:
    """What to do about an outcome, where the provider has no better advice; None on success."""
    return _CLIENT_ACTION if verdict is Verdict.CLIENT_REFUSED else _ACTIONS.get(outcome)


def not_saved_notices(answers: Iterable[tuple[str, JournalError]]) -> list[str]:
    """What a person reads of answers, each with its location, that no disk took."""
    return [
        f"{location_id}: unless its row is refreshed, this sealed answer is all there is. Keep it and give it to "
        f"`python token_manager.py recover --cell -`: {error.sealed}"
        for location_id, error in answers
        if isinstance(error, AnswerNotSavedError)
    ]


@dataclass(frozen=True)
class RowResult:
    """What happened to one row; `outcome` is None in a dry run. Times are aware."""

    location_id: str
    provider: str
    outcome: Outcome | None
    error: str | None = None
    action: str | None = None
    expires_at: datetime | None = None
    is_news: bool = False  # the first failure, the change to `reauthorize`, the recovery: each is told once

    @property
    def kind(self) -> Kind | None:
        """Of which kind its failure is; None where it did not fail."""
        return KINDS.get(self.outcome) if self.outcome is not None else None

    def as_error(self) -> TokenError:
        """What it means for whoever wanted the row's token."""
        what = f"{self.location_id} {self.provider}: {self.outcome}, {self.error or 'no reason was given'}"
        kind = KINDS.get(self.outcome or Outcome.OPERATOR, Kind.RETRY_LATER)
        return library_error(ActionableError(what, self.action or "", kind))


@dataclass
class Report:
    """What a run did.

    Attributes:
        results: the rows that were tried, or stored from the journal.
        due: how many rows were to be refreshed.
        notices: sentences about rows that were not tried.
        waiting: how many rows could not be refreshed yet.
        held: how many due rows other processes had claimed, by claim.
        stopped: why the run ended early, where it did: a deadline or a signal.
        store_error: what kept the store from taking results, where something did.
        journal_error: what kept the journal from being written, where something did.
    """

    started_at: datetime
    dry_run: bool = False
    finished_at: datetime | None = None
    results: list[RowResult] = field(default_factory=list)
    due: int = 0
    notices: list[str] = field(default_factory=list)
    waiting: int = 0
    held: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    store_error: StoreError | None = None
    journal_error: JournalError | None = None

    def counts(self) -> dict[str, int]:
        """How many rows came to which end."""
        if self.dry_run:
            return {"due": self.due}
        return dict(Counter(str(result.outcome) for result in self.results))

    def kinds(self) -> set[Kind]:
        """Of which kinds the run's failures are; none where all went well."""
        kinds = {error.kind for error in (self.store_error, self.journal_error) if error is not None}
        if self.stopped is not None:
            kinds.add(Kind.STOPPED)
        return kinds | {result.kind for result in self.results if result.kind is not None}
