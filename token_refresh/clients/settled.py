"""Rows that are settled: the journal holds nothing of them any more, and nobody refreshes them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from token_refresh.base.errors import MisconfiguredError, RetryLaterError
from token_refresh.base.events import Subscriber, audited
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.clients.rows import POLL_SECONDS, find_one
from token_refresh.journal.entries import OPEN_STEPS, Step
from token_refresh.refresh import replay
from token_refresh.refresh.claims import released_at_the_end, rows_of_others
from token_refresh.refresh.listing import CLAIMED_ROWS, query_of
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import Change, DueQuery, Row, Value, Written


class SettledRows:
    """Settles rows, and writes them. The caller holds the run lock.

    Args:
        context: what it works with.
        emit: gets what became of what an earlier run left.
        wait_seconds: how long to wait for who is refreshing the row.
    """

    def __init__(self, context: RunContext, emit: Subscriber, wait_seconds: float) -> None:
        self._context = context
        self._emit = emit
        self._wait_seconds = wait_seconds

    @contextmanager
    def settled(self, use: str, location_id: str, provider: str | None) -> Iterator[tuple[Row, str]]:
        """The row and its provider, settled as long as the context is open.

        `use` is what the security log says of what is done inside.

        Raises:
            TokenError: there is none, several, or it cannot be settled now.
            StoreError, JournalError: what an earlier run left could not be stored.
        """
        # The token in the row may have a successor in the journal.
        blocked = store_leftovers(self._context, self._emit)
        self._refuse_unfinished(location_id, provider)
        row, name = self._row(location_id, provider)
        if row.key in blocked:
            raise RetryLaterError(
                f"{row.location_id} {name}: newer tokens of it wait in the journal, and cannot be stored now",
                f"See: {TOKEN_MANAGER} recover",
            )
        with audited(self._context.audit, use, row.location_id) as used, self.alone(row, name):
            row, _ = self._row(location_id, name)
            used.client_id = row.client_id
            yield row, name

    def _row(self, location_id: str, provider: str | None) -> tuple[Row, str]:
        return find_one(self._context.store.store, self._context.job_factory, location_id, provider)

    def _refuse_unfinished(self, location_id: str, provider: str | None) -> None:
        """What an onboarding, or a request that may still arrive, would bring after the end must come before it."""
        context = self._context
        slug = None if provider is None else context.job_factory.slug_of(provider)
        now = context.clock.now()
        for entry in context.journal.entries(*OPEN_STEPS):
            is_of = entry.location_id == location_id and slug in (None, entry.provider)
            is_under_way = entry.step == Step.SENT and now < replay.arrives_by(entry)
            if is_of and (entry.admission or is_under_way):
                what = "its onboarding is" if entry.admission else "a request of an earlier run may still be"
                raise RetryLaterError(
                    f"{location_id} {entry.provider}: {what} on its way; nothing was changed",
                    f"Repeat it in two minutes. If that does not help: {TOKEN_MANAGER} recover",
                )

    def require_status(self) -> None:
        """Raise `MisconfiguredError` where the table has no column for a status."""
        if "status" not in self._context.store.store.columns:
            raise MisconfiguredError("the table has no column status", f"Run: {TOKEN_MANAGER} setup")

    def write(self, row: Row, name: str, values: Mapping[str, Value], *, is_well: bool = False) -> None:
        """Write cells, as far as the table has columns for them, over the row as it was read; `name` is for people.

        With `is_well` what is remembered of its failures is forgotten.

        Raises:
            RetryLaterError: somebody changed it meanwhile.
            StoreError: the store does not take it.
        """
        columns = self._context.store.store.columns
        values = {column: value for column, value in values.items() if column in columns}
        [result] = self._context.store.store.write([Change(row.key, row.encrypted_refresh, values)])
        if result.error is not None:
            raise result.error
        if result.written is not Written.STORED:
            raise RetryLaterError(
                f"{row.location_id} {name}: somebody changed the row meanwhile; theirs stays", "Repeat it."
            )
        if is_well:
            self._context.journal.failures.record([], [row.key])

    @contextmanager
    def alone(self, row: Row, name: str) -> Iterator[None]:
        """Nobody refreshes the row meanwhile: its token would get a successor that lives."""
        context = self._context
        cell = row.provider or context.default_provider
        scope = Scope(everything=True, locations=(row.location_id,), providers=(cell,))
        query = replace(query_of(context, scope), idle=())
        deadline = context.clock.monotonic() + self._wait_seconds
        with released_at_the_end(context):
            while not self._is_claimed(row, query):
                held = rows_of_others(context, query)
                if not held:
                    break  # a row that no run would take
                if context.clock.monotonic() >= deadline:
                    what = f"{row.location_id} {name}: {held[0].reason}; nothing was changed"
                    raise RetryLaterError(what, held[0].action)
                context.clock.sleep(POLL_SECONDS)
            yield

    def _is_claimed(self, row: Row, query: DueQuery) -> bool:
        rounds = self._context.store.store.claim_due(query, self._context.claimant, CLAIMED_ROWS)
        return row.key in {one.key for rows in rounds for one in rows}
