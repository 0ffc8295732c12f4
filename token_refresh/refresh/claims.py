"""Claims: given up with what they were for, and which of them are other hosts'."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from token_refresh.journal.entries import OPEN_STEPS, Step
from token_refresh.journal.file import JournalError
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Claimant, StoreError, host_of

LONG_CLAIM = timedelta(seconds=120)  # longer than an exchange and its write


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


def other_hosts(held: Mapping[str, int], claimant: Claimant) -> Counter[str]:
    """How many rows other hosts hold, of what others do (`RunFinished.held`).

    A process of this host ends, or is found dead; what another host has claimed may stay for ever.
    """
    hosts = Counter[str]()
    for owner, count in held.items():
        if not owner.startswith(claimant.of_installation):
            hosts[host_of(owner)] += count
    return hosts
