"""Changing the key: every cell that needs it is re-encrypted, each only over the cell that was read.

It can end at any moment and be started again: a row is written whole or not at all, and is either done or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.journal.entries import Journal
from token_refresh.keys.inspection import Finding, Inspector, Survey
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import Change, StoreError, StoreUnavailableError, Written
from token_refresh.stores.sealed import SealedStore

ROUNDS = 24  # a row that changed while it was re-encrypted, or is being refreshed, is read again,
PAUSE_SECONDS = 5.0  # after a pause: in all two minutes, longer than any refresh takes
AGAIN = "Run it again: python token_manager.py rotate-key"


@dataclass
class RotationResult:
    """How a rotation ended.

    Attributes:
        key_id: of the key in use.
        resealed: how many rows were re-encrypted.
        journal_resealed: how many journal entries were.
        left: rows that still need another key, and why.
        journal_left: keys that journal entries still need.
    """

    key_id: str
    resealed: int
    journal_resealed: int
    left: list[Finding]
    journal_left: list[str]

    @property
    def is_done(self) -> bool:
        """Whether the key in use opens everything."""
        return not self.left and not self.journal_left

    def as_json(self) -> dict[str, Any]:
        """The answer of `rotate-key`, but for the store."""
        return {
            "key_id": self.key_id,
            "done": self.is_done,
            "rows_resealed": self.resealed,
            "journal_resealed": self.journal_resealed,
            "journal_keys_needed": self.journal_left,
            "left": [one.as_json() for one in self.left],
        }


class KeyRotation:
    """A whole rotation: survey, re-encrypt, and survey again, to say done only where no other key is needed.

    Args:
        context: of a run. The caller holds the lock.
        inspector: knows what each row is bound to.
        key_id: of the key in use.
    """

    def __init__(self, context: RunContext, inspector: Inspector, key_id: str) -> None:
        self._context = context
        self._inspector = inspector
        self._key_id = key_id

    def stale_rows(self) -> list[str]:
        """The keys of the rows that need re-encrypting. Nothing is written.

        Raises:
            ActionableError: no configured key opens anything.
        """
        survey = self._survey()
        survey.require_key()
        return [one.row for one in survey.stale]

    def run(self, keys: Sequence[str], advance: Callable[[int], None], stopped: Sequence[str]) -> RotationResult:
        """Re-encrypt these rows, and the journal.

        Args:
            keys: see `stale_rows`.
            advance: is called with how many rows more are done.
            stopped: why to end; empty as long as nobody wants the end.

        Raises:
            ActionableError: somebody wanted the end; what is done is done.
            StoreError, JournalError: see `Rotator.reseal`.
        """
        context = self._context
        dead = context.claimant.of_slot(context.claimant.slot)
        rotator = Rotator(
            context.store, self._inspector, context.journal, advance, lambda: not stopped, context.clock, dead
        )
        if not rotator.reseal(keys):
            what = f"{stopped[0]}; {rotator.resealed} of {len(keys)} rows were re-encrypted"
            raise ActionableError(what, AGAIN, Kind.STOPPED)
        return RotationResult(
            key_id=self._key_id,
            resealed=rotator.resealed,
            journal_resealed=context.journal.reseal(),
            left=_left(self._survey(), rotator.refused),
            journal_left=sorted(context.journal.key_ids() - {self._key_id}),
        )

    def _survey(self) -> Survey:
        return self._inspector.survey(self._context.store.store.rows(complete=True))


def _left(survey: Survey, refused: Mapping[str, StoreError]) -> list[Finding]:
    """Rows that do not open, and rows that open and could not be re-encrypted."""
    left = list(survey.findings)
    for one in survey.stale:
        error = refused.get(one.row)
        why = str(error) if error else f"{' and '.join(one.columns)} changed, or was being refreshed, all the time"
        left.append(Finding(one.row, one.location_id, one.provider, why, error.action if error else AGAIN))
    return left


class Rotator:
    """Re-encrypts rows. The caller holds the lock.

    Args:
        store: takes the new cells.
        inspector: knows what each row is bound to.
        journal: must still know its entries by the new cells.
        advance: is called with how many rows more are done.
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
        """Re-encrypt what is stale in the rows with these keys; returns whether it came to the end of them.

        Raises:
            StoreError: the store cannot be written now; what is done is done.
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
        results = self._store.store.write(changes) if changes else []
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
        rows = self._store.store.read(keys, complete=True).values()
        changes = [self._inspector.resealing(row, self._free_for) for row in rows]
        return [change for change in changes if change is not None]
