"""Logins of customers: begun by one call, ended by another, perhaps in another process."""

from __future__ import annotations

from collections.abc import Callable

from token_refresh.base.errors import LoginAgainError, RetryLaterError, capture_error, unwrap
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.clients.credential import require_stored
from token_refresh.clients.login.attempt import NoGrantError
from token_refresh.clients.row_login import BegunLogin, LoginBegun, begin_row_login, exchange_row_login
from token_refresh.journal.entries import OPEN_STEPS, Entry
from token_refresh.journal.lock import LockedError
from token_refresh.library.log import LOG
from token_refresh.library.opened import Opened
from token_refresh.library.views import TokenView
from token_refresh.refresh.run_context import RunContext


class Logins(Opened):
    """Each method raises a `TokenError`, as `TokenManager` does."""

    def begin_login(self, row_id: str, redirect_uri: str) -> LoginBegun:
        """A login into a row, which somebody now has ten minutes for.

        Args:
            row_id: see `TokenView`.
            redirect_uri: where the provider sends the person back to; the row must name this one, or none.

        Returns:
            The address to send the person to; and `content`, encrypted, to be kept for `finish_login` under
            `state_hash`, and to be used once.

        Raises:
            NoSuchTokenError: there is no such row.
            MisconfiguredError: its provider has no login, its redirect URI is another one (kind `conflict`), it is
                disabled, or its cells cannot be used.
        """

        def act() -> LoginBegun:
            with self._runtime.open_store() as store:
                row, _ = self._row(store, row_id)
                factory = self._runtime.job_factory(store)
                return begin_row_login(row, factory, store, redirect_uri, self._runtime.clock.now())

        return unwrap(capture_error(act))

    def finish_login(self, content: str, query: str, kept: Callable[[], None] = lambda: None) -> TokenView:
        """Exchange the code of a callback, and store what it brings in the place of what the row held.

        The provider's answer is on the disk before it is read; where the table does not take it, the next run stores
        it. What the row held of another account is not replaced.

        Args:
            content: of `LoginBegun`. Who calls this with it a second time sends a code a second time.
            query: of the callback, as it came, without the question mark.
            kept: is called once what the login brought is stored, or waits in the journal for the next run.

        Raises:
            LoginAgainError: there is no grant: somebody said no, or the provider refuses the code.
            MisconfiguredError: the callback is not this login's (kind `usage`; it goes on waiting), or the grant is of
                another account, or does not fit the row (`conflict`).
            RetryLaterError: the grant is in the journal, and the next run stores it; or nothing was sent.
            NoSuchTokenError: the row was deleted meanwhile.
        """
        view = unwrap(capture_error(lambda: self._finish(content, query, kept)))
        LOG.info("%s %s: logged in", view.location_id, view.provider)
        return view

    def _finish(self, content: str, query: str, kept: Callable[[], None]) -> TokenView:
        runtime = self._runtime
        with runtime.open_store() as store, runtime.bystander_context_around(store) as context:
            login = BegunLogin.opened(content, store)
            row, _ = self._row(store, login.row_id)
            attempt = login.attempt(row, context.job_factory, store)
            try:
                entry = exchange_row_login(context, attempt, query)
            except NoGrantError as error:
                raise LoginAgainError(str(error), error.action) from None
            try:
                end = self._stored_login(context, entry)
            except Exception:
                if any(one.id == entry.id for one in context.journal.entries(*OPEN_STEPS)):
                    kept()
                raise
            kept()
            view = self._view(store, row.key)
        runtime.record_rows([end])
        return view

    def _stored_login(self, context: RunContext, entry: Entry) -> RowFinished:
        """The journal stays open until then: a run that starts meanwhile does not take its entry over."""
        try:
            with self._runtime.lock(self._wait_seconds):
                end = require_stored(context.resume_admission(context, entry))
        except LockedError as error:
            what = f"{entry.location_id} {entry.provider}: logged in, and not stored yet: {error}"
            raise RetryLaterError(what, "Nothing is lost: the next run stores it.") from None
        if end.outcome is not Outcome.REFRESHED:
            raise end.as_error()
        return end
