"""What an earlier run left in the journal is stored before a command does anything of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from token_refresh.terminal.console import Talk

if TYPE_CHECKING:
    from token_refresh.refresh.parts import Parts


def store_leftovers(parts: Parts, talk: Talk) -> None:
    """Store them, and tell what became of each. The caller holds the lock.

    Raises:
        StoreError, JournalError: not everything could be stored.
    """
    from token_refresh.refresh.recovery import replay
    from token_refresh.refresh.write_back import Draft, WriteBack
    from token_refresh.terminal.report import tell

    writeback = WriteBack(parts.store, parts.journal, parts.clock, lambda result: tell(talk, result))
    replay(parts, Draft(parts.store, parts.host_name, parts.journal.failures), writeback, talk.warn)
    error = writeback.error or writeback.journal_error
    if error is not None:
        raise error
