"""What an earlier run left in the journal: stored before a command does anything of its own, or dealt with by hand."""

from __future__ import annotations

import re

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Subscriber
from token_refresh.journal.entries import ALL_STEPS, STEP_SUPERSEDED, STEP_UNREAD, Journal
from token_refresh.refresh.claims import released_at_the_end
from token_refresh.refresh.recovery import replay
from token_refresh.refresh.run_context import RunContext
from token_refresh.refresh.write_back import WriteBack

_SEALED = re.compile(r"sealed:v1:[A-Za-z0-9_:-]+")


def store_leftovers(context: RunContext, emit: Subscriber, *, with_superseded: bool = False) -> frozenset[str]:
    """Store them, and say what became of each. The caller holds the lock.

    Args:
        context: what it works with.
        emit: gets a `RowFinished` for each answer that was stored, and notices.
        with_superseded: see `replay`.

    Returns:
        the keys of rows whose own answer still waits.

    Raises:
        StoreError, JournalError: not everything could be stored.
    """
    writeback = WriteBack(context, emit)
    with released_at_the_end(context):
        blocked = replay(context, writeback, emit, with_superseded=with_superseded)
    writeback.end_unproven()
    error = writeback.error or writeback.journal_error
    if error is not None:
        raise error
    return blocked


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


def keep_printed_answer(journal: Journal, sealed: str) -> None:
    """Put a printed answer where it belongs: its request is in the journal, and it names the token that was sent.

    Of several that it fits it goes to the newest whose end is not known, else to one whose answer was lost, or that was
    superseded without it.

    Raises:
        ActionableError: its request is not there.
    """
    newest_first = [entry for entry in reversed(journal.entries(*ALL_STEPS)) if entry.lacks_answer]
    for entry in sorted(newest_first, key=lambda entry: ALL_STEPS.index(entry.step)):
        if journal.is_answer_to(entry, sealed):
            return journal.keep_sealed(entry.id, sealed)
    raise ActionableError(
        "no request in this journal belongs to that answer, or its key is gone",
        "Set STATE_DIR and ENCRYPTION_KEY as they were when it was printed.",
        Kind.NOT_FOUND,
    )


def end_wait(journal: Journal, location_id: str, *, resend: bool) -> int:
    """End the wait of a location's tokens whose answers have a form that is not known; returns how many those are.

    With `resend` the next run sends them once more, as it would after an answer that was lost, and the answers stay
    until the row is refreshed. Without it the answers are deleted, and the tokens count as never sent.

    Raises:
        ActionableError: there are none.
    """
    waiting = [entry.id for entry in journal.entries(STEP_UNREAD) if entry.location_id == location_id.strip()]
    if not waiting:
        raise ActionableError(
            f"no answer of {location_id!r} waits with a form that is not known",
            "List what waits with: python token_manager.py recover",
            Kind.USAGE,
        )
    for entry_id in waiting:
        if resend:
            journal.mark_lost(entry_id)
        else:
            journal.finish([entry_id])
    return len(waiting)


def forget_entry(journal: Journal, entry_id: int, *, is_agreed: bool) -> None:
    """Delete what nobody needs any more; only of entries that no run will ever use.

    Raises:
        ActionableError: a run may still need it, or nobody agreed.
    """
    if all(entry.id != entry_id for entry in journal.entries(STEP_SUPERSEDED)):
        raise ActionableError(
            f"there is no entry {entry_id} that can be forgotten",
            "List them with: python token_manager.py recover",
            Kind.USAGE,
        )
    if not is_agreed:
        raise ActionableError(
            f"entry {entry_id} holds tokens that nobody can make again", "Repeat with --yes to delete it.", Kind.USAGE
        )
    journal.finish([entry_id])
