"""Changing the key: every cell that needs it is re-encrypted, each only over the cell that was read.

It can end at any moment and be started again: a row is written whole or not at all, and is either done or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.stop import Stop
from token_refresh.base.text import counted
from token_refresh.journal.entries import key_ids
from token_refresh.keys.inspection import Finding, Inspector, Survey
from token_refresh.refresh.claims import rows_of_others
from token_refresh.refresh.listing import query_of
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import StoreError, StoreUnavailableError, Written

ROUNDS = 24  # a row that changed while it was re-encrypted, or is being refreshed, is read again,
PAUSE_SECONDS = 5.0  # after a pause: in all two minutes, longer than any refresh takes
AGAIN = f"Run it again: {TOKEN_MANAGER} rotate-key"


@dataclass
class RotationResult:
    """How a rotation ended.

    Attributes:
        key_id: of the key in use.
        resealed: how many rows were re-encrypted.
        journal_resealed: how many journal entries were.
        left: rows that still need another key, and why.
        journal_left: keys that journal entries still need.
        elsewhere: keys that entries in the journals of other tables need, or of this one before a restore.
    """

    key_id: str
    resealed: int
    journal_resealed: int
    left: list[Finding]
    journal_left: list[str]
    elsewhere: list[str]

    @property
    def is_done(self) -> bool:
        """Whether the key in use opens everything."""
        return not (self.left or self.journal_left or self.elsewhere)

    def as_json(self) -> dict[str, Any]:
        """The answer of `rotate-key`, but for the store."""
        return {
            "key_id": self.key_id,
            "done": self.is_done,
            "rows_resealed": self.resealed,
            "journal_resealed": self.journal_resealed,
            "journal_keys_needed": sorted({*self.journal_left, *self.elsewhere}),
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
        self._store = context.store
        self._journal = context.journal
        self._clock = context.clock
        self._identity = context.identity
        self._dead = context.claimant.inherited
        self._inspector = inspector
        self._key_id = key_id
        self._resealed = 0
        self._refused: dict[str, StoreError] = {}

    def stale_rows(self) -> list[str]:
        """The keys of the rows that need re-encrypting. Nothing is written.

        Raises:
            ActionableError: no configured key opens anything.
        """
        survey = self._survey()
        survey.require_key()
        return [one.row for one in survey.stale]

    def run(self, keys: Sequence[str], advance: Callable[[int], None], stop: Stop) -> RotationResult:
        """Re-encrypt what is stale in these rows, and the journal.

        Args:
            keys: see `stale_rows`.
            advance: is called with how many rows more are done.
            stop: looked at before each batch of rows.

        Raises:
            ActionableError: somebody wanted the end; what is done is done.
            StoreError: the store cannot be written now; what is done is done.
            JournalError: nothing was written after it.
        """
        total = len(keys)
        for number in range(ROUNDS):
            if number and keys:
                self._clock.sleep(PAUSE_SECONDS)
            changed: list[str] = []
            for batch in _batches(keys, self._store.store.flush_size):
                if stop.reason is not None:
                    what = f"{stop.reason}; re-encrypted: {self._resealed} of {counted(total, 'row')}"
                    raise ActionableError(what, AGAIN, Kind.STOPPED)
                changed += (again := self._reseal(batch))
                advance(len(batch) - len(again))
            keys = changed
        return RotationResult(
            key_id=self._key_id,
            resealed=self._resealed,
            journal_resealed=self._reseal_journal(),
            left=self._left(),
            journal_left=sorted(key_ids(self._journal.entries()) - {self._key_id}),
            elsewhere=sorted(key_ids(self._journal.entries_elsewhere()) - {self._key_id}),
        )

    def _survey(self) -> Survey:
        return self._inspector.survey(self._store.store.rows(complete=True))

    def _reseal_journal(self) -> int:
        self._identity.reseal_keys(self._store.keyring)
        return self._journal.reseal()

    def _reseal(self, keys: Sequence[str]) -> list[str]:
        """Read and write some rows; returns those that changed in between."""
        rows = self._store.store.read(keys, complete=True).values()
        resealing = (self._inspector.resealing(row, self._dead) for row in rows)
        changes = [change for change in resealing if change is not None]
        # First the journal: an answer that was lost, or waits, must be known as this row's whichever cell it holds.
        cells = {change.seen: str(change.values.get("encrypted_refresh") or "") for change in changes}
        self._journal.rekey_entries(cells)
        results = self._store.store.write(changes) if changes else []
        changed: list[str] = []
        failure: StoreError | None = None
        for change, result in zip(changes, results, strict=True):
            if result.written is Written.STORED:
                self._resealed += 1
            elif result.written in (Written.CHANGED, Written.BUSY):
                changed.append(change.key)
            elif result.written is Written.REFUSED and result.error is not None:
                self._refused[change.key] = result.error
            elif result.written is Written.UNDONE:
                failure = result.error or StoreUnavailableError("the store did not confirm a write", "Run it again.")
        if failure is not None:
            raise failure
        return changed

    def _left(self) -> list[Finding]:
        """Rows that do not open, and rows that open and could not be re-encrypted."""
        survey = self._survey()
        left = list(survey.findings)
        query = replace(query_of(self._context, Scope(everything=True)), idle=())
        held = rows_of_others(self._context, query) if survey.stale else []
        held_by = {(one.location_id, one.provider): (one.reason, one.action) for one in held}
        for one in survey.stale:
            error, of_row = self._refused.get(one.row), (one.location_id, one.provider)
            changed = f"{' and '.join(one.columns)} changed all the time", AGAIN
            why, action = (str(error), error.action) if error else held_by.get(of_row, changed)
            left.append(Finding(one.row, *of_row, why, action))
        return left


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
