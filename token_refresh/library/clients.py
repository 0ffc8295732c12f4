"""The clients of a table, for programs that show and change them: by the id of the row, and page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial

from token_refresh.base.errors import Kind, MisconfiguredError, capture_error, unwrap
from token_refresh.base.text import trimmed
from token_refresh.clients.amendment import Amendment, amend
from token_refresh.clients.client_fields import Allowed
from token_refresh.clients.credential import NewCredential, params_cell
from token_refresh.clients.registration import register
from token_refresh.clients.removal import Removal
from token_refresh.clients.settled import SettledRows
from token_refresh.diagnosis.row_state import TRAITS, WAITING, RememberedFailures, State, state_of
from token_refresh.library.log import LOG, log_event
from token_refresh.library.opened import Opened
from token_refresh.library.views import TokenView, names_of, view_of
from token_refresh.stores.base import PageQuery, Row, RowGroup
from token_refresh.stores.sealed import SealedStore

MOST_ROWS = 1000  # of one page
_ROWS_AT_ONCE = 500


class Clients(Opened):
    """Rows as somebody sees them who looks after them. Each method raises a `TokenError`, as `TokenManager` does."""

    def find(self, row_id: str) -> TokenView:
        """What may be shown of the row of that id.

        Raises:
            NoSuchTokenError: there is none.
        """

        def act() -> TokenView:
            with self._runtime.open_store() as store:
                return self._view(store, row_id)

        return unwrap(capture_error(act))

    def page(
        self,
        limit: int,
        after: str | None = None,
        provider: str | None = None,
        status: str | None = None,
        q: str | None = None,
    ) -> tuple[list[TokenView], str | None]:
        """Some rows, in an order that is always the same, and what to pass as `after` for the next ones.

        A database is asked for no more than that; at Airtable all rows are listed.

        Args:
            limit: at most so many, 1 to 1000.
            after: what the page before said; None begins.
            provider: only rows of this one, by any of its names.
            status: only rows in this state, see `TokenView.state`; or those that are `waiting` for their first login.
            q: only rows with this text in location, workspace, user name or mail address, whatever its case.

        Raises:
            MisconfiguredError: there is no such limit or state.
        """
        if not 1 <= limit <= MOST_ROWS:
            raise MisconfiguredError(f"a page has 1 to {MOST_ROWS} rows", "Correct the limit.", Kind.USAGE)
        text = (q or "").lower()
        if not text.isprintable():
            return [], None  # nobody calls a row so, and not every store can be asked for it
        if status is not None and status not in TRAITS:
            known = ", ".join(TRAITS)
            raise MisconfiguredError("there is no such state", f"Use one of: {known}.", Kind.USAGE)

        def act() -> tuple[list[TokenView], str | None]:
            with self._runtime.open_store() as store:
                return self._page(store, limit, after or "", provider, status, text)

        return unwrap(capture_error(act))

    def _page(
        self, store: SealedStore, limit: int, after: str, provider: str | None, status: str | None, text: str
    ) -> tuple[list[TokenView], str | None]:
        factory, default, now = (
            self._runtime.job_factory(store),
            self._runtime.default_provider,
            self._runtime.clock.now(),
        )
        remembered = self._runtime.remembered(store.store)
        slug = None if provider is None else factory.slug_of(provider)

        def is_of(cell: str) -> bool:
            return factory.slug_of(cell or default) == slug

        def admits(row: Row) -> bool:
            if slug is not None and not is_of(row.provider):
                return False
            if status is not None and _state(remembered.added_to(row), now) != status:
                return False
            return not text or any(text in name.lower() for name in (row.location_id, *names_of(row).values()))

        failing = list(self._unmarked(store, remembered)) if status == State.FAILING else []
        traits = TRAITS[status] if status is not None else {}
        keys = [row.key for row, _ in failing]
        query = PageQuery(limit + 1, admits, now, after, text, is_of if slug is not None else None, traits, keys)
        rows = store.store.page(query)
        views = [view_of(self._status(remembered.added_to(row))) for row in rows[:limit]]
        return views, views[-1].row_id if len(rows) > limit else None

    def counts(self) -> dict[str, int]:
        """How many rows are in each state, and how many are `waiting` for their first login."""

        def act() -> dict[str, int]:
            with self._runtime.open_store() as store:
                return self._counts(store)

        return unwrap(capture_error(act))

    def _counts(self, store: SealedStore) -> dict[str, int]:
        now, remembered = self._runtime.clock.now(), self._runtime.remembered(store.store)
        counts = Counter({str(state): 0 for state in TRAITS})
        for group in store.store.tally(now, by_state=True):
            counts[state_of(group) or WAITING] += group.rows
        for row, known in self._unmarked(store, remembered):
            counts[_state(row, now)] -= 1
            counts[_state(known, now)] += 1
        return dict(counts)

    def _unmarked(self, store: SealedStore, remembered: RememberedFailures) -> Iterator[tuple[Row, Row]]:
        """The rows of which a failure is remembered, as they are and with that."""
        keys = sorted(remembered.keys)
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            for row in store.store.read(keys[start : start + _ROWS_AT_ONCE], complete=True).values():
                yield row, remembered.added_to(row)

    def register(
        self,
        location_id: str,
        provider: str | None = None,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str = "",
        workspace_email: str = "",
        workspace_name: str = "",
        provider_params: Mapping[str, str] | None = None,
        allow_hosts: Collection[str] = (),
        allow_origins: Collection[str] = (),
    ) -> TokenView:
        """Make the row of a client that nobody has logged in for yet; its secret is encrypted like any.

        Args:
            location_id: what the program calls the client by, together with the provider.
            provider: None: the one whose client ids alone look like this one, else DEFAULT_PROVIDER.
            client_id, client_secret: of the app; empty where the settings name them.
            redirect_uri: https, on this machine, or at one of `allow_origins` (`http://host:port`).
            workspace_email, workspace_name: kept and shown.
            provider_params: what the provider needs beside these.
            allow_hosts: token hosts that `provider_params` may choose (`host`, or `host:port`).
            allow_origins: see `redirect_uri`.

        Raises:
            MisconfiguredError: something cannot be used, all of it is said at once, and by field in `fields`; or the
                row exists (kind `conflict`). Nothing was stored.
            RetryLaterError: nothing was stored.
        """
        texts = {"redirect_uri": redirect_uri, "workspace_email": workspace_email, "workspace_name": workspace_name}
        params = unwrap(capture_error(partial(params_cell, provider_params)))
        client_id = client_id.strip()
        entered = NewCredential(
            trimmed(location_id),
            provider or "",
            client_id,
            client_secret,
            "",
            params,
            {name: text.strip() for name, text in texts.items() if text.strip()},
        )
        del client_secret
        view = unwrap(capture_error(partial(self._register, entered, Allowed(allow_hosts, allow_origins))))
        LOG.info("%s %s: registered", view.location_id, view.provider)
        return view

    def update(
        self,
        row_id: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        redirect_uri: str | None = None,
        workspace_email: str | None = None,
        workspace_name: str | None = None,
        provider_params: Mapping[str, str] | None = None,
        is_active: bool | None = None,
        allow_hosts: Collection[str] = (),
        allow_origins: Collection[str] = (),
    ) -> TokenView:
        """Change a row; what is None stays. Location and provider stay in any case, and so do its tokens.

        Args:
            row_id: see `TokenView`.
            client_id, client_secret, redirect_uri, workspace_email, workspace_name: see `register`; an empty one is
                taken away.
            provider_params: those that are named are changed, an empty one is taken away, the others stay.
            is_active: false: its tokens are neither refreshed nor served.
            allow_hosts, allow_origins: see `register`.

        Raises:
            NoSuchTokenError: there is no such row.
            MisconfiguredError: see `register`; or its tokens are for another host (kind `conflict`).
            RetryLaterError: somebody is refreshing it, or the store does not answer. The row is as it was.
        """
        change = Amendment(
            client_id, client_secret, redirect_uri, workspace_email, workspace_name, provider_params, is_active
        )
        del client_secret
        view = unwrap(capture_error(partial(self._update, row_id, change, Allowed(allow_hosts, allow_origins))))
        LOG.info("%s %s: changed", view.location_id, view.provider)
        return view

    def delete(self, row_id: str, *, revoke: bool = False) -> None:
        """Take the secrets out of the row, then the row out of the table; with `revoke` first at its provider.

        What waits in the journal for it is dealt with before. Safe to repeat until it succeeds.

        Raises:
            NoSuchTokenError: there is no such row.
            RetryLaterError: somebody is refreshing it, or provider or store do not answer; the row is still there.
            MisconfiguredError: the provider refuses to revoke, or none of its endpoints is known; the row is as it was.
        """
        view = unwrap(capture_error(partial(self._end, row_id, at_provider=revoke, with_row=True)))
        LOG.info("%s %s: deleted", view.location_id, view.provider)

    def revoke(self, row_id: str) -> TokenView:
        """See `TokenManager.revoke_tokens`: the row stays, disabled and without a secret."""

        def act() -> TokenView:
            self._end(row_id, at_provider=True, with_row=False)
            return self.find(row_id)

        view = unwrap(capture_error(act))
        LOG.info("%s %s: tokens revoked", view.location_id, view.provider)
        return view

    def _register(self, entered: NewCredential, allowed: Allowed) -> TokenView:
        catalog, default = self._runtime.catalog, self._runtime.default_provider
        provider = entered.provider or catalog.provider_of(entered.client_id) or default
        with self._open(self._wait_seconds) as context:
            row = register(context, replace(entered, provider=provider), allowed)
            return view_of(self._status(row))

    def _update(self, row_id: str, change: Amendment, allowed: Allowed) -> TokenView:
        with self._open(self._wait_seconds) as context:
            row, name = self._row(context.store, row_id)
            rows = SettledRows(context, log_event, self._wait_seconds)
            with rows.settled("update", row.location_id, name) as (row, name):
                amend(context, rows, row, context.job_factory.find_provider(name), change, allowed)
            return self._view(context.store, row_id)

    def _end(self, row_id: str, *, at_provider: bool, with_row: bool) -> TokenView:
        with self._open(self._wait_seconds) as context:
            view = self._view(context.store, row_id)
            removal = Removal(context, log_event, self._wait_seconds)
            removal.end(view.location_id, view.provider, at_provider=at_provider, with_row=with_row)
            return view


def _state(row: Row, now: datetime) -> str:
    return state_of(RowGroup.of(row, now)) or WAITING
