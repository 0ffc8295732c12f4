"""`get LOCATION`: that location's access token alone on stdout, refreshed first where it would not last."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from clock import Clock
from commands import exits
from commands.context import Context, open_sealed, parts_around, prepare
from commands.process import ended_by
from commands.rows import the_row
from commands.talk import Talk
from providers.base import Verdict
from refresher.outcome import Outcome, Report, RowResult, action_of
from refresher.parts import Scope
from stores.base import IDLE_STATUSES, STATUS_REAUTHORIZE, Row, iso

if TYPE_CHECKING:
    from stores.sealed import SealedStore

_VISIBLE_TEXT = re.compile(r"[\x20-\x7e]*")
POLL_SECONDS = 0.5
LOCK_WAIT_SECONDS = 30.0  # a cron run that is active may be refreshing this very row


@dataclass(frozen=True)
class Token:
    """A row's access token as stored; empty text where there is none."""

    row: Row
    provider: str
    text: str = field(repr=False)
    expires_at: datetime | None

    def lasts(self, seconds: float, now: datetime) -> bool:
        """Whether it is there and still lives that long."""
        return bool(self.text) and self.expires_at is not None and self.expires_at - now > timedelta(seconds=seconds)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> int:
    """Print the token; when a refresh fails, the old one as long as it lives."""
    context = prepare(environ, clock, talk)
    with open_sealed(context) as store:
        token = _stored(context, store, arguments.location.strip(), arguments.provider)
        if not token.lasts(arguments.min_valid, clock.now()):
            token = _renewed(context, store, token, arguments.min_valid, talk)
    _print(token, talk)
    return exits.DONE


def _renewed(context: Context, store: SealedStore, token: Token, min_valid: float, talk: Talk) -> Token:
    """The token after a refresh, or the stored one with a warning.

    Raises:
        CommandError: there is none that is valid.
        LockedError, JournalError, RunError: nothing was refreshed, and the stored token is out.
    """
    from refresher.journal_file import JournalError
    from refresher.lock import LockedError
    from refresher.parts import RunError

    clock = context.clock
    try:
        failure = _reason_not_to(token) or _refresh(context, store, token)
    except (LockedError, JournalError, RunError) as error:
        if not token.lasts(0, clock.now()):
            raise
        talk.warn(f"{error}; the stored token is still valid", getattr(error, "action", ""))
        return token
    token = _stored(context, store, token.row.location_id, token.provider)
    if failure is not None:
        _warn_or_fail(token, failure, clock, talk)
    elif not token.lasts(0, clock.now()):
        raise exits.CommandError(
            f"{token.row.location_id} {token.provider}: the row has no valid access token",
            "See: python token_manager.py status",
            exits.FAILED,
        )
    elif not token.lasts(min_valid, clock.now()):
        talk.warn("a fresh token of this provider lives shorter than --min-valid asks for", "Ask for less.")
    return token


def _print(token: Token, talk: Talk) -> None:
    if talk.as_json:
        talk.object(
            {
                "location_id": token.row.location_id,
                "provider": token.provider,
                "access_token": token.text,
                "expires_at": iso(token.expires_at) if token.expires_at else None,
            }
        )
    else:
        talk.data(token.text)


def _warn_or_fail(token: Token, failure: RowResult, clock: Clock, talk: Talk) -> None:
    what = f"{token.row.location_id} {token.provider}: {failure.outcome}, {failure.error}"
    if not token.lasts(0, clock.now()):
        raise exits.CommandError(what, failure.action or "", exits.FAILED)
    talk.warn(f"{what}; the stored token is still valid", failure.action or "")


def _stored(context: Context, store: SealedStore, location_id: str, provider: str | None) -> Token:
    row, name = the_row(context, store.store, location_id, provider)
    text = _open_token(context, store, row, name)
    # Anybody may have edited the cell; what cannot stand in a header is no token.
    return Token(row, name, text if _VISIBLE_TEXT.fullmatch(text) else "", row.access_token_expiry)


def _open_token(context: Context, store: SealedStore, row: Row, name: str) -> str:
    from refresher.jobs import binding_of, read_params

    provider = context.catalog.get(name)
    binding = binding_of(provider, provider.endpoint(read_params(row.provider_params)))
    return store.access_token(row, binding)


def _reason_not_to(token: Token) -> RowResult | None:
    """Why this row is not refreshed at all."""
    row = token.row
    if row.status == STATUS_REAUTHORIZE:
        error = row.last_error or "the grant is dead"
        action = action_of(Outcome.REAUTHORIZE, Verdict.DEAD_GRANT)
        return RowResult(row.location_id, token.provider, Outcome.REAUTHORIZE, error, action)
    if row.status in IDLE_STATUSES:
        error, action = f"its status is {row.status}", "Set it to active."
    elif not row.encrypted_refresh:
        error, action = "it has no credential yet", "Onboard it: python onboard_client.py"
    else:
        return None
    return RowResult(row.location_id, token.provider, Outcome.OPERATOR, error, action)


def _refresh(context: Context, store: SealedStore, token: Token) -> RowResult | None:
    """Refresh this row alone; None where it went well, or somebody else was first."""
    from refresher.run import Refresher

    scope = Scope(everything=True, locations=(token.row.location_id,), provider=token.provider)
    with context.lock(LOCK_WAIT_SECONDS), parts_around(context, store) as parts:
        deadline = context.clock.monotonic() + LOCK_WAIT_SECONDS
        while True:
            current = _stored(context, store, token.row.location_id, token.provider)
            if current.expires_at != token.expires_at:
                return None
            refresher = Refresher(parts, _Quiet())
            with ended_by(refresher.stop):
                report = refresher.run(scope)
            is_elsewhere = report.held and not report.results
            if not is_elsewhere or report.stopped or context.clock.monotonic() >= deadline:
                break
            context.clock.sleep(POLL_SECONDS)  # another process is refreshing this very row
    if report.store_error is not None:
        raise report.store_error
    if report.journal_error is not None:
        raise report.journal_error
    return _failure(token, report)


def _failure(token: Token, report: Report) -> RowResult | None:
    results = [result for result in report.results if result.location_id == token.row.location_id]
    if not results:
        reason = report.stopped or "; ".join(report.notices) or "the row was not refreshed"
        return RowResult(
            token.row.location_id, token.provider, Outcome.OPERATOR, reason, "See: python token_manager.py status"
        )
    good = (Outcome.REFRESHED, Outcome.CHANGED)
    return None if results[-1].outcome in good else results[-1]


class _Quiet:
    """Only the token goes to stdout, and a failure is told once."""

    def begin(self, total: int) -> None:
        """See `Observer.begin`."""

    def row(self, result: RowResult) -> None:
        """See `Observer.row`."""

    def note(self, sentence: str) -> None:
        """See `Observer.note`."""
