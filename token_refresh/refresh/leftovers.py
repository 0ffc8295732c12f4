"""What an earlier run left in the journal: stored before a command does anything of its own, or dealt with by hand."""

from __future__ import annotations

from crypto import SealedCellError
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Subscriber
from token_refresh.journal.entries import STEP_LOST, STEP_SENT, STEP_SUPERSEDED, Journal
from token_refresh.refresh.parts import Parts
from token_refresh.refresh.recovery import replay
from token_refresh.refresh.result_builder import ResultBuilder
from token_refresh.refresh.write_back import WriteBack


def store_leftovers(parts: Parts, emit: Subscriber, *, with_superseded: bool = False) -> frozenset[str]:
    """Store them, and say what became of each. The caller holds the lock.

    Args:
        parts: what it works with.
        emit: gets a `RowFinished` for each answer that was stored, and notices.
        with_superseded: see `replay`.

    Returns:
        the keys of rows whose own answer still waits.

    Raises:
        StoreError, JournalError: not everything could be stored.
    """
    writeback = WriteBack(parts.store, parts.journal, parts.clock, emit)
    builder = ResultBuilder(parts.store, parts.host_name, parts.journal.failures)
    blocked = replay(parts, builder, writeback, emit, with_superseded=with_superseded)
    error = writeback.error or writeback.journal_error
    if error is not None:
        raise error
    return blocked


def printed_answer(text: str) -> str:
    """The sealed answer in what was printed when no disk took it.

    Raises:
        ActionableError: there is none, or there are several.
    """
    words = [word for word in text.split() if word.startswith("sealed:")]
    if len(words) != 1:
        raise ActionableError(
            "there is no sealed answer in it" if not words else "there are several sealed answers in it",
            "Give it the part that begins with sealed: of one line.",
            Kind.USAGE,
        )
    return words[0]


def keep_printed_answer(journal: Journal, sealed: str) -> None:
    """Put a printed answer where it belongs: its request is in the journal, and only there does it open.

    Raises:
        ActionableError: its request is not there.
    """
    for entry in journal.entries(STEP_SENT, STEP_LOST):
        try:
            journal.open_sealed(entry, sealed)
        except SealedCellError:
            continue
        return journal.keep_sealed(entry.id, sealed)
    raise ActionableError(
        "no request in this journal belongs to that answer, or its key is gone",
        "Set STATE_DIR and ENCRYPTION_KEY as they were when it was printed.",
        Kind.NOT_FOUND,
    )


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
