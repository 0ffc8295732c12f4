"""Changing the key: every cell that wants it is sealed anew, each only over the cell that was read.

It can end at any moment and be started again: a row is written whole or not at all, and is either done or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from token_refresh.base.clock import Clock
from token_refresh.journal.entries import Journal
from token_refresh.keys.inspection import Finding, Inspector
from token_refresh.stores.base import Change, StoreError, StoreUnavailableError, Written
from token_refresh.stores.sealed import SealedStore

ROUNDS = 24  # a row that changed while it was sealed anew, or is being refreshed, is read again,
PAUSE_SECONDS = 5.0  # after a pause: in all two minutes, longer than any refresh takes


class Rotator:
    """Seals rows anew. The caller holds the lock.

    Args:
        store: takes the new cells.
        inspector: knows what each row is bound to.
        journal: must still know its entries by the new cells.
        advance: is told how many rows are done.
        is_wanted: whether to go on.
        clock: for waiting.
        free_for: rows whose claim begins so are nobody's: see `Change`.

    Attributes:
        resealed: how many rows were written.
        refused: why the store does not take a row, by its key.
    """

    def __init__(
        self,
        store: SealedStore,
        inspector: Inspector,
        journal: Journal,
        advance: Callable[[int], None],
        is_wanted: Callable[[], bool],
        clock: Clock,
        free_for: str,
    ) -> None:
        self._store = store
        self._inspector = inspector
        self._journal = journal
        self._advance = advance
        self._is_wanted = is_wanted
        self._clock = clock
        self._free_for = free_for
        self.resealed = 0
        self.refused: dict[str, StoreError] = {}

    def reseal(self, keys: Sequence[str]) -> bool:
        """Seal anew what is stale in the rows with these keys; returns whether it came to the end of them.

        Raises:
            StoreError: the store takes nothing now; what is done is done.
            JournalError: nothing was written after it.
        """
        size = self._store.store.flush_size
        for number in range(ROUNDS):
            if number and keys:
                self._clock.sleep(PAUSE_SECONDS)
            changed: list[str] = []
            for start in range(0, len(keys), size):
                if not self._is_wanted():
                    return False
                changed += self._reseal_batch(keys[start : start + size])
            keys = changed
        return True

    def _reseal_batch(self, keys: Sequence[str]) -> list[str]:
        """Read and write some rows; returns those that changed in between."""
        changes = self._changes(keys)
        # First the journal: an answer that was lost, or waits, must be known as this row's whichever cell it holds.
        cells = {change.seen: str(change.values.get("encrypted_refresh") or "") for change in changes}
        self._journal.rekey_entries(cells)
        results = self._store.write(changes) if changes else []
        changed: list[str] = []
        failure: StoreError | None = None
        for change, result in zip(changes, results, strict=True):
            if result.written is Written.STORED:
                self.resealed += 1
            elif result.written in (Written.CHANGED, Written.BUSY):
                changed.append(change.key)
            elif result.written is Written.REFUSED and result.error is not None:
                self.refused[change.key] = result.error
            elif result.written is Written.UNDONE:
                failure = result.error or StoreUnavailableError("the store did not confirm a write", "Run it again.")
        self._advance(len(keys) - len(changed))
        if failure is not None:
            raise failure
        return changed

    def _changes(self, keys: Sequence[str]) -> list[Change]:
        changes = []
        for row in self._store.store.read(keys, complete=True).values():
            look = self._inspector.look(row)
            if not isinstance(look, Finding) and look.stale:
                changes.append(self._store.resealing(row, self._inspector.binding(row), look, self._free_for))
        return changes
