"""Who this run is to others on the table: its name, the claims that are its own, and whether it may be alone."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from functools import cache
from pathlib import Path

from crypto import Keyring
from token_refresh.base.clock import Clock
from token_refresh.base.errors import RunError
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import without_formula
from token_refresh.journal.installation import InstallationFile
from token_refresh.stores.base import Claimant, Row, run_of
from token_refresh.stores.sealed import SealedStore

_STOP = "Two would spend each other's tokens. Make sure that the other one is stopped, and its cron line, then"
_PUT_BACK = "Put the earlier folder back, or set STATE_DIR to it: it may hold new tokens. If it is gone for ever,"

_KEY_GONE = "what STATE_DIR knows of used tokens needs key {}, which is not configured"
_SET_KEY = "Set it as ENCRYPTION_KEY_FALLBACKS (or ENCRYPTION_KEY, if that is wrong) and run rotate-key. If it is lost,"


class NotAloneError(RunError):
    """Another installation may refresh the same tokens; nothing is sent until a person says which one goes on."""

    def __init__(self, message: str, first: str = _STOP) -> None:
        super().__init__(message, f"{first} run here once: {TOKEN_MANAGER} refresh --takeover")


class RunIdentity:
    """See above. Making one gives the run its number.

    Args:
        state: the state folder.
        store: the table, and the keys.
        clock: the time.
        non_rotating: see `Claimant`.
        takes_over: a person said that no other installation refreshes this store any more.

    Raises:
        JournalError: the disk refuses.
    """

    def __init__(
        self, state: Path, store: SealedStore, clock: Clock, non_rotating: frozenset[str], *, takes_over: bool
    ) -> None:
        self._store, self._keyring = store.store, store.keyring
        self._clock = clock
        self._host = without_formula(os.uname().nodename.replace("/", "-"))
        self._run = secrets.token_hex(8)
        self._non_rotating = non_rotating
        self._takes_over = takes_over
        self._installation = InstallationFile(state)
        self._has_issued = cache(self._installation.has_issued)
        self.refusal: NotAloneError | None = None
        self._begin()
        if self._identity.is_copy:
            self.refusal = NotAloneError(
                f"the state folder {state} was copied or restored, or is used on two machines: which tokens were spent "
                "elsewhere is not known here"
            )
        elif self._identity.missing_key:
            self.refusal = NotAloneError(_KEY_GONE.format(self._identity.missing_key), _SET_KEY)

    def claimant(self, slot: int) -> Claimant:
        """This process to others; `slot` is that of its journal."""
        return Claimant(
            self._identity.id,
            slot,
            self._run,
            self._identity.number,
            self._host,
            self._takes_over,
            self._identity.taken_over_at,
            self._non_rotating,
        )

    def inherit(self, slot: int, folder: Path, dead_slot: int) -> None:
        """Take over the claims of the dead processes that had a slot in a folder of journals; see `JournalFile`.

        A claim with our id that no run of ours made is a twin's: nothing is taken from it.
        """
        if not self._store.claims or self._identity.is_copy:
            return
        heir = self.claimant(slot)
        # Version 0.1.0 put the machine's name first, and the folder's after our id.
        earlier = f"-{heir.installation}-{folder.name[:8]}/{dead_slot}/"
        dead: list[str] = []
        for owner in self._store.claim_owners():
            number = run_of(owner) if owner.startswith(heir.of_installation) else None
            if number is not None and not self._has_issued(number):
                self._find_twin(f"a row is claimed by {owner[:80]}")
                return
            if owner.startswith(heir.of_slot(dead_slot)) or earlier in owner:
                dead.append(owner)
        if dead:
            self._store.inherit(heir, dead)

    def require_alone(self) -> None:
        """Raises `NotAloneError` where another installation may be at work."""
        if self.refusal is not None:
            raise self.refusal

    def refuse_others_row(self, row: Row, interval: int) -> None:
        """See who refreshed a row last.

        Args:
            row: a row that is due.
            interval: seconds between two runs; who has refreshed nothing in two of them is gone.

        Raises:
            NotAloneError: it was a twin of ours; or, where rows are not claimed, another installation lately.
        """
        at, taken_over_at = row.last_refreshed, self._identity.taken_over_at
        if not row.refreshed_by or at is None or (taken_over_at is not None and at <= taken_over_at):
            return
        number = self._identity.number_in(row.refreshed_by)
        who = f"{row.refreshed_by[:80]}, last at {at:%H:%M} UTC"
        if number is not None and not (number == 0 or self._has_issued(number)):
            self._find_twin(who)
            self.require_alone()
        horizon = self._clock.now() - timedelta(seconds=2 * interval)
        if number is None and not self._store.claims and at >= horizon:
            lost = "; perhaps STATE_DIR was lost or moved" if row.refreshed_by.startswith(f"{self._host}-") else ""
            raise NotAloneError(f"another installation refreshes this table: {who}{lost}", _PUT_BACK if lost else _STOP)

    def reseal_keys(self, keyring: Keyring) -> None:
        """Re-encrypt what tokens are recognised by with the primary key."""
        self._installation.reseal_keys(keyring)

    def _begin(self) -> None:
        now, store = self._clock.now(), self._store.identity
        self._identity = self._installation.begin(store, now, self._keyring, takes_over=self._takes_over)

    def _find_twin(self, what: str) -> None:
        """What is in doubt stays so until a person says who goes on; then it gets an id of its own."""
        self._installation.doubt()
        if self._takes_over:
            self._begin()
        else:
            self.refusal = NotAloneError(f"a copy of this installation is at work, with a copy of STATE_DIR: {what}")
