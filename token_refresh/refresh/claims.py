"""What a process has claimed is given up when it has done with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from token_refresh.journal.entries import STEP_ANSWERED, STEP_LOST, STEP_SENT
from token_refresh.journal.file import JournalError
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import StoreError


@contextmanager
def released_at_the_end(context: RunContext) -> Iterator[None]:
    """Around claims: all are given up, but for rows whose end is not known: their story is in our journal.

    A store that is away keeps the claims; the next run of this host goes on from them.
    """
    try:
        yield
    finally:
        with contextlib.suppress(StoreError, JournalError):
            entries = context.journal.entries(STEP_SENT, STEP_ANSWERED, STEP_LOST)
            context.store.store.release(context.claimant, {entry.row_key for entry in entries})
