"""The access token of one row, refreshed first where it would not last: one refresh, however many ask for it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from providers.base import ProviderError, Verdict
from token_refresh.base.errors import Kind, MisconfiguredError, RetryLaterError, RunError, TokenError
from token_refresh.base.events import (
    CredentialUsed,
    Notice,
    Outcome,
    RowFinished,
    RowWaiting,
    RunFinished,
    Subscriber,
    audited,
)
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER, whose
from token_refresh.base.text import VISIBLE_ASCII
from token_refresh.clients.rows import POLL_SECONDS, find_one, matching
from token_refresh.journal.file import JournalError
from token_refresh.journal.lock import LockedError
from token_refresh.refresh.jobs import JobFactory, read_params
from token_refresh.refresh.result import action_of, with_remembered_failure
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import STATUS_DISABLED, STATUS_REAUTHORIZE, Row, StoreError, StoreRefusedError
from token_refresh.stores.sealed import SealedStore
from token_refresh.wiring import Runtime

BEARER = "Bearer"  # the type of a token whose provider named none (RFC 6750)
_STATUS_ACTION = f"See: {TOKEN_MANAGER} status"
WAIT_SECONDS = 30.0  # another run may be refreshing this very row
USE_NOTED = timedelta(minutes=5)  # how old a row's `last_used_at` gets before it is written again

Guard = Callable[[Callable[[str], None]], AbstractContextManager[object]]
"""Around a run: passes the wish for its end on to the run's `stop`."""


@contextmanager
def unguarded(_: Callable[[str], None]) -> Iterator[None]:
    """For a run that nobody can stop."""
    yield


@dataclass(frozen=True)
class Token:
    """A row's access token as stored; empty text where there is none."""

    row: Row
    provider: str
    text: str = field(repr=False)
    expires_at: datetime | None

    @property
    def type(self) -> str:
        """How it is sent (RFC 6749 section 7.1)."""
        return self.row.token_type or BEARER

    @property
    def scopes(self) -> list[str]:
        """What was granted, as far as an answer or an import said so."""
        return scopes_of(self.row, readable_params(self.row))

    def lasts(self, seconds: float, now: datetime) -> bool:
        """Whether it is there and still lives that long; a token that is out lasts for no number of seconds.

        One without an end lasts for any where nothing could refresh it: its end is not unknown, there is none.
        """
        if self.expires_at is None:
            return bool(self.text) and self.row.is_endless
        return bool(self.text) and (self.expires_at - now).total_seconds() > max(seconds, 0)

    def is_of(self, row: Row) -> bool:
        """Whether `row` is as it was when the token was read: nobody has refreshed or onboarded it since."""
        seen = self.row
        return (row.encrypted_refresh, row.access_token_expiry) == (seen.encrypted_refresh, seen.access_token_expiry)


class Asked(NamedTuple):
    """Which token somebody wants, and how many seconds it has to live at least; None: TOKEN_EXPIRY_BUFFER."""

    location_id: str
    provider: str | None
    min_valid: float | None


@dataclass(frozen=True)
class Served:
    """A token that is valid; `warning` says why it does not last as long as it should, and `action` what to do."""

    token: Token
    warning: str = ""
    action: str = ""


class Tokens:
    """Serves tokens.

    Args:
        runtime: opens the store, and the rest where a refresh needs it.
        wait_seconds: how long to wait for another run that is active, or for who is refreshing the row.
        emit: gets the notices of a refresh that the store or the journal ended.
        guard: passes the wish for the end on to a refresh.
    """

    def __init__(
        self,
        runtime: Runtime,
        emit: Subscriber,
        wait_seconds: float = WAIT_SECONDS,
        guard: Guard = unguarded,
    ) -> None:
        self._runtime = runtime
        self._emit = emit
        self._wait_seconds = wait_seconds
        self._guard = guard

    def serve(self, location_id: str, provider: str | None, min_valid: float | None) -> Served:
        """The row's token; after a refresh where it would not live `min_valid` seconds more (TOKEN_EXPIRY_BUFFER).

        When the refresh fails, the stored one as long as it lives.

        Raises:
            TokenError: there is none that is valid.
            LockedError, JournalError, RunError, StoreError, CellError, ProviderError: nothing was refreshed.
        """
        min_valid, audit = self._least(min_valid), self._runtime.audit
        with self._runtime.open_store() as store, audited(audit(store.store), "get", location_id.strip()) as used:
            token, now = self._stored(store, location_id, provider), self._runtime.clock.now()
            if token.row.status == STATUS_DISABLED and (reason := _reason_not_to(token, token.row)) is not None:
                raise reason
            served = Served(token) if token.lasts(min_valid, now) else self._renewed(store, token, min_valid)
            used.client_id = served.token.row.client_id
            _note_use(store, [served.token.row], now)
            return served

    def _least(self, min_valid: float | None) -> float:
        return self._runtime.expiry_buffer if min_valid is None else min_valid

    def look_up(self, asked: Sequence[Asked]) -> list[Token | str]:
        """For each the stored token, where nothing is to be done but to hand it out; else see `serve`.

        In its place the slug of its provider then, empty where that is not known.

        They are read together, and nothing is written but that they were used, for all whose row is due for that.

        Raises:
            StoreError: none of them can be looked at.
        """
        with self._runtime.open_store() as store:
            job_factory, audit = self._runtime.job_factory(store), self._runtime.audit(store.store)
            rows = defaultdict[str, list[Row]](list)
            try:
                for row in store.store.find(*{one.location_id for one in asked}):
                    rows[row.location_id].append(row)
            except StoreRefusedError:  # the name of one, such as bytes that are no text: each is to be asked for alone
                return [""] * len(asked)
            except StoreError as error:
                audit(*[CredentialUsed("get", one.location_id, outcome=error.kind) for one in asked])
                raise
            found = [self._at_hand(store, job_factory, one, rows[one.location_id]) for one in asked]
            used = [token.row for token in found if isinstance(token, Token)]
            audit(*[CredentialUsed("get", row.location_id, row.client_id) for row in used])
            _note_use(store, used, self._runtime.clock.now())
            return found

    def _at_hand(self, store: SealedStore, job_factory: JobFactory, asked: Asked, rows: list[Row]) -> Token | str:
        now, fitting = self._runtime.clock.now(), matching(rows, job_factory, asked.provider)
        if len(fitting) != 1:
            return ""
        [(row, provider)] = fitting
        with contextlib.suppress(Exception):  # whoever asked for it is to get it alone, from `serve`
            token = _token(store, job_factory, row, provider)
            if row.status != STATUS_DISABLED and token.lasts(self._least(asked.min_valid), now):
                return token
        return provider

    def refresh(self, location_id: str, provider: str | None) -> Token:
        """The row's token after a refresh now; where somebody else was at it already, theirs.

        Raises:
            TokenError: it was not refreshed; `after` says when it may be, where that is known.
            LockedError, JournalError, RunError, StoreError, CellError, ProviderError: nothing was refreshed.
        """
        with self._runtime.open_store() as store:
            token = self._stored(store, location_id, provider)
            failure = self._too_early(token) or self._refresh(store, token)
            if failure is not None:
                raise failure
            token = self._stored(store, token.row.location_id, token.provider)
            if not token.lasts(0, self._runtime.clock.now()):
                raise _no_token(token)
            return token

    def _too_early(self, token: Token) -> RetryLaterError | None:
        """What a provider refuses that takes a refresh only in the last seconds of a token."""
        summary = self._runtime.catalog.summaries.get(token.provider)
        if summary is None or not summary.earliest or token.expires_at is None or not token.text:
            return None
        left = (token.expires_at - self._runtime.clock.now()).total_seconds() - summary.earliest
        if left <= 0:
            return None
        what = f"{summary.name} accepts a refresh only {summary.earliest} s before the access token ends"
        error = RetryLaterError(f"{token.row.location_id} {token.provider}: {what}", "Use the stored token until then.")
        error.after = left
        return error

    def _renewed(self, store: SealedStore, token: Token, min_valid: float) -> Served:
        clock = self._runtime.clock
        try:
            failure = _reason_not_to(token, token.row) or self._refresh(store, token)
        except (LockedError, JournalError, RunError, StoreError) as error:
            with contextlib.suppress(StoreError):  # what the journal did not take, the store may have
                token = self._stored(store, token.row.location_id, token.provider)
            if not token.lasts(0, clock.now()):
                raise
            return Served(token, f"{error}; the stored token is still valid", error.action)
        token = self._stored(store, token.row.location_id, token.provider)
        if not token.lasts(0, clock.now()):
            raise failure or _no_token(token)
        if failure is not None:
            return Served(token, f"{failure}; the stored token is still valid", failure.action)
        if not token.lasts(min_valid, clock.now()):
            what = "a fresh token of this provider does not live as long as was asked for"
            return Served(token, what, "Ask for less.")
        return Served(token)

    def _stored(self, store: SealedStore, location_id: str, provider: str | None) -> Token:
        job_factory = self._runtime.job_factory(store)
        return _token(store, job_factory, *find_one(store.store, job_factory, location_id, provider))

    def _refresh(self, store: SealedStore, token: Token) -> TokenError | None:
        """Refresh this row alone; None where it went well, or somebody else was first."""
        results = list[RowFinished]()
        try:
            return self._refresh_alone(store, token, results)
        finally:
            self._runtime.record_rows(results)

    def _refresh_alone(self, store: SealedStore, token: Token, results: list[RowFinished]) -> TokenError | None:
        """The same; what became of the row is added to `results`."""
        clock = self._runtime.clock
        with self._runtime.lock(self._wait_seconds):
            deadline = clock.monotonic() + self._wait_seconds
            while True:
                # Opened again each time: who had the row may have died, and left it to whoever opens a journal next.
                with self._runtime.run_context_around(store) as context:
                    current = self._stored(store, token.row.location_id, token.provider)
                    if not token.is_of(current.row):
                        return None
                    failure = _reason_not_to(token, _remembered(context, current.row))
                    if failure is not None:
                        return failure
                    report = self._run(context, token)
                results += report.results
                is_elsewhere = not report.results and any(one.is_claimed for one in report.waiting)
                if not is_elsewhere or report.stopped or clock.monotonic() >= deadline:
                    return self._failure(store, token, report)
                clock.sleep(POLL_SECONDS)  # another process is refreshing this very row

    def _run(self, context: RunContext, token: Token) -> RunFinished:
        # Between the look at the row and its claim another process may have refreshed it: it is looked at once more.
        cell = token.row.provider or self._runtime.default_provider
        scope = Scope(everything=True, locations=(token.row.location_id,), providers=(cell,), still=token.is_of)
        refresher = Refresher(context)  # a failure is named once, by who asked for the token
        with self._guard(refresher.stop):
            report = refresher.run(scope)
        error = report.store_error or report.journal_error
        if error is not None:
            for notice in report.notices:  # what the error alone does not say
                self._emit(notice)
            raise error
        return report

    def _failure(self, store: SealedStore, token: Token, report: RunFinished) -> TokenError | None:
        """Why a run did not refresh the row; None where it did, or somebody else has."""
        row, name = token.row, token.provider
        results = [result for result in report.results if result.location_id == row.location_id]
        if results and results[-1].outcome in (Outcome.REFRESHED, Outcome.CHANGED):
            self._emit(results[-1])
            return None
        if results:
            return results[-1].as_error()
        if not token.is_of(self._stored(store, row.location_id, name).row):
            return None
        waiting = [one for one in report.waiting if _is_about(one, row, name)]
        outcome = Outcome.TRANSIENT if report.stopped or waiting else Outcome.OPERATOR
        notices = [one for one in report.notices if _is_about(one, row, name)]
        said = [(one.reason, one.action) for one in waiting] or [(one.message, one.action) for one in notices]
        reason = report.stopped or "; ".join(reason for reason, _ in said) or "the row was not refreshed"
        action = " ".join(action for _, action in said if action) or _STATUS_ACTION
        error = RowFinished(row.location_id, name, outcome, reason, action).as_error()
        ends = [one.until for one in waiting if one.until is not None]
        error.after = max(0.0, (max(ends) - self._runtime.clock.now()).total_seconds()) if ends else None
        return error


def _token(store: SealedStore, job_factory: JobFactory, row: Row, provider: str) -> Token:
    text = store.access_token(row, job_factory.binding(row))
    # Anybody may have edited the cell; what cannot stand in a header is no token.
    return Token(row, provider, text if VISIBLE_ASCII.fullmatch(text) else "", row.access_token_expiry)


def _note_use(store: SealedStore, rows: Sequence[Row], now: datetime) -> None:
    """Note, in one write, that the tokens of these rows were handed out, where that was noted long ago."""
    due = {row.key for row in rows if row.last_used_at is None or abs(now - row.last_used_at) >= USE_NOTED}
    if due and "last_used_at" in store.store.columns:
        with contextlib.suppress(StoreError):  # a standby serves tokens, too
            store.store.note_use(sorted(due), now)


def readable_params(row: Row) -> dict[str, str]:
    """The row's parameters; none where somebody must fix them: a row can be shown all the same."""
    try:
        return read_params(row.provider_params)
    except ProviderError:
        return {}


def scopes_of(row: Row, params: Mapping[str, str]) -> list[str]:
    """See `Token.scopes`. Tables without the column keep it among the parameters."""
    return (row.scopes or params.get("granted_scope") or params.get("scope") or "").split()


def _remembered(context: RunContext, row: Row) -> Row:
    """The row with what the journal remembers of its failures, and its table has no columns for."""
    store = context.store
    found = context.journal.failures.find(row.key, store.keyring.fingerprints(row.encrypted_refresh))
    return with_remembered_failure(row, found, store.store.columns - store.store.journalled_columns)


def _is_about(notice: Notice | RowWaiting, row: Row, provider: str) -> bool:
    return notice.location_id == row.location_id and notice.provider in (None, provider)


def _reason_not_to(token: Token, row: Row) -> TokenError | None:
    """Why this row is not refreshed at all."""
    if row.status == STATUS_REAUTHORIZE:
        error = row.last_error or "the refresh token does not work any more"
        action = action_of(Outcome.REAUTHORIZE, Verdict.DEAD_GRANT)
        return RowFinished(row.location_id, token.provider, Outcome.REAUTHORIZE, error, action).as_error()
    if not (row.encrypted_refresh or row.has_only_access_token):
        outcome, error, action = Outcome.REAUTHORIZE, "it has no credential yet", f"Onboard it: {ONBOARD_CLIENT}"
    elif row.status == STATUS_DISABLED:
        what = f"{row.location_id} {token.provider}: its status is {row.status}"
        enable = f"To use it again: {TOKEN_MANAGER} enable {whose(row.location_id, token.provider)}"
        return MisconfiguredError(what, enable, Kind.DISABLED)
    elif row.has_only_access_token:
        outcome, error = Outcome.REAUTHORIZE, f"there is no refresh token, and its access token {_end_of(row)}"
        action = action_of(outcome, Verdict.DEAD_GRANT) or ""
    else:
        return None
    return RowFinished(row.location_id, token.provider, outcome, error, action).as_error()


def _end_of(row: Row) -> str:
    end = row.access_token_expiry
    return f"ends on {end:%Y-%m-%d %H:%M} UTC" if end is not None else "cannot be used"


def _no_token(token: Token) -> RetryLaterError:
    what = f"{token.row.location_id} {token.provider}: the row has no valid access token"
    return RetryLaterError(what, _STATUS_ACTION)
