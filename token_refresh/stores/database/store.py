"""The store: one table, `credentials`, conditional writes, a claim a row. By SQLAlchemy Core."""

from __future__ import annotations

import re
import threading
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from token_refresh.base.clock import Clock
from token_refresh.base.columns import ATTRIBUTES, Column
from token_refresh.stores.base import (
    STATUS_DISABLED,
    STOP_SECONDS,
    Change,
    Claimant,
    ClaimedRow,
    DueQuery,
    PageQuery,
    Pause,
    Row,
    RowGroup,
    Store,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    WriteResult,
    Written,
    make_row,
    unknown_columns,
)
from token_refresh.stores.database.backend import Backend, ShutOutError
from token_refresh.stores.database.claims import (
    IS_ROW,
    UNCLAIMED,
    by_urgency,
    conditional_update,
    grouped,
    is_due,
    is_free,
    may_be_on,
    what_stands,
)
from token_refresh.stores.database.schema import (
    ALL,
    CREDENTIALS,
    IS_ALARMING,
    LARGEST_ID,
    LINKS,
    LISTED,
    NOTES,
    PAUSES,
    SHOWN,
    UtcTime,
    held_in,
    stripped,
)
from token_refresh.stores.database.session import prepare_tables, refusal_of

_T = TypeVar("_T")
# Made once: to make a statement costs as much as to run it, and programs ask for tokens all day.
_OF_LOCATIONS = sa.select(*ALL).where(
    stripped(CREDENTIALS.c.location_id).in_(sa.bindparam("location_ids", expanding=True))
)

ROWS_A_PAGE = 500
_SQLITE = "sqlite:///"
NO_ID = -1 - LARGEST_ID
LONGEST_PAUSE_SECONDS = 7200  # one that ends later was written by a clock that was wrong, and holds for nobody
MOST_ROUNDS_AHEAD = 8  # of rows to choose one round from
# A claim that nobody has kept for two minutes may be taken over by a person.
CLAIMS_KEPT_EVERY = timedelta(seconds=30)
CLAIMS_KNOWN_FOR = timedelta(seconds=90)
RETRY_SECONDS = 0.5  # between two attempts to reach a server


class DatabaseStore(Store):
    """See `Store`.

    Args:
        database: an SQLAlchemy address; or what several stores of one program share, and whoever opened it closes.
        clock: for `created_at` and `updated_at`.
        say_outage: called when the server begins to be waited for, with what happened and what follows.

    Raises:
        StoreRefusedError: the file can be read by others, or a newer version of the program made it.
        StoreUnavailableError: the database cannot be opened.
    """

    kind = "database"
    claims = True
    flush_size = 100
    max_wait_seconds = 1.0

    def __init__(
        self,
        database: str | Backend,
        clock: Clock,
        say_outage: Callable[[str, str], None] = lambda _what, _what_follows: None,
    ) -> None:
        self._clock = clock
        self._say_outage = say_outage
        self._calls = 0
        self._owner = ""
        self._generations: dict[int, int] = {}  # of the rows that this process has claimed
        self._held, self._lost = set[int](), set[int]()  # its claims by now, and those that others have by now
        self._claims_kept_at: datetime | None = None
        self._passed = array("q")  # ids that were looked up, and neither claimed nor free
        self._rows_left = 0
        self._last_call: threading.Timer | None = None
        self._is_shared = isinstance(database, Backend)
        self._backend = database if isinstance(database, Backend) else open_backend(database)
        self._engine = self._backend.engine
        self._backend.check()
        try:
            self._made = prepare_tables(self._backend, self._transact)
        except StoreError:
            self.close()
            raise

    @property
    def identity(self) -> str:
        """See `Store.identity`: a random id that the database keeps, and takes along wherever it goes."""
        return f"database {self._backend.identity}"

    @property
    def calls(self) -> int:
        """See `Store.calls`: transactions."""
        return self._calls

    @property
    def columns(self) -> frozenset[str]:
        """See `Store.columns`."""
        return frozenset(ATTRIBUTES)

    def due(self, query: DueQuery) -> list[Row]:
        """See `Store.due`."""
        rows = self._select(LISTED, is_due(query))
        return [row for row in rows if query.admits(row)]

    def claim_due(self, query: DueQuery, claimant: Claimant, limit: int) -> Iterator[list[Row]]:
        """See `Store.claim_due`. Of the rows to come only the ids are kept, eight bytes each.

        Where others are at work more ids are tried at a time: a claim that finds all taken costs as much as any.
        """
        self._owner = claimant.owner
        listed = by_urgency(query, is_free(claimant, query, self._clock.now()))

        def look_up(connection: Connection) -> array[int]:
            self._compare_clock(connection)
            return array("q", connection.execute(listed).scalars())

        ids = self._transact(look_up)
        self._passed, self._rows_left = array("q"), 0
        window, start, width = list[int](), 0, limit
        while window or start < len(ids):
            end = start + width - len(window)
            window, start = window + ids[start:end].tolist(), end
            claimed = self._claim(query, claimant, window, limit)
            taken = {int(row.key) for row in claimed}
            window = [one for one in window if one not in taken]
            if len(claimed) < limit:  # nothing else in it is due and free any more
                self._passed.extend(window)
                window = []
                width = MOST_ROUNDS_AHEAD * limit if 2 * len(claimed) < limit else width
            self._rows_left = len(window) + max(len(ids) - start, 0)
            rows = [row for row in claimed if query.admits(row)]
            if len(rows) < len(claimed):
                self.give_up({row.key for row in claimed} - {row.key for row in rows})
            if rows:
                yield rows

    def _claim(self, query: DueQuery, claimant: Claimant, ids: list[int], limit: int) -> list[Row]:
        """The soonest of these rows that are still due and free, committed before anything is done with one.

        One that a rule of the table lets nobody write comes without a claim, with what the rule's refusal says.
        """
        now, table = self._clock.now(), CREDENTIALS.c
        # Written out: a driver works longer on so many parameters than on the rows.
        these: sa.BindParameter[int] = sa.bindparam("ids", ids, expanding=True, literal_execute=True)
        # What is repeated because its confirmation was lost finds its own claims.
        is_ours = sa.and_(table.claim_owner == claimant.owner, table.claimed_at == sa.literal(now, UtcTime))
        is_open = sa.or_(is_free(claimant, query, now), is_ours)
        soonest = by_urgency(query, table.id.in_(these), is_open).limit(limit)
        # What another transaction holds at the moment is passed over: waiting for it could be a deadlock.
        chosen = soonest.with_for_update(skip_locked=True).cte("chosen")
        claim = (
            sa.update(CREDENTIALS)
            .where(table.id.in_(sa.select(chosen.c.id)))
            .values(claim_owner=claimant.owner, claim_generation=table.claim_generation + 1, claimed_at=now)
            .returning(*LISTED, table.claim_generation)
        )
        try:
            records = self._transact(lambda connection: connection.execute(claim).mappings().all())
        except ShutOutError:
            raise
        except StoreRefusedError as error:
            return self._claim_one_by_one(query, claimant, ids, limit, error)
        self._generations |= {record["id"]: record["claim_generation"] for record in records}
        self._held.update(record["id"] for record in records)
        self._claims_kept_at = self._claims_kept_at or now
        held = held_in(LISTED)
        return [_row(record, held) for record in records]

    def _claim_one_by_one(
        self, query: DueQuery, claimant: Claimant, ids: list[int], limit: int, error: StoreRefusedError
    ) -> list[Row]:
        if len(ids) == 1:
            rows = self._select(LISTED, CREDENTIALS.c.id == ids[0], is_due(query))
            return [replace(row, error=error) for row in rows]
        claimed: list[Row] = []
        for one in ids:
            if len(claimed) < limit:
                claimed += self._claim(query, claimant, [one], limit)
        return claimed

    @property
    def rows_left(self) -> int:
        """See `Store.rows_left`."""
        return self._rows_left

    def give_up(self, keys: Collection[str]) -> None:
        """See `Store.give_up`."""
        if ids := [_id(key) for key in keys]:
            mine = CREDENTIALS.c.claim_owner == self._owner
            given_up = sa.update(CREDENTIALS).where(IS_ROW, mine).values(UNCLAIMED)
            self._transact(lambda connection: connection.execute(given_up, [{"row_id": number} for number in ids]))
            self._held.difference_update(ids)

    def keep_claims(self) -> None:
        """See `Store.keep_claims`. A clock that was set back counts as one that went on."""
        now = self._clock.now()
        if self._claims_kept_at is None or timedelta(0) <= now - self._claims_kept_at < CLAIMS_KEPT_EVERY:
            return
        mine = CREDENTIALS.c.claim_owner == self._owner
        keep = sa.update(CREDENTIALS).where(mine).values(claimed_at=now).returning(CREDENTIALS.c.id)
        held = set(self._transact(lambda connection: connection.execute(keep).scalars().all()))
        self._lost |= self._held - held
        self._held, self._claims_kept_at = held, now

    @property
    def knows_claims(self) -> bool:
        """See `Store.knows_claims`."""
        return self._claims_kept_at is None or abs(self._clock.now() - self._claims_kept_at) < CLAIMS_KNOWN_FOR

    def has_claim(self, key: str) -> bool:
        """See `Store.has_claim`."""
        return _id(key) not in self._lost

    def claim_owners(self) -> list[str]:
        """See `Store.claim_owners`."""
        owner = CREDENTIALS.c.claim_owner
        owners = sa.select(owner).where(owner.is_not(None)).distinct()
        return self._transact(lambda connection: list(connection.execute(owners).scalars()))

    def inherit(self, heir: Claimant, owners: Collection[str]) -> None:
        """See `Store.inherit`."""
        theirs = CREDENTIALS.c.claim_owner.in_(owners)
        inherit = sa.update(CREDENTIALS).where(theirs).values(claim_owner=heir.inherited)
        self._transact(lambda connection: connection.execute(inherit))

    def release(self, claimant: Claimant, keep: Collection[str]) -> None:
        """See `Store.release`."""
        owner = CREDENTIALS.c.claim_owner
        mine = sa.or_(owner == claimant.owner, owner == claimant.inherited)
        claimed = sa.select(CREDENTIALS.c.id).where(mine)
        kept = {_id(key) for key in keep}

        def act(connection: Connection) -> None:
            ids = [{"row_id": number} for number in connection.execute(claimed).scalars() if number not in kept]
            if ids:
                connection.execute(sa.update(CREDENTIALS).where(IS_ROW, mine).values(UNCLAIMED), ids)

        self._transact(act)
        for known in (self._generations, self._held, self._lost):
            known.clear()

    def claimed_by_others(self, query: DueQuery, claimant: Claimant) -> list[ClaimedRow]:
        """See `Store.claimed_by_others`."""
        if not self._passed and {claimant.owner}.issuperset(self.claim_owners()):
            return []  # as mostly; to make the statements below takes longer
        table = CREDENTIALS.c
        columns = sa.select(
            *(stripped(table.location_id), stripped(table.provider), sa.func.coalesce(table.claim_owner, "")),
            *(table.claimed_at, table.id),
        )
        others = columns.where(is_due(query), table.claim_owner.is_not(None), table.claim_owner != claimant.owner)
        free = columns.where(is_due(query), is_free(claimant, query, self._clock.now()))

        def act(connection: Connection) -> list[Any]:
            found, passed = [*connection.execute(others)], set(self._passed)
            if passed and (left := [row for row in connection.execute(free) if row.id in passed]):
                ids = [row.id for row in left]
                within = sa.select(table.id).where(table.id.in_(ids)).with_for_update(skip_locked=True)
                at_hand = set(connection.execute(within).scalars())
                found += [row for row in left if row.id not in at_hand]
            return found

        return [ClaimedRow(*row[:4]) for row in self._transact(act)]

    def share_pauses(self, pauses: Sequence[Pause]) -> list[Pause]:
        """See `Store.share_pauses`. A pause is only ever made longer."""
        now = self._clock.now()
        insert = self._backend.insert(PAUSES)
        longer = {name: insert.excluded[name] for name in ("until", "is_broken")}
        is_wrong = PAUSES.c.until > sa.literal(now + timedelta(seconds=LONGEST_PAUSE_SECONDS), UtcTime)
        share = insert.on_conflict_do_update(
            index_elements=[PAUSES.c.provider],
            set_=longer,
            where=sa.or_(PAUSES.c.until < insert.excluded.until, is_wrong),
        )
        hold = sa.select(PAUSES).where(PAUSES.c.until > sa.literal(now, UtcTime), sa.not_(is_wrong))

        def act(connection: Connection) -> list[Pause]:
            for pause in sorted(pauses, key=lambda one: one.key):  # in one order, so that no two wait for each other
                connection.execute(share, {"provider": pause.key, "until": pause.until, "is_broken": pause.is_broken})
            return [Pause(one.provider, one.until, one.is_broken) for one in connection.execute(hold)]

        return self._transact(act, is_repeatable=False)

    def rows(self, *, complete: bool = False) -> Iterator[Row]:
        """See `Store.rows`."""
        return self._pages(ALL if complete else SHOWN)

    def is_empty(self) -> bool:
        """See `Store.is_empty`."""
        some = sa.select(CREDENTIALS.c.id).limit(1)
        return self._transact(lambda connection: connection.execute(some).first()) is None

    def newest(self) -> Row | None:
        """See `Store.newest`."""
        found = sa.select(sa.func.max(CREDENTIALS.c.id)).scalar_subquery()
        return next(iter(self._select(LISTED, CREDENTIALS.c.id == found)), None)

    def alarming(self, now: datetime) -> list[Row] | None:
        """See `Store.alarming`. Two statements: SQLite uses the indexes of both parts only where no OR joins them."""
        active, expiry = CREDENTIALS.c.is_active.is_(sa.true()), CREDENTIALS.c.access_token_expiry
        is_over = sa.and_(active, expiry <= sa.literal(now, UtcTime))
        found = {row.key: row for one in (sa.and_(IS_ALARMING), is_over) for row in self._select(SHOWN, one)}
        return [row for row in found.values() if row.status != STATUS_DISABLED]

    def watched(self, ending: datetime) -> Iterator[Row]:
        """See `Store.watched`."""
        moment, table = sa.literal(ending, UtcTime), CREDENTIALS.c
        is_lone = sa.and_(table.encrypted_refresh == "", table.last_access_token != "")
        return self._pages(
            SHOWN,
            sa.or_(
                table.refresh_token_expiry < moment,
                sa.and_(is_lone, table.access_token_expiry < moment),
                table.provider_params.contains("secret_ends"),
            ),
        )

    def tally(self, now: datetime, *, by_state: bool = False) -> list[RowGroup]:
        """See `Store.tally`. The one statement reads the whole table."""
        found = self._transact(lambda connection: connection.execute(grouped(now, by_state=by_state)).all())
        return [RowGroup(provider.strip(), status.strip(), *rest) for provider, status, *rest in found]

    def page(self, query: PageQuery) -> list[Row]:
        """See `Store.page`. Of a table in which few rows are wanted no more is in memory at once, either."""
        cells: list[str] | None = None
        if query.is_of is not None:
            named = sa.select(CREDENTIALS.c.provider).distinct()
            found = self._transact(lambda connection: connection.execute(named).scalars().all())
            cells = [cell for cell in found if query.is_of(cell.strip())]
            if not cells:
                return []
        after = {"after": _id(query.after)} if query.after else {}
        rows = self._pages(SHOWN, *may_be_on(query, cells), **after, size=query.limit)
        return list(islice(filter(query.admits, rows), query.limit))

    def find(self, *location_ids: str) -> list[Row]:
        """See `Store.find`."""
        found: list[Row] = []
        names = sorted({one.strip() for one in location_ids})
        for start in range(0, len(names), ROWS_A_PAGE):
            found += self._read(_OF_LOCATIONS, ALL, location_ids=names[start : start + ROWS_A_PAGE])
        return found

    def read(self, keys: Sequence[str], *, complete: bool = False) -> dict[str, Row]:
        """See `Store.read`."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), ROWS_A_PAGE):  # SQLite bounds the number of parameters
            ids = [_id(key) for key in keys[start : start + ROWS_A_PAGE]]
            found |= {row.key: row for row in self._select(ALL if complete else LISTED, CREDENTIALS.c.id.in_(ids))}
        return found

    def prove_writable(self, row: Row) -> None:
        """See `Store.prove_writable`."""
        same = {"access_token_expiry": CREDENTIALS.c.access_token_expiry}
        update = sa.update(CREDENTIALS).where(CREDENTIALS.c.id == _id(row.key)).values(same)
        self._transact(lambda connection: connection.execute(update))

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """See `Store.write`. One transaction for all; where a value is refused, one for each."""
        now = self._clock.now()
        try:
            with suppress(_OneByOneError):
                return self._transact(
                    lambda connection: self._write_together(connection, changes, now), is_repeatable=False
                )
            return self._transact(
                lambda connection: [self._write_one(connection, change, now) for change in changes],
                is_repeatable=False,
            )
        except ShutOutError as error:
            return [WriteResult(Written.UNDONE, error) for _ in changes]
        except StoreRefusedError as error:
            if len(changes) == 1:
                return [WriteResult(Written.REFUSED, error)]
            return [result for change in changes for result in self.write([change])]
        except StoreError as error:
            return [WriteResult(Written.UNDONE, error) for _ in changes]

    def note_use(self, keys: Collection[str], now: datetime) -> None:
        """See `Store.note_use`. `updated_at` stays: nobody changed the row."""
        column = CREDENTIALS.c.id
        free = sa.select(column).where(column.in_([_id(key) for key in keys])).with_for_update(skip_locked=True)
        used = sa.update(CREDENTIALS).where(column.in_(free)).values(last_used_at=now)
        self._transact(lambda connection: connection.execute(used))

    def create(self, values: Mapping[str, Value]) -> str:
        """See `Store.create`."""
        missing = unknown_columns(values, self.columns)
        if missing:
            raise StoreRefusedError(f"the table has no column {', '.join(missing)}", "Leave it out.")
        now = self._clock.now()
        cells = {**_cells(values), "created_at": now, "updated_at": now}
        created = sa.insert(CREDENTIALS).values(cells).returning(CREDENTIALS.c.id)
        return str(self._transact(lambda connection: connection.execute(created).scalar_one(), is_repeatable=False))

    def delete(self, key: str) -> None:
        """See `Store.delete`. Links for its login go with it: SQLite may give its number to another row."""
        one, links = sa.delete(CREDENTIALS).where(CREDENTIALS.c.id == _id(key)), sa.delete(LINKS)
        own = links.where(LINKS.c.row_id == key)
        self._transact(lambda connection: (connection.execute(own), connection.execute(one)))

    def take_note(self, name: str, seconds: float) -> str | None:
        """See `Store.take_note`. Held longer than that ahead, it was taken by a clock that was wrong."""
        now, length = self._clock.now(), timedelta(seconds=seconds)
        until = NOTES.c.held_until
        is_free = sa.or_(until.is_(None), until <= sa.literal(now, UtcTime), until > sa.literal(now + length, UtcTime))
        make = self._backend.insert(NOTES).values(name=name).on_conflict_do_nothing()
        take = sa.update(NOTES).where(NOTES.c.name == name, is_free).values(held_until=now + length)

        def act(connection: Connection) -> str | None:
            connection.execute(make)
            return connection.execute(take.returning(NOTES.c.content)).scalar_one_or_none()

        return self._transact(act, is_repeatable=False)

    def put_note(self, name: str, text: str) -> None:
        """See `Store.put_note`."""
        put = sa.update(NOTES).where(NOTES.c.name == name).values(content=text, held_until=None)
        self._transact(lambda connection: connection.execute(put))

    def read_clock(self) -> None:
        """See `Store.read_clock`."""
        self._transact(self._compare_clock)

    def _compare_clock(self, connection: Connection) -> None:
        moment = self._backend.clock(connection)
        self.clock_offset = moment - self._clock.now() if moment is not None else None

    def setup(self) -> list[str]:
        """See `Store.setup`. Opening has done it all."""
        made, self._made = self._made, []
        return made

    def hurry(self) -> None:
        """See `Store.hurry`. A server that hangs without a word is left at the end of that time."""
        super().hurry()
        if not self._is_shared and self._last_call is None:
            self._last_call = threading.Timer(STOP_SECONDS, self._backend.abort)
            self._last_call.daemon = True
            with suppress(RuntimeError):  # the system starts no more threads
                self._last_call.start()

    def close(self) -> None:
        """See `Store.close`."""
        if self._last_call is not None:
            self._last_call.cancel()
        if not self._is_shared:
            self._backend.close()

    def _pages(
        self,
        columns: tuple[Any, ...],
        *conditions: sa.ColumnElement[bool],
        after: int = NO_ID,
        size: int = ROWS_A_PAGE,
    ) -> Iterator[Row]:
        """In pages, so that a large table is never in memory as a whole."""
        while page := self._select(columns, CREDENTIALS.c.id > after, *conditions, limit=size):
            yield from page
            after = int(page[-1].key)
            size = max(size, min(2 * size, ROWS_A_PAGE))

    def _select(
        self, columns: tuple[Any, ...], *conditions: sa.ColumnElement[bool], limit: int | None = None
    ) -> list[Row]:
        query = sa.select(*columns).where(*conditions)
        if limit is not None:
            query = query.order_by(CREDENTIALS.c.id).limit(limit)
        return self._read(query, columns)

    def _read(self, query: sa.Select[Any], columns: tuple[Any, ...], **values: Any) -> list[Row]:
        held = held_in(columns)
        return self._transact(
            lambda connection: [_row(record, held) for record in connection.execute(query, values).mappings()]
        )

    def _transact(self, act: Callable[[Connection], _T], *, is_repeatable: bool = True) -> _T:
        """Do `act` in a transaction of its own; where it is repeatable, again when the server was lost and is back.

        A change is not: what was written is found by reading it back, and new refreshes must stop meanwhile.
        """
        deadline, has_said = self._clock.monotonic() + self._backend.patience_seconds, False
        while True:
            self._calls += 1
            if self._backend.is_aborted:
                raise StoreUnavailableError("the database is left alone, for the program is to end", "Run it again.")
            try:
                with self._engine.begin() as connection:
                    return act(connection)
            except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
                is_lost = isinstance(error, SQLAlchemyError) and self._backend.is_lost(error)
                refusal = refusal_of(self._backend, error)
            # Raised out here: inside, `__context__` would be the original, which carries what was to be written.
            if not is_lost or not is_repeatable or self.is_hurried or self._clock.monotonic() >= deadline:
                raise refusal
            if not has_said:
                self._say_outage(str(refusal), f"It is waited for, {self._backend.patience_seconds:.0f} s at most.")
                has_said = True
            self._clock.sleep(RETRY_SECONDS)

    def _write_together(self, connection: Connection, changes: Sequence[Change], now: datetime) -> list[WriteResult]:
        """Each kind of change as one: to wait for every single one costs more than they do.

        Raises:
            _OneByOneError: how many were written is not enough to say which.
        """
        if len({change.key for change in changes}) < len(changes):
            raise _OneByOneError  # those of one row are taken in order
        kinds: dict[sa.Update, list[dict[str, Value]]] = defaultdict(list)
        for change in changes:
            update, values = self._update(change, now)
            kinds[update].append(values)
        for update, many in kinds.items():
            if connection.execute(update, many).rowcount != len(many):
                raise _OneByOneError
        return [WriteResult(Written.STORED) for _ in changes]

    def _write_one(self, connection: Connection, change: Change, now: datetime) -> WriteResult:
        update, values = self._update(change, now)
        if connection.execute(update, values).rowcount == 1:
            return WriteResult(Written.STORED)
        stand = (CREDENTIALS.c[name] for name in (*change.guards, "claim_owner", "claim_generation"))
        one = sa.select(*stand).where(IS_ROW)
        found = connection.execute(one, {"row_id": values["row_id"]}).mappings().one_or_none()
        return WriteResult(what_stands(change, found, is_claimed=_id(change.key) in self._generations))

    def _update(self, change: Change, now: datetime) -> tuple[sa.Update, dict[str, Value]]:
        """The statement of a change, the same object for all of its kind, and this one's values."""
        row_id = _id(change.key)
        cells = {**_cells(change.values), "updated_at": now}
        values = {f"new_{name}": value for name, value in cells.items()}
        seen: dict[str, Value] = {f"seen_{name}": cell for name, cell in change.guards.items()}
        generation = self._generations.get(row_id)
        claim: dict[str, Value] = {}
        if generation is not None:
            claim = {"owner": self._owner, "generation": generation}
        update = conditional_update(
            tuple(cells),
            tuple(change.guards),
            change.free_for,
            is_claimed=generation is not None,
            keeps_claim=change.keeps_claim,
            ends_claim=change.ends_claim,
        )
        return update, {"row_id": row_id, **seen, **claim, **values}


def parse_address(url: str) -> sa.URL:
    """The parts of an address. Of SQLite's the file is percent-decoded, which versions of SQLAlchemy do differently.

    Raises:
        ArgumentError: it is none.
    """
    if not url.startswith(_SQLITE):
        return sa.make_url(url)
    file, _, query = url.removeprefix(_SQLITE).partition("?")
    return sa.URL.create("sqlite", database=unquote(file), query=dict(parse_qsl(query)))


def open_backend(url: str, connections: int = 1) -> Backend:
    """The database that an address names. What only one of them needs is imported with it.

    Args:
        url: an SQLAlchemy address.
        connections: how many threads use it at once; a further one waits for its turn.

    Raises:
        StoreRefusedError: see `SqliteBackend` and `PostgresBackend`.
    """
    with suppress(ArgumentError):
        parsed = parse_address(url)
        if parsed.get_backend_name() == "sqlite":
            from token_refresh.stores.database.sqlite import SqliteBackend

            return SqliteBackend(parsed, connections)
        if parsed.drivername == "postgresql+psycopg":
            from token_refresh.stores.database.postgres import PostgresBackend

            return PostgresBackend(parsed, connections)
    raise StoreRefusedError(
        "DATABASE_URL is no database address", "Set it to sqlite:///FILE or postgresql://USER@HOST/NAME."
    )


def _row(record: Mapping[Any, Any], held: Sequence[Column]) -> Row:
    """A record that holds these columns as a row. One that somebody made inactive by hand is disabled."""
    times = {name: record[name] for name in ("created_at", "updated_at") if name in record}
    row = make_row(str(record["id"]), lambda name: record[ATTRIBUTES[name]], columns=held, **times)
    return row if record["is_active"] else replace(row, status=STATUS_DISABLED)


def _id(key: str) -> int:
    """The row's id; one that no row has, below all that are listed, where the key is none of ours."""
    number = int(key) if re.fullmatch("-?[0-9]{1,19}", key) else NO_ID
    return number if NO_ID < number <= LARGEST_ID else NO_ID


def _cells(values: Mapping[str, Value]) -> dict[str, Value]:
    """Cells by column; None empties one, whatever its type. `is_active` follows the status."""
    cells = {ATTRIBUTES[name]: value for name, value in values.items()}
    if "status" in cells:
        cells["is_active"] = cells["status"] != STATUS_DISABLED
    return {name: _empty(CREDENTIALS.c[name]) if value is None else value for name, value in cells.items()}


def _empty(column: sa.Column[Any]) -> Value:
    if column.nullable:
        return None
    return 0 if isinstance(column.type, sa.Integer) else ""


class _OneByOneError(Exception):
    """Changes cannot be written together; nothing of them was."""
