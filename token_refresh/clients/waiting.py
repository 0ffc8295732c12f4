"""What waits in the journal for a person, who ends it by hand."""

from __future__ import annotations

import re

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.journal.entries import Entry, Journal, Step, predecessors
from token_refresh.refresh.jobs import Job
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Row

_SEALED = re.compile(r"sealed:v1:[A-Za-z0-9_:-]+")


def printed_answer(text: str) -> str:
    """The sealed answer in what was printed when no disk took it.

    Raises:
        ActionableError: there is none, or there are several.
    """
    found: set[str] = set(_SEALED.findall(text))  # on stdout and on stderr it was the same
    if len(found) != 1:
        raise ActionableError(
            "there is no encrypted answer in it" if not found else "there are several encrypted answers in it",
            "Give it the part that begins with sealed: of one line.",
            Kind.USAGE,
        )
    return found.pop()


def end_wait(journal: Journal, location_id: str, *, resend: bool) -> int:
    """End the wait of a location's tokens whose answers have a form that is not known; returns how many those are.

    With `resend` the next run sends them once more, as it would after an answer that was lost, and the answers stay
    until the row is refreshed. Without it the answers are deleted, and the tokens count as never sent.

    Raises:
        ActionableError: there are none.
    """
    waiting = [entry.id for entry in journal.entries(Step.UNREAD) if entry.location_id == location_id.strip()]
    if not waiting:
        raise ActionableError(
            f"no answer of {location_id!r} waits with a form that is not known",
            f"List what waits with: {TOKEN_MANAGER} recover",
            Kind.USAGE,
        )
    for entry_id in waiting:
        if resend:
            journal.mark_lost(entry_id)
        else:
            journal.finish([entry_id])
    return len(waiting)


def forget_entry(context: RunContext, entry_id: int, *, is_agreed: bool) -> None:
    """Delete what nobody needs any more; of entries that no run will use, or whose tokens no row holds any more.

    Raises:
        ActionableError: a run may still need it, or nobody agreed.
    """
    journal, store = context.journal, context.store.store
    entries = [entry for entry in journal.entries() if entry.id == entry_id]
    is_kept = any(entry.step is Step.SUPERSEDED for entry in entries)
    is_over = any(one.row_key and one.place in ("", store.place) and _is_over(context, one) for one in entries)
    if not is_kept and not is_over:
        raise ActionableError(
            f"there is no entry {entry_id} that can be forgotten",
            f"List them with: {TOKEN_MANAGER} recover",
            Kind.USAGE,
        )
    if not is_agreed:
        raise ActionableError(
            f"entry {entry_id} holds tokens that nobody can make again", "Repeat with --yes to delete it.", Kind.USAGE
        )
    journal.finish([entry_id])


def _is_over(context: RunContext, entry: Entry) -> bool:
    """Whether its row is gone, or the credential that was refreshed was taken out of it, as `revoke` does.

    A row that was deleted may have been imported again: then another one holds the token.
    """
    rows = context.store.store.find(entry.location_id)  # SQLite gives the key of a deleted row to another location
    for row in rows:
        if row.key == entry.row_key:
            return not (row.encrypted_refresh or entry.admission)
    return not any(_may_hold(context, row, entry) for row in rows if row.encrypted_refresh)


def _may_hold(context: RunContext, row: Row, entry: Entry) -> bool:
    """Whether a row has the token of an entry, or one that came for it; one that cannot be read may have it."""
    job = context.job_factory.job(row)
    if not isinstance(job, Job):
        return job.provider == entry.provider
    return entry.token in job.token or bool(predecessors(job.token, row.location_id, [entry]))
