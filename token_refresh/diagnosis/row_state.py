"""The states of rows, for everybody who shows or counts them, with what is remembered of failures. Opens no cell."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from crypto import Keyring
from providers.base import ProviderError, Verdict
from providers.index import ProviderIndex
from token_refresh.base.checks import BAD, Check
from token_refresh.base.events import Outcome
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER, flag, whose
from token_refresh.base.text import counted
from token_refresh.diagnosis.ends import ACCESS_TOKEN, WORDS, next_end
from token_refresh.journal.failures import Failure, read_failures
from token_refresh.refresh.due import ENDING, DuePolicy
from token_refresh.refresh.result import action_of, with_remembered_failure
from token_refresh.stores.base import (
    IDLE_STATUSES,
    STATUS_ACTIVE,
    STATUS_DISABLED,
    STATUS_REAUTHORIZE,
    Row,
    RowGroup,
)


class State(enum.StrEnum):
    """What a row's token is to whoever relies on it; the first that applies."""

    DISABLED = "disabled"
    LOGIN_NEEDED = "login_needed"
    EXPIRED = "expired"
    FAILING = "failing"
    VALID = "valid"


WAITING = "waiting"  # for its credential: such a row is in no state
DUE, ENDS_SOON = "due", "ending"
ALARMS = (State.EXPIRED, State.LOGIN_NEEDED, State.FAILING)
"""The states that somebody has to look at, the gravest first."""

_SHOWN_NAMES = 10
_ORDER = (*ALARMS, ENDS_SOON, WAITING, State.VALID, State.DISABLED)
_LOGIN = action_of(Outcome.REAUTHORIZE, Verdict.DEAD_GRANT) or ""
_FIX = "Fix what the last error says; the next run tries again."
_LAST = datetime.fromisoformat("9999-12-31T00:00:00+00:00")


def state_of(group: RowGroup) -> State | None:
    """The state of rows that are alike; None where they wait for onboarding."""
    if group.status == STATUS_DISABLED:
        return State.DISABLED
    if group.status == STATUS_REAUTHORIZE:
        return State.LOGIN_NEEDED
    if not group.has_token:
        return None
    if group.is_expired:
        return State.EXPIRED
    return State.FAILING if group.is_failing else State.VALID


_IN_USE: dict[str, str | bool] = {"status": STATUS_ACTIVE, "has_token": True}
TRAITS: Mapping[str, dict[str, str | bool]] = {
    State.DISABLED: {"status": STATUS_DISABLED},
    State.LOGIN_NEEDED: {"status": STATUS_REAUTHORIZE},
    WAITING: {"status": STATUS_ACTIVE, "has_token": False},
    State.EXPIRED: _IN_USE | {"is_expired": True},
    State.FAILING: _IN_USE | {"is_expired": False, "is_failing": True},
    State.VALID: _IN_USE | {"is_expired": False, "is_failing": False},
}
"""What `state_of` wants of a row in each state, or that waits: see `PageQuery.traits`."""


@dataclass(frozen=True)
class RowStatus:
    """One row, as it is shown.

    Attributes:
        provider: its name in the catalogue; as it stands in the row where no provider has it.
        state: None where it waits for its credential.
        end: what of it ends soon and no refresh moves, see `diagnosis/ends.py`; None where nothing does.
        is_due: the next run refreshes it.
        has_login: the program can open a login at its provider.
    """

    row: Row
    provider: str
    state: State | None
    end: tuple[str, datetime] | None = None
    is_due: bool = False
    has_login: bool = False

    @property
    def shown_state(self) -> str:
        """For people and programs that look at each row."""
        return self.state or WAITING

    @property
    def note(self) -> str:
        """What else is worth knowing of a valid token: that it is `due`, or that something of it is `ending`."""
        if self.state is not State.VALID:
            return ""
        return ENDS_SOON if self.end is not None else DUE if self.is_due else ""

    @property
    def needs_person(self) -> bool:
        """Whether somebody has to look at it, soon at the latest."""
        return self.state in ALARMS or self.note == ENDS_SOON

    @property
    def error(self) -> str:
        """What its last failure was; empty where it did not fail."""
        return self.row.last_error or (str(self.row.error) if self.row.error is not None else "")

    @property
    def action(self) -> str:
        """What to do about it; empty where nothing is to be done."""
        if self.state is None or (self.state is State.DISABLED and not self._has_credential):
            return f"Enter its credential: {ONBOARD_CLIENT}"
        if self.row.error is not None and self.state in ALARMS:
            return self.row.error.action
        if self.state is State.LOGIN_NEEDED:
            return self._login
        if self.note == ENDS_SOON and self.end is not None:
            what, end = self.end
            return self._login if what == ACCESS_TOKEN else f"On {end:%Y-%m-%d} {WORDS[what]} ends: renew it before."
        if self.state is State.EXPIRED:
            if self.row.has_only_access_token:
                return self._login
            look = f"Run: {TOKEN_MANAGER}; and look whether cron does."
            return _FIX if self.row.is_failing else look
        if self.state is State.DISABLED:
            return f"To use it again: {TOKEN_MANAGER} enable {whose(self.row.location_id, self.provider)}"
        return _FIX if self.state is State.FAILING else ""

    @property
    def _has_credential(self) -> bool:
        return bool(self.row.encrypted_refresh) or self.row.has_only_access_token

    @property
    def _login(self) -> str:
        """The whole command, where one does it."""
        if not self.has_login:
            return _LOGIN
        row = f"{flag('--provider', self.provider)} {flag('--location', self.row.location_id)}"
        return f"A person must log in again: {ONBOARD_CLIENT} --authorize {row}"

    @property
    def _rank(self) -> tuple[int, datetime, str, str]:
        rank = _ORDER.index(self.note if self.note == ENDS_SOON else self.shown_state)
        return rank, self.row.access_token_expiry or _LAST, self.row.location_id, self.provider


def check_clients(rows: Iterable[RowStatus]) -> Iterator[Check]:
    """What `doctor` says of the clients that need a person; nothing where none does."""
    names = [f"{one.row.location_id} ({one.note or one.shown_state})" for one in rows if one.needs_person]
    if names:
        shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
        who = counted(len(names), "client needs", "clients need")
        yield Check("clients", BAD, f"{who} somebody: {shown}", f"See: {TOKEN_MANAGER} status")


def row_statuses(
    rows: Iterable[Row], providers: ProviderIndex, default_provider: str, policy: DuePolicy, now: datetime
) -> list[RowStatus]:
    """All rows with their states: those that need a person first, then by the next expiry."""

    statuses = (row_status(row, providers, default_provider, policy, now) for row in rows)
    return sorted(statuses, key=lambda one: one._rank)


def row_status(
    row: Row, providers: ProviderIndex, default_provider: str, policy: DuePolicy, now: datetime
) -> RowStatus:
    """One row with its state."""
    name = providers.slug_of(row.provider or default_provider) or row.provider
    end = next_end(row, name, providers.get, now)
    lone = row.access_token_expiry if row.has_only_access_token else None
    if lone is not None and lone - now < ENDING:
        end = ACCESS_TOKEN, lone
    is_due = bool(row.encrypted_refresh) and policy.is_due(row, providers.summaries.get(name), now)
    return RowStatus(row, name, state_of(RowGroup.of(row, now)), end, is_due, _has_login(name, providers))


def _has_login(name: str, providers: ProviderIndex) -> bool:
    try:
        return providers.get(name).authorize_url is not None
    except ProviderError:
        return False


class RememberedFailures:
    """What a table does not say of the failures of its rows, read beside a run that is active.

    Args:
        folder: the store's state folder.
        keyring: recognises the cells that were tried.
        columns: those that say it themselves.
    """

    def __init__(self, folder: Path, keyring: Keyring, columns: frozenset[str]) -> None:
        self._known = read_failures(folder)
        self._keyring = keyring
        self._columns = columns

    @property
    def keys(self) -> frozenset[str]:
        """The rows of which something is remembered."""
        return frozenset(self._known)

    def added_to(self, row: Row) -> Row:
        """The row with what is remembered of it."""
        failure = self._known.get(row.key)
        if failure is not None and not failure.is_of(self._keyring.fingerprints(row.encrypted_refresh)):
            failure = None
        return _with_unmarked_failure(with_remembered_failure(row, failure, self._columns), failure)


def _with_unmarked_failure(row: Row, failure: Failure | None) -> Row:
    """A refused client is no row's fault, so none is marked; but whoever looks at its rows has to know."""
    if failure is None or failure.tried_at is None or row.last_error or row.status in IDLE_STATUSES:
        return row
    if row.last_refreshed is not None and row.last_refreshed >= failure.tried_at:
        return row
    return replace(row, last_error=failure.last_error, failure_count=failure.failure_count)
