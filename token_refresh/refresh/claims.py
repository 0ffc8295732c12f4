"""Claims: given up with what they were for, and what to say, and to do, of those that others have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from token_refresh.base.events import RowWaiting
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.journal.entries import OPEN_STEPS, Step
from token_refresh.journal.file import JournalError
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import ClaimedRow, DueQuery, StoreError, host_of

LONG_CLAIM = timedelta(seconds=120)  # since it was last kept: see `Store.keep_claims`


@contextmanager
def released_at_the_end(context: RunContext) -> Iterator[None]:
    """All claims of this process are given up, and those of dead ones before it, but for rows whose end is not known.

    The story of those is in our journal. A store that is away keeps the claims; the next run of this host goes on from
    them.
    """
    try:
        yield
    finally:
        with contextlib.suppress(StoreError, JournalError):
            entries = context.journal.entries(*OPEN_STEPS, Step.UNPROVEN, Step.UNREAD)
            context.store.store.release(context.claimant, {entry.row_key for entry in entries})


def rows_of_others(context: RunContext, query: DueQuery) -> list[RowWaiting]:
    """The due rows that other processes have claimed, and what that means for each."""
    claimed = context.store.store.claimed_by_others(query, context.claimant)
    return [_waiting(row, context, context.clock.now()) for row in claimed]


def _waiting(row: ClaimedRow, context: RunContext, now: datetime) -> RowWaiting:
    """A takeover is only advised where no refresh can still be under way.

    A process of this installation ends, or is found dead; what another one has claimed may stay for ever. A claim in
    the future was made by a clock that was wrong.
    """
    # The clocks of two machines may differ by some minutes.
    is_brief = row.claimed_at is not None and -3 * LONG_CLAIM < now - row.claimed_at < LONG_CLAIM
    host = host_of(row.owner)[:80]
    reason, action = "another process is refreshing it", "Try again in a minute."
    if not row.owner:
        reason, action = "a transaction in the database that is still open holds the row", "End that transaction."
    elif not row.owner.startswith(context.claimant.of_installation):
        reason += f", on {host}"
        if not is_brief:
            reason, first = f"{host} claimed it and has not finished with it", "Run the program there once"
            if host == context.claimant.host:
                reason += "; perhaps STATE_DIR was lost or moved"
                first = "Put that folder back, or set STATE_DIR to it"
            action = f"{first}. If it is gone for ever, run here once: {TOKEN_MANAGER} refresh --takeover"
    provider = context.job_factory.slug_of(row.provider or context.default_provider)
    return RowWaiting(row.location_id, provider, reason, None, action, is_claimed=True, is_brief=is_brief)
