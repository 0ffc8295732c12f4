"""What a store of credentials is: rows in, changes out. A store never sees a plaintext secret.

A new store is a module with a `Store`, a line in `open_store` and a run of the contract suite.
"""

from __future__ import annotations

import enum
import heapq
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from token_refresh.base.checks import DOUBTFUL, GOOD, Check
from token_refresh.base.clock import parse_time
from token_refresh.base.columns import COLUMNS, OPTIONAL_COLUMNS, Column, ColumnType
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import ONBOARD_CLIENT, TOKEN_MANAGER, whose

Value = str | int | datetime | None

STATUS_ACTIVE = "active"
STATUS_REAUTHORIZE = "reauthorize"
STATUS_DISABLED = "disabled"
MAX_COUNT = 2**31 - 2  # of failures; one more must fit into every store, and into the journal
IDLE_STATUSES = (STATUS_REAUTHORIZE, STATUS_DISABLED)
SEALED = "sealed:v1:"
CELL_HEAD = len(SEALED) + 16  # up to the end of the key id; see docs/format.md
KNOWN_STATUSES = ("", STATUS_ACTIVE, *IDLE_STATUSES)


class StoreError(ActionableError):
    """A store cannot do what was asked."""

    kind = Kind.CONFIGURATION


class StoreUnavailableError(StoreError):
    """The store does not answer, or makes no sense; the same request may succeed later."""

    kind = Kind.STORE_UNAVAILABLE


class StoreQuotaError(StoreUnavailableError):
    """The month's calls are spent; waiting a few minutes does not help."""


class StoreRefusedError(StoreError):
    """The store will go on refusing until somebody corrects a permission, a name or a column."""


class StoreAltersError(StoreRefusedError):
    """The store shows something else than what was written. What was written is taken back as far as possible."""


@dataclass(frozen=True, slots=True)
class Row:
    """One credential as stored: secrets sealed, text as it stands, times aware and in UTC.

    `key` is the store's own name for the row. `provider` is empty where the row names none. A time that is
    missing or unreadable is None. `error` says why the row cannot be used, where one of its cells holds something
    of another type than belongs there; such a cell counts as empty. For the details see `columns.DETAILS`.
    `created_at` and `updated_at` are the store's own, None where it does not say them, and no columns.
    """

    key: str
    location_id: str
    client_id: str
    encrypted_secret: str = field(default="", repr=False)
    encrypted_refresh: str = field(default="", repr=False)
    last_access_token: str = field(default="", repr=False)
    access_token_expiry: datetime | None = None
    provider: str = ""
    provider_params: str = ""
    status: str = ""
    last_error: str = ""
    last_refreshed: datetime | None = None
    refreshed_by: str = ""
    failure_count: int = 0
    refresh_token_expiry: datetime | None = None
    scopes: str = ""
    token_type: str = ""
    id_token: str = field(default="", repr=False)
    redirect_uri: str = ""
    workspace_email: str = ""
    workspace_name: str = ""
    username: str = ""
    email: str = ""
    connected_at: datetime | None = None
    last_used_at: datetime | None = None
    previous_refresh: str = field(default="", repr=False)
    error: ActionableError | None = field(default=None, compare=False)
    created_at: datetime | None = field(default=None, compare=False)
    updated_at: datetime | None = field(default=None, compare=False)

    @property
    def has_only_access_token(self) -> bool:
        """Whether there is nothing to refresh it with, as of OAuth apps whose tokens do not expire: it is never due."""
        return bool(self.last_access_token) and not self.encrypted_refresh

    @property
    def is_failing(self) -> bool:
        """Whether its last refresh failed, or none can be tried."""
        return bool(self.failure_count or self.last_error or self.error)

    @property
    def is_endless(self) -> bool:
        """Whether its access token never expires: nothing could refresh it, and no end is known."""
        return self.has_only_access_token and self.access_token_expiry is None


@dataclass(frozen=True, eq=False)  # so that what a store makes of one may be kept by it
class DueQuery:
    """Which rows a listing wants: those with a refresh cell and a status that is not idle, and of them

    those whose expiry is missing, unreadable or before their provider's cut-off (all of them with `everything`),
    narrowed to `locations` and `providers` where these are given. Providers are compared by the exact text of their
    cells; a row that names none counts as `default_provider`'s. `idle`: the statuses that are left out.
    Also those whose refresh token ends before `ending`, and those whose times cannot be: refreshed after `ahead`, or
    refreshed at all and said to live beyond `latest`. Those that have an access token alone, which only the store can
    see, and that ends before `lone`.
    """

    cutoffs: Mapping[str, datetime]
    other_cutoff: datetime
    default_provider: str
    everything: bool = False
    locations: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    idle: tuple[str, ...] = IDLE_STATUSES
    latest: datetime | None = None
    ahead: datetime | None = None
    ending: datetime | None = None
    lone: datetime | None = None

    def admits(self, row: Row) -> bool:
        """Whether `row` belongs to the answer; what a store's own filter must agree with."""
        if row.status in self.idle:
            return False
        if not (row.encrypted_refresh or row.error):
            end = row.access_token_expiry
            return self.lone is not None and end is not None and end < self.lone
        if self.locations and row.location_id not in self.locations:
            return False
        provider = row.provider or self.default_provider
        if self.providers and provider not in self.providers:
            return False
        cutoff = self.cutoffs.get(provider, self.other_cutoff)
        expiry, refreshed = row.access_token_expiry, row.last_refreshed
        if self.everything or expiry is None or expiry < cutoff:
            return True
        if self.ending is not None and row.refresh_token_expiry is not None and row.refresh_token_expiry < self.ending:
            return True
        if refreshed is None:  # nobody knows how long it lives
            return False
        is_far = self.latest is not None and expiry > self.latest
        return is_far or (self.ahead is not None and refreshed > self.ahead)

    def left_out(self, rows: Iterable[Row]) -> tuple[str, str] | None:
        """Why none of these, all of one location that somebody named, was listed, and what to do about it.

        None where one is only not due.
        """
        mine = [row for row in rows if not self.providers or (row.provider or self.default_provider) in self.providers]
        if not mine:
            return "there is no such row", f"Check the name with: {TOKEN_MANAGER} status"
        if any(row.encrypted_refresh and row.status not in self.idle for row in mine):
            return ("its row was changed meanwhile", "Repeat it.") if self.everything else None
        row = next((row for row in mine if row.encrypted_refresh or row.has_only_access_token), mine[0])
        if not (row.encrypted_refresh or row.has_only_access_token):
            return "it has no credential", f"Onboard it: {ONBOARD_CLIENT}"
        if row.status == STATUS_DISABLED:
            enable = f"{TOKEN_MANAGER} enable {whose(row.location_id, row.provider or self.default_provider)}"
            return "it is disabled", f"To use it again: {enable}"
        if row.status == STATUS_REAUTHORIZE:
            action = f"Connect the account again, then run: {ONBOARD_CLIENT}"
            return "its refresh token does not work any more", action
        return "it has only an access token, which nothing refreshes", f"Log in again before it ends: {ONBOARD_CLIENT}"


@dataclass(frozen=True)
class PageQuery:
    """Some rows in the order of their keys.

    Attributes:
        limit: at most so many.
        admits: whether a row belongs to the answer. What follows says the same less exactly, for a store that can leave
            out rows without reading them.
        now: what `traits` depend on.
        after: the key of the last row that was seen; empty: from the first on.
        text: stands somewhere in what people call the row by, whatever its case.
        is_of: whether a `provider` cell names a wanted provider; None: all are.
        traits: fields of the row's `RowGroup`; its status is `active` where it is not idle.
        failing: keys of rows that may be failing though their cells do not say so.
    """

    limit: int
    admits: Callable[[Row], bool]
    now: datetime
    after: str = ""
    text: str = ""
    is_of: Callable[[str], bool] | None = None
    traits: Mapping[str, str | bool] = field(default_factory=dict)
    failing: Collection[str] = ()


@dataclass(frozen=True)
class Change:
    """New values for one row, to be written only while its refresh cell is still `seen`.

    Args:
        key: the row.
        seen: the `encrypted_refresh` cell that the values were made from.
        values: new values by column; columns that the store lacks and that are optional are left out.
        keeps_claim: the row is not finished with, so nobody else may take it.
        ends_claim: the row gets another credential: whoever has claimed it has it no more.
        beside: other cells, by column, that the values were made from and that must still be there as well.
        free_for: where it is given, the change is only for a row that no process has claimed, or one whose name
            begins so: the answer to a request that is on its way must find the cell that it was made from.
    """

    key: str
    seen: str = field(repr=False)
    values: Mapping[str, Value] = field(repr=False)
    keeps_claim: bool = False
    ends_claim: bool = False
    beside: Mapping[str, str] = field(default_factory=dict, repr=False)
    free_for: str | None = None

    @property
    def guards(self) -> dict[str, str]:
        """The cells that must still be as they were read, by column."""
        return {"encrypted_refresh": self.seen, **self.beside}

    def judge(self, cells: Mapping[str, str]) -> Written | None:
        """What the guarded cells as they are now say of this change; None: it may be written."""
        if all(cells[column] == seen for column, seen in self.guards.items()):
            return None
        # Where the store's answer was lost, the change is there already.
        after = {column: self.values.get(column, seen) or "" for column, seen in self.guards.items()}
        return Written.STORED if all(cells[column] == cell for column, cell in after.items()) else Written.CHANGED


class Written(enum.Enum):
    """What became of a change."""

    STORED = "stored"
    CHANGED = "changed"  # another refresh cell is there: somebody else was first, and theirs stays
    GONE = "gone"  # the row was deleted
    BUSY = "busy"  # another process has claimed the row: try again when it is through
    REFUSED = "refused"  # the store refuses these values, whatever their company
    UNCLAIMED = "unclaimed"  # another process has taken the row over, by --takeover
    UNDONE = "undone"  # not stored, or not known to be: write the same change again


class WriteResult(NamedTuple):
    """The fate of one change; `error` says why it was refused or left undone."""

    written: Written
    error: StoreError | None = None


class Usage(NamedTuple):
    """Calls of this month from this machine.

    `forecast` is what they come to by its end at the same rate, `seconds_left` how long it still lasts.
    """

    calls: int
    forecast: int
    seconds_left: float


@dataclass(frozen=True)
class Claimant:
    """Who claims rows: one process of one installation.

    Attributes:
        installation: an id that no other installation has.
        slot: a number that no other live process of the installation has for this store.
        run: a name that no other process ever had.
        number: of this run, among those of the installation.
        host: the machine's name, for people.
        takes_over: whether claims of other installations are overridden.
        taken_over_at: claims that other installations made before count no more.
        non_rotating: providers whose refresh tokens are never spent: a claim on their rows that is old may be taken,
            whoever has it, for a token that was sent twice harms nobody.
    """

    installation: str
    slot: int
    run: str
    number: int = 0
    host: str = ""
    takes_over: bool = False
    taken_over_at: datetime | None = None
    non_rotating: frozenset[str] = frozenset()

    @property
    def refreshed_by(self) -> str:
        """What a row reads that this process has refreshed."""
        return f"{self.host}-{self.installation}-{self.number}"

    @property
    def owner(self) -> str:
        """What a claim of this process reads."""
        return f"{self.of_slot(self.slot)}{self.number}/{self.run}/{self.host}"

    @property
    def inherited(self) -> str:
        """What claims of dead processes read that are this one's now."""
        return f"{self.of_slot(self.slot)}{self.number}/inherited by {self.run}"

    @property
    def of_installation(self) -> str:
        """How all claims of this installation begin."""
        return f"{self.installation}/"

    def of_slot(self, slot: int) -> str:
        """How all claims of this slot's processes begin; all but one of them are dead."""
        return f"{self.of_installation}{slot}/"


def run_of(owner: str) -> int | None:
    """The number of the run that made a claim; None where it is of version 0.1.0."""
    found = re.match("[^/]+/[0-9]+/([0-9]{1,18})/", owner)
    return int(found[1]) if found is not None else None


def host_of(owner: str) -> str:
    """The machine that a claim is of, as far as it is known."""
    parts = owner.split("/", 4)
    return parts[4] or parts[0] if len(parts) > 4 else parts[0]  # version 0.1.0 began with the name


class ClaimedRow(NamedTuple):
    """A row that somebody has claimed; `provider` as its cell names it, `owner` as `Claimant.owner` reads."""

    location_id: str
    provider: str
    owner: str
    claimed_at: datetime | None


def cell_head(cell: str) -> str:
    """How a cell begins, up to the key that it names; empty where it is of an older form, which names none."""
    return cell[:CELL_HEAD] if cell.startswith(SEALED) else ""


class RowGroup(NamedTuple):
    """Rows that are alike in all that their state depends on; see `Store.tally`.

    Attributes:
        provider, status: as their cells read; `disabled` where somebody made them inactive.
        has_token: there is something to refresh or to serve; elsewhere a row waits for onboarding.
        is_expired, is_failing: their access token is expired; their last refresh failed.
        refresh_cell, secret_cell: how their `encrypted_refresh` and `encrypted_secret` begin; see `cell_head`.
        rows: how many there are.
        next_expiry, refresh_token_end: the first that is known.
    """

    provider: str
    status: str
    has_token: bool
    is_expired: bool
    is_failing: bool
    refresh_cell: str
    secret_cell: str
    rows: int
    next_expiry: datetime | None
    refresh_token_end: datetime | None

    @classmethod
    def of(cls, row: Row, now: datetime) -> RowGroup:
        """The row alone."""
        end = row.access_token_expiry
        return cls(
            row.provider,
            row.status,
            bool(row.encrypted_refresh or row.has_only_access_token or row.error),
            end is not None and end <= now,
            row.is_failing,
            cell_head(row.encrypted_refresh),
            cell_head(row.encrypted_secret),
            1,
            end,
            row.refresh_token_expiry,
        )


def group_rows(rows: Iterable[Row], now: datetime) -> list[RowGroup]:
    """See `Store.tally`."""
    groups: dict[tuple[Any, ...], RowGroup] = {}
    for row in rows:
        group = RowGroup.of(row, now)
        known = groups.get(group[:7])
        groups[group[:7]] = group if known is None else _merged(known, group)
    return list(groups.values())


def _merged(group: RowGroup, other: RowGroup) -> RowGroup:
    ends = [min(filter(None, pair), default=None) for pair in zip(group[-2:], other[-2:], strict=True)]
    return RowGroup(*group[:7], group.rows + other.rows, *ends)


class Pause(NamedTuple):
    """Until when nobody is to ask a client's token endpoint, which said so, or (`is_broken`) a host that is silent.

    `key` names it to all processes.
    """

    key: str
    until: datetime
    is_broken: bool = False


STOP_SECONDS = 98.0  # after a stop was asked for a store is silent, whatever it does: a provider may need 90 of them


class Store(ABC):
    """A table of credentials.

    Any method may raise `StoreUnavailableError` (try later) or `StoreRefusedError` (somebody must fix something).
    """

    kind: str
    flush_size: int
    """How many finished rows make a write cheap."""
    max_wait_seconds: float
    """How long a finished row may wait for company."""
    in_trouble: bool = False
    """The store is failing right now: refresh nothing that would have to be stored."""
    is_hurried: bool = False
    """See `hurry`."""
    clock_offset: timedelta | None = None
    """How far the store's clock is ahead of ours, by its last answer; None where it has none of its own."""
    journalled_columns: frozenset[str] = frozenset()
    """Columns that do not take every value of theirs: what the journal remembers of a row counts for them."""
    claims: bool = False
    """Rows are claimed one by one; elsewhere a lock keeps a second run out."""
    place: str = ""
    """Which of the store's tables this is, as it was addressed; empty where there is only one."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What the store is, however it is addressed and wherever it is moved."""

    @property
    def places(self) -> frozenset[str]:
        """All that `place` may be for this table, as far as it is known."""
        return frozenset({self.place})

    @property
    @abstractmethod
    def columns(self) -> frozenset[str]:
        """The columns of this table that the program can use."""

    @property
    @abstractmethod
    def calls(self) -> int:
        """Requests made to the store so far."""

    def is_empty(self) -> bool:
        """Whether there is no row at all."""
        return self.newest() is None

    @abstractmethod
    def due(self, query: DueQuery) -> list[Row]:
        """All rows that `query` admits, complete but for `last_access_token`, before the first is refreshed."""

    def claim_due(self, query: DueQuery, claimant: Claimant, limit: int) -> Iterator[list[Row]]:  # noqa: ARG002
        """Like `due`, for this process alone, in rounds; each row at most once, whatever makes it due.

        Where rows are claimed: what is due is looked up once, and of it at most `limit` rows are claimed when a round
        is asked for, none that another live process has. Whatever is due again, or due since, is for the next call.
        """
        yield self.due(query)

    def claim_owners(self) -> list[str]:
        """Who has claimed rows."""
        return []

    def inherit(self, heir: Claimant, owners: Collection[str]) -> None:  # noqa: B027 - most stores have no claims
        """Let the claims of these owners, who are dead, count as the heir's; see `Claimant.inherited`."""

    def release(self, claimant: Claimant, keep: Collection[str]) -> None:  # noqa: B027 - most stores have no claims
        """Give up the claims of this process, and of the dead ones of its slot, but for the rows with these keys."""

    @property
    def rows_left(self) -> int:
        """How many rows that were due `claim_due` has not looked at, because no further round was asked for."""
        return 0

    def give_up(self, keys: Collection[str]) -> None:  # noqa: B027 - most stores have no claims
        """Give up the claims of this process on these rows: they turned out not to be due."""

    def keep_claims(self) -> None:  # noqa: B027 - most stores have no claims
        """Let others see that this process still works on what it has claimed; to be called about once a second.

        What another has taken over since then is found out by it: see `has_claim`.
        """

    @property
    def knows_claims(self) -> bool:
        """Whether `keep_claims` was done lately. If not, as after a sleep of the machine, nothing new may be sent."""
        return True

    def has_claim(self, key: str) -> bool:  # noqa: ARG002
        """Whether nobody has taken the row over, as far as is known. Any thread may ask."""
        return True

    def claimed_by_others(self, query: DueQuery, claimant: Claimant) -> list[ClaimedRow]:  # noqa: ARG002
        """The due rows that others have claimed, or that a transaction of somebody's holds, without an owner's name."""
        return []

    def share_pauses(self, pauses: Sequence[Pause]) -> list[Pause]:  # noqa: ARG002
        """Say to the other processes on this table whom to leave alone; returns what holds, of all of them."""
        return []

    @abstractmethod
    def rows(self, *, complete: bool = False) -> Iterator[Row]:
        """Every row; with its `last_access_token` only where `complete`, or where it has no refresh token.

        Secret details come only where `complete`.
        """

    def newest(self) -> Row | None:
        """A row that was added lately, where the store can say so; else any one; None where there is none."""
        return next(iter(self.rows()), None)

    def alarming(self, now: datetime) -> list[Row] | None:  # noqa: ARG002
        """The rows whose token is expired, that failed last time or need a login, but for disabled ones.

        None where only a listing of all rows could say so.
        """
        return None

    def watched(self, ending: datetime) -> Iterator[Row]:  # noqa: ARG002
        """The rows of which something may end before `ending` that no refresh moves, and perhaps others."""
        return self.rows()

    def tally(self, now: datetime, *, by_state: bool = False) -> list[RowGroup]:  # noqa: ARG002
        """All rows, counted in groups; no row is in two of them.

        `by_state`: groups may leave empty what the state of their rows does not depend on, and be counted sooner.
        """
        return group_rows(self.rows(), now)

    def page(self, query: PageQuery) -> list[Row]:
        """The first rows, in the order of their keys, that `query` admits; as `rows` has them.

        The order is always the same, and a row that is added or deleted meanwhile moves no other one.
        """
        rows = (row for row in self.rows() if row.key > query.after and query.admits(row))
        return heapq.nsmallest(query.limit, rows, key=lambda row: row.key)

    @abstractmethod
    def find(self, *location_ids: str) -> list[Row]:
        """The rows of these locations, complete."""

    @abstractmethod
    def read(self, keys: Sequence[str], *, complete: bool = False) -> dict[str, Row]:
        """The rows with these keys as they are now; a deleted one is absent.

        They come with their `last_access_token` only where `complete`.
        """

    @abstractmethod
    def prove_writable(self, row: Row) -> None:
        """Write the row's `access_token_expiry` with the value just read.

        It proves that a token that is fetched next can be stored.
        """

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """Write each change over the cell it was made from; one result each, in order. Safe to repeat."""

    def note_use(self, keys: Collection[str], now: datetime) -> None:  # noqa: B027 - most stores have no column for it
        """Write the rows' `last_used_at`, where there is such a column. Nobody's open transaction is waited for."""

    @abstractmethod
    def create(self, values: Mapping[str, Value]) -> str:
        """Add a row and return its key.

        Raises:
            StoreRefusedError: a value is for a column that the table lacks.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Take the row out of the table. Safe to repeat."""

    def create_all(self, rows: Sequence[Mapping[str, Value]]) -> list[StoreRefusedError | None]:
        """Add rows in as few calls as the store can; for each None, or why it was refused.

        Raises:
            StoreUnavailableError: which of them are there is not known; look before they are added again.
        """
        return [self._refusal(values) for values in rows]

    def _refusal(self, values: Mapping[str, Value]) -> StoreRefusedError | None:
        try:
            self.create(values)
        except StoreRefusedError as error:
            return error
        return None

    def warnings(self) -> list[tuple[str, str]]:
        """What somebody should correct in the table, as far as is known by now: what is wrong, and what to do."""
        return []

    def setup(self) -> list[str]:
        """Make what the table lacks; one sentence for each thing made. Safe to repeat.

        Raises:
            StoreRefusedError: it may not be made from here; the action says what to do by hand.
        """
        return []

    def hurry(self) -> None:
        """Wait out no outage any more, and be through in `STOP_SECONDS`: somebody wants the end.

        May be called from a signal handler.
        """
        self.is_hurried = True

    def read_clock(self) -> None:  # noqa: B027 - most stores hear of a clock with every answer
        """Ask for what `clock_offset` says, where nothing has been asked yet that shows it."""

    def usage(self) -> Usage | None:
        """The calls of this month, where the store counts them; None elsewhere."""
        return None

    def take_note(self, name: str, seconds: float) -> str | None:  # noqa: ARG002
        """A text that the store keeps under this name, empty at first, for this process alone until `put_note`.

        None where another process has taken it less than so many seconds ago, and where a store keeps none.
        """
        return None

    def put_note(self, name: str, text: str) -> None:  # noqa: B027 - most stores keep none
        """Replace the text; others may take it again."""

    def close(self) -> None:  # noqa: B027 - most stores have nothing to close
        """Release connections."""


def make_row(
    key: str,
    cell: Callable[[str], object],
    error: ActionableError | None = None,
    columns: Iterable[Column] = COLUMNS,
    *,
    created_at: object = None,
    updated_at: object = None,
) -> Row:
    """A row from what a store holds; `cell` gives a value of these columns, whatever its type, or None."""
    values: dict[str, Any] = {}
    for column in columns:
        value = cell(column.name)
        if column.type is ColumnType.DATETIME:
            values[column.attribute] = parse_time(value)
        elif column.type is ColumnType.NUMBER:
            # Neither NaN nor a number out of bounds passes.
            values[column.attribute] = int(value) if isinstance(value, int | float) and 0 <= value <= MAX_COUNT else 0
        else:  # half a surrogate pair is no text that a file or an address takes
            is_empty = value is None or value == ""  # as most are
            values[column.attribute] = "" if is_empty else str(value).encode(errors="replace").decode().strip()
    return Row(key=key, error=error, created_at=parse_time(created_at), updated_at=parse_time(updated_at), **values)


def check_columns(store: Store, name: str) -> Iterator[Check]:
    """Whether the store answers, and what its table lacks; `name` is what the settings call it."""
    missing = [column for column in OPTIONAL_COLUMNS if column not in store.columns]
    yield Check("store", GOOD, f"{name} answers, with all required columns")
    if "refreshed_by" in missing:
        what = "without refreshed_by a second machine on this table goes unnoticed"
        yield Check("columns", DOUBTFUL, what, f"Run: {TOKEN_MANAGER} setup")
    for what, action in store.warnings():
        yield Check("columns", DOUBTFUL, what, action)
    if missing:
        yield Check("columns", GOOD, f"not there, and not required: {', '.join(missing)}")


def check_writing(store: Store, rows: Sequence[Row]) -> Check:
    """Whether the store accepts writes; no value is changed.

    Raises:
        StoreError: it does not.
    """
    if not rows:
        return Check("writing", DOUBTFUL, "there is no row to try it on", f"Add a client: {ONBOARD_CLIENT}")
    store.prove_writable(rows[0])
    return Check("writing", GOOD, "the store accepts writes (one cell was written with the value it had)")


def unknown_columns(values: Iterable[str], columns: frozenset[str]) -> list[str]:
    """The names in `values` that the table lacks."""
    return sorted(name for name in values if name not in columns)


def lacking_columns(
    columns: Collection[str], provider: str, provider_params: str, default_provider: str
) -> ActionableError | None:
    """What is wrong where a table lacks a column without which a row would be another one; None where it does not.

    A table without the optional columns holds rows of the default provider with default parameters only.
    """
    needed = {"provider": provider != default_provider, "provider_params": bool(provider_params)}
    missing = [name for name, is_needed in needed.items() if is_needed and name not in columns]
    if not missing:
        return None
    what = f"the table has no column {' and '.join(missing)}, which this row needs"
    return ActionableError(what, f"Run: {TOKEN_MANAGER} setup", Kind.CONFIGURATION)
