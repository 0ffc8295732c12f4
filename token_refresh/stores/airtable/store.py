"""Airtable as a store: one thread, few calls, nothing taken for granted about the table.

Facts that shape it: five requests a second a base and a penalty of 30 s beyond that; ten records a write, refused as
a whole; no conditional write, so a row is read again just before it is written; a 200 without `records` reads as an
empty table to the library; times without a zone shift; some columns keep something else than was written, and only
the answer to the write shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pyairtable import Api
from pyairtable import formulas as f

from token_refresh.base.clock import Clock, iso
from token_refresh.stores.airtable.answers import (
    GoneError,
    IteratorGoneError,
    LargePageError,
    MissingOptionError,
    PausedError,
    RefusedBatchError,
    altered,
    map_errors,
    senseless,
)
from token_refresh.stores.airtable.cells import Cells, is_kept, json_of, text_of
from token_refresh.stores.airtable.columns import COLUMN_TYPES, Columns
from token_refresh.stores.airtable.gate import Gate
from token_refresh.stores.airtable.layout import Layout
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.airtable.pace import Pace
from token_refresh.stores.base import (
    STATUS_ACTIVE,
    STATUS_REAUTHORIZE,
    Change,
    DueQuery,
    Row,
    Store,
    StoreAltersError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    Usage,
    Value,
    WriteResult,
    Written,
    make_row,
    unknown_columns,
)

RECORDS_A_PAGE = 100
PAGE_SIZES = (RECORDS_A_PAGE, 10, 1)  # the next smaller one where a page is larger than an answer may be
RECORDS_A_WRITE = 10
REREAD_SECONDS = 5.0  # how old a comparison may be when the write is sent
LIST_ATTEMPTS = 3
_UNREAD = frozenset({"last_access_token"})  # some kilobytes that are read only where somebody needs them


class AirtableStore(Store):
    """See `Store`. One thread owns it."""

    kind = "airtable"
    flush_size = RECORDS_A_PAGE
    max_wait_seconds = 20.0

    def __init__(self, options: AirtableOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pace = Pace(options.pace_file, clock, options.requests_per_second)
        self._gate = Gate(clock, self._pace, options)
        self._api = _api(options, self._gate)
        self._table = self._api.table(options.base_id, options.table_name)
        self._columns = Columns(options, self._api, self._table, clock)
        self._page_sizes: Sequence[int] = PAGE_SIZES
        self._changes_words = False
        self.place = options.table_name

    @property
    def identity(self) -> str:
        """See `Store.identity`: the base. What a record is called is unique in it."""
        return self._options.identity

    @property
    def places(self) -> frozenset[str]:
        """See `Store.places`."""
        return self._columns.names() | {self.place}

    @property
    def calls(self) -> int:
        """See `Store.calls`."""
        return self._gate.calls

    @property
    def clock_offset(self) -> timedelta | None:  # type: ignore[override] # a plain attribute elsewhere
        """See `Store.clock_offset`."""
        return self._gate.clock_offset

    @property
    def in_trouble(self) -> bool:  # type: ignore[override] # a plain attribute elsewhere
        """See `Store.in_trouble`."""
        return self._gate.in_trouble

    @property
    def columns(self) -> frozenset[str]:
        """See `Store.columns`."""
        return self._columns.known()

    @property
    def journalled_columns(self) -> frozenset[str]:  # type: ignore[override] # a plain attribute elsewhere
        """See `Store.journalled_columns`."""
        return frozenset({"status"}) if STATUS_REAUTHORIZE in self._columns.missing_options else frozenset()

    def due(self, query: DueQuery) -> list[Row]:
        """See `Store.due`. The filter runs at Airtable; what it lets through is checked here."""
        records = self._columns.with_schema_retry(lambda: self._list(self._due_formula(query)))
        return [row for row in map(self._row, records) if query.admits(row)]

    def rows(self, *, complete: bool = False) -> Iterator[Row]:
        """See `Store.rows`."""
        columns = self.columns if complete else None
        rows = list(map(self._row, self._columns.with_schema_retry(lambda: self._list(None, columns))))
        lone = [] if complete else [row.key for row in rows if not row.encrypted_refresh]
        whole = self.read(lone, complete=True) if lone else {}  # which may hold an access token alone
        yield from (whole.get(row.key, row) for row in rows)

    def find(self, *location_ids: str) -> list[Row]:
        """See `Store.find`."""
        names = sorted({one.strip() for one in location_ids})
        found: list[Row] = []
        for start in range(0, len(names), RECORDS_A_PAGE):
            are_there = f.OR([self._is_at(one) for one in names[start : start + RECORDS_A_PAGE]])
            records = self._columns.with_schema_retry(partial(self._list, are_there, self.columns))
            found += map(self._row, records)
        return [row for row in found if row.location_id in names]

    def read(self, keys: Sequence[str], *, complete: bool = False) -> dict[str, Row]:
        """See `Store.read`."""
        columns = self.columns if complete else None
        return {record["id"]: self._row(record) for record in self._records(keys, columns)}

    def prove_writable(self, row: Row) -> None:
        """See `Store.prove_writable`.

        Raises:
            StoreAltersError: the column shows another time than was written.
        """
        try:
            while True:
                with suppress(PausedError):
                    changed = self._update([(row.key, {"access_token_expiry": row.access_token_expiry})])
                    if changed:
                        raise self._altered(changed[row.key])
                    return
        finally:
            self._gate.forget_updates()

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """See `Store.write`. Compared by the hundred, written by ten, one by one where ten are refused."""
        results: list[WriteResult] = []
        for start in range(0, len(changes), RECORDS_A_PAGE):
            error = results[-1].error if results and results[-1].written is Written.UNDONE else None
            page = changes[start : start + RECORDS_A_PAGE]
            # Where one page failed the next would only wait out the same outage.
            results += self._write_page(page) if error is None else [WriteResult(Written.UNDONE, error)] * len(page)
        return results

    def create(self, values: Mapping[str, Value]) -> str:
        """See `Store.create`. A create whose answer is lost is looked for before anything is sent again."""
        location_id = str(values["locationId"])
        before = {row.key for row in self.find(location_id)}
        missing = unknown_columns(values, self.columns)
        if missing:
            raise StoreRefusedError(
                f"the table has no column {', '.join(missing)}, which this row needs",
                "Add the column in Airtable (long text), then try again.",
            )
        try:
            return self._create(values)
        except StoreUnavailableError:
            new = [row for row in self.find(location_id) if row.key not in before]
            ours = [row.key for row in new if row.encrypted_refresh == values.get("encrypted_refresh", "")]
            if len(ours) == 1:
                return ours[0]
            raise

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        if self.read([key]):  # Airtable does not tell a record that is gone from one that may not be touched
            map_errors(lambda: self._table.delete(key))

    def create_all(self, rows: Sequence[Mapping[str, Value]]) -> list[StoreRefusedError | None]:
        """See `Store.create_all`. By ten, one by one where ten are refused."""
        results: list[StoreRefusedError | None] = []
        for start in range(0, len(rows), RECORDS_A_WRITE):
            error = results[-1] if results else None
            batch = rows[start : start + RECORDS_A_WRITE]
            results += [error] * len(batch) if isinstance(error, StoreAltersError) else self._create_batch(batch)
        return results

    def warnings(self) -> list[tuple[str, str]]:
        """See `Store.warnings`."""
        found: list[tuple[str, str]] = []
        if self.journalled_columns:
            what = (
                f"the column status has no option {STATUS_REAUTHORIZE}: clients that must log in again do not show it"
            )
            found.append((what, f"Add the option {STATUS_REAUTHORIZE} to the column status in Airtable."))
        if self._changes_words:
            what = "Airtable changes what is written into the column last_error"
            found.append((what, f"Make it {COLUMN_TYPES['last_error'][1]}."))
        return found

    def setup(self) -> list[str]:
        """See `Store.setup`."""
        made = Layout(self._options, self._api).complete()
        self._columns.forget()
        return made

    def hurry(self) -> None:
        """See `Store.hurry`."""
        super().hurry()
        self._gate.hurry()

    def usage(self) -> Usage | None:
        """See `Store.usage`."""
        return self._pace.usage()

    def close(self) -> None:
        """See `Store.close`."""
        if not self._options.is_adapter_shared:
            self._api.session.close()

    # Reading

    def _records(self, keys: Sequence[str], columns: frozenset[str] | None) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), RECORDS_A_PAGE):
            formula = f.OR([f.EQ(f.RECORD_ID(), key) for key in keys[start : start + RECORDS_A_PAGE]])
            yield from self._columns.with_schema_retry(partial(self._list, formula, columns))

    def _list(self, formula: f.Formula | None, columns: frozenset[str] | None = None) -> list[dict[str, Any]]:
        """All records that the formula lets through; by default with all columns but `last_access_token`."""
        wanted = self.columns - _UNREAD if columns is None else columns & self.columns
        options: dict[str, Any] = {"fields": sorted(self._columns.name(name) for name in wanted)}
        if formula is not None:
            options["formula"] = formula
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                records = self._pages(options)
                # Pages are read one after the other: a record that moves between them may come twice.
                return list({record["id"]: dict(record) for record in records}.values())
            except IteratorGoneError:
                if attempt == LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _pages(self, options: Mapping[str, Any]) -> list[Any]:
        """All records, from the first page on; in smaller pages from now on where one of them is too large."""
        while True:
            try:
                return map_errors(lambda: list(self._table.all(page_size=self._page_sizes[0], **options)))
            except LargePageError:
                if len(self._page_sizes) == 1:
                    raise
                self._page_sizes = self._page_sizes[1:]

    def _due_formula(self, query: DueQuery) -> f.Formula:
        refresh = f.Field("encrypted_refresh")
        statuses = [f.NE(f.Field("status"), status) for status in query.idle if "status" in self.columns]
        conditions: list[f.Formula] = [f.NE(refresh, f.BLANK()), *statuses]
        if query.locations:
            conditions.append(f.OR([self._is_at(location_id) for location_id in query.locations]))
        if query.providers and "provider" in self.columns:
            names = [*query.providers, *([""] if query.default_provider in query.providers else [])]
            conditions.append(_is_among(_PROVIDER, names))
        if not query.everything:
            conditions.append(self._expiry_formula(query))
        due: f.Formula = f.AND(conditions)
        if query.lone is not None:
            is_ending = f.IS_BEFORE(f.Field("access_token_expiry"), _literal(query.lone))
            has_token = f.NE(f.Field("last_access_token"), f.BLANK())
            due = f.OR(due, f.AND(f.EQ(refresh, f.BLANK()), has_token, is_ending, *statuses))
        # A cell that Airtable cannot evaluate, or compare with a time, must not hide its row.
        return f.IF(f.ISERROR(due), f.TRUE(), due)

    def _is_at(self, location_id: str) -> f.Formula:
        return f.EQ(f.TRIM(f.Field(self._options.id_field)), location_id)

    def _expiry_formula(self, query: DueQuery) -> f.Formula:
        """Expiry missing or before the provider's cut-off, or what else `DueQuery` says. Equal cut-offs share one."""
        expiry = f.Field("access_token_expiry")
        groups: dict[datetime, list[str]] = {}
        for provider, cutoff in query.cutoffs.items():
            groups.setdefault(cutoff, []).append(provider)
        other = query.cutoffs.get(query.default_provider, query.other_cutoff)
        others: list[f.Formula] = []
        if query.ending is not None and "refresh_token_expiry" in self.columns:
            others.append(f.IS_BEFORE(f.Field("refresh_token_expiry"), _literal(query.ending)))
        if "last_refreshed" in self.columns:
            refreshed = f.Field("last_refreshed")
            if query.latest is not None:
                others.append(f.AND(refreshed, f.IS_AFTER(expiry, _literal(query.latest))))
            if query.ahead is not None:
                others.append(f.IS_AFTER(refreshed, _literal(query.ahead)))
        if "provider" not in self.columns:
            return f.OR([f.NOT(expiry), f.IS_BEFORE(expiry, _literal(other)), *others])
        terms = [
            f.AND(_is_among(_PROVIDER, names), f.IS_BEFORE(expiry, _literal(cutoff)))
            for cutoff, names in groups.items()
        ]
        # Whoever is in no group (unknown, or blank: the default provider's) is let through by the later of the
        # two cut-offs, and `DueQuery.admits` decides.
        rest: f.Formula = f.IS_BEFORE(expiry, _literal(max(other, query.other_cutoff)))
        if groups:
            rest = f.AND(f.NOT(_is_among(_PROVIDER, query.cutoffs)), rest)
        return f.OR([f.NOT(expiry), *terms, rest, *others])

    def _row(self, record: Mapping[str, Any]) -> Row:
        cells = Cells.of(record, self._columns.name)
        return make_row(record["id"], cells.usable.get, cells.error, created_at=record.get("createdTime"))

    # Writing

    def _write_page(self, changes: Sequence[Change]) -> list[WriteResult]:
        """Compare and write up to a hundred changes; a comparison older than five seconds is made again."""
        results: dict[int, WriteResult] = {}
        alone: set[int] = set()
        while len(results) < len(changes):
            try:
                writable = self._compare(changes, _first_of_each_row(changes, results), results)
                self._send(changes, writable, results, alone, self._clock.monotonic() + REREAD_SECONDS)
            except PausedError:
                continue  # the comparison is too old by now, and the write may have been carried out
            except StoreError as error:
                results = {index: WriteResult(Written.UNDONE, error) for index in range(len(changes))} | results
        self._gate.forget_updates()
        return [results[index] for index in range(len(changes))]

    def _compare(self, changes: Sequence[Change], pending: list[int], results: dict[int, WriteResult]) -> list[int]:
        """Read the rows again; those that may be written are returned, the others get their result."""
        keys = [changes[index].key for index in pending]
        # With what is written: where an answer was lost, only these cells show what became of it.
        columns = {column for index in pending for column in changes[index].values} - _UNREAD
        columns |= {column for index in pending for column in changes[index].guards}
        shown = {record["id"]: record["fields"] for record in self._records(keys, frozenset(columns))}
        for index in pending:
            change, fields = changes[index], shown.get(changes[index].key)
            cells = None if fields is None else {name: text_of(fields.get(name)) for name in change.guards}
            verdict = Written.GONE if cells is None else change.judge(cells)
            if verdict is None and not self._cells(change.values):
                verdict = Written.STORED  # this table lacks every column that would change
            elif verdict is Written.STORED:
                self._require_kept([change], {change.key: self._altered_column(change.values, fields or {}, _UNREAD)})
            if verdict is not None:
                results[index] = WriteResult(verdict)
        return [index for index in pending if index not in results]

    def _send(
        self,
        changes: Sequence[Change],
        pending: list[int],
        results: dict[int, WriteResult],
        alone: set[int],
        deadline: float,
    ) -> None:
        """Send batches of ten until done or the comparison is too old.

        One bad row must not keep nine others' tokens out of the table: of a refused batch each goes `alone`.
        """
        while pending and self._clock.monotonic() < deadline:
            size = 1 if pending[0] in alone else RECORDS_A_WRITE
            batch, pending = pending[:size], pending[size:]
            try:
                changed = self._update([(changes[index].key, changes[index].values) for index in batch])
                results |= {index: WriteResult(Written.STORED) for index in batch if changes[index].key not in changed}
                self._require_kept([changes[index] for index in batch], changed)
            except RefusedBatchError as error:
                if self._learns(error, [changes[index].values for index in batch]):
                    pending = batch + pending
                elif len(batch) > 1:
                    alone |= set(batch)
                    pending = batch + pending
                elif isinstance(error, GoneError):
                    results[batch[0]] = WriteResult(Written.GONE)
                else:
                    results[batch[0]] = WriteResult(Written.REFUSED, error)

    def _create(self, values: Mapping[str, Value]) -> str:
        """One record; its id.

        Raises:
            StoreAltersError: it was not kept as it was written, and is taken back.
        """
        try:
            record = map_errors(lambda: dict(self._table.create(self._cells(values))))
        except MissingOptionError as error:
            if not self._learns(error, [values]):
                raise
            return self._create(values)
        self._require_created([values], [record])
        return str(record["id"])

    def _create_batch(self, rows: Sequence[Mapping[str, Value]]) -> list[StoreRefusedError | None]:
        records: list[Any] = [self._cells(values) for values in rows]
        try:
            made = map_errors(lambda: self._table.batch_create(records))
        except RefusedBatchError as error:
            if self._learns(error, rows):
                return self._create_batch(rows)
            return [error] if len(rows) == 1 else [result for one in rows for result in self._create_batch([one])]
        if len(made) != len(rows):
            raise senseless()
        try:
            self._require_created(rows, made)
        except StoreAltersError as error:
            return [error] * len(rows)
        return [None] * len(rows)

    def _update(self, updates: Sequence[tuple[str, Mapping[str, Value]]]) -> dict[str, str]:
        """Write; of each record that does not show what was written, the column."""

        def send() -> dict[str, str]:
            records: list[Any] = [{"id": key, "fields": self._cells(values)} for key, values in updates]
            stored = map_errors(
                lambda: {record["id"]: record["fields"] for record in self._table.batch_update(records)}
            )
            if stored.keys() != {key for key, _ in updates}:
                raise senseless()
            found = {key: self._altered_column(values, stored[key]) for key, values in updates}
            return {key: name for key, name in found.items() if name}

        return self._columns.with_schema_retry(send)

    def _altered_column(
        self, values: Mapping[str, Value], fields: Mapping[str, Any], unread: frozenset[str] = frozenset()
    ) -> str:
        """The first column that shows something else than was written; empty where there is none."""
        for name, sent in self._cells({name: value for name, value in values.items() if name not in unread}).items():
            if is_kept(sent, fields.get(name)):
                continue
            if name != "last_error":
                return name
            self._changes_words = True  # they are anybody's, a provider's too: no table is at fault for one of them
        return ""

    def _require_kept(self, changes: Sequence[Change], altered_columns: Mapping[str, str]) -> None:
        """Take back what was not kept as it was written: the guarded cells are again as they were read.

        So the journal's answer is still the one for this row, and is written again once the column is corrected.

        Raises:
            StoreAltersError: something was not kept.
        """
        broken = [change for change in changes if altered_columns.get(change.key)]
        if not broken:
            return
        before = [(one.key, {name: cell for name, cell in one.guards.items() if name in one.values}) for one in broken]
        with suppress(StoreError):
            self._update([(key, cells) for key, cells in before if cells])
        raise self._altered(altered_columns[broken[0].key])

    def _require_created(self, rows: Sequence[Mapping[str, Value]], records: Sequence[Mapping[str, Any]]) -> None:
        """Take new records back, all of them, where one does not show what was written."""
        pairs = zip(rows, records, strict=True)
        name = next(filter(None, (self._altered_column(values, record["fields"]) for values, record in pairs)), "")
        if not name:
            return
        for record in records:
            with suppress(StoreError):
                map_errors(partial(self._table.delete, record["id"]))
        raise self._altered(name)

    def _altered(self, name: str) -> StoreAltersError:
        """The error for a column of this name; the next program asks for the columns again."""
        self._columns.expire()
        column = "locationId" if name == self._options.id_field else name
        return altered(name, COLUMN_TYPES[column][1])

    def _learns(self, error: RefusedBatchError, written: Iterable[Mapping[str, Value]]) -> bool:
        """Whether a refusal named a status that can do without its option; it is left out from now on."""
        option = error.option if isinstance(error, MissingOptionError) else ""
        if option not in (STATUS_ACTIVE, STATUS_REAUTHORIZE) or option in self._columns.missing_options:
            return False
        if all(values.get("status") != option for values in written):
            return False
        self._columns.note_missing_option(option)
        return True

    def _cells(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """What is sent for these values, by the table's own names of columns."""
        cells = {self._columns.name(name): json_of(value) for name, value in values.items() if name in self.columns}
        if cells.get("status") in self._columns.missing_options:
            if cells["status"] == STATUS_ACTIVE:
                cells["status"] = None  # which counts as active
            elif cells["status"] == STATUS_REAUTHORIZE:
                del cells["status"]  # the journal remembers it
        return cells


def _api(options: AirtableOptions, gate: Gate) -> Api:
    timeout: Any = options.timeout_seconds
    api = Api(options.api_key, timeout=timeout, retry_strategy=None, endpoint_url=options.endpoint_url.rstrip("/"))
    session = api.session
    session.trust_env = False  # a .netrc would replace our Authorization header, a proxy variable would see it
    session.max_redirects = 0
    if options.proxy:
        session.proxies = {"https": options.proxy}
    session.mount("https://", gate)
    session.mount("http://", gate)
    return api


def _first_of_each_row(changes: Sequence[Change], results: Mapping[int, WriteResult]) -> list[int]:
    """What has no result yet; of several changes of one row only the first, the others are compared after it."""
    first: dict[str, int] = {}
    for index, change in enumerate(changes):
        if index not in results:
            first.setdefault(change.key, index)
    return list(first.values())


# Without the outer space that people leave, as `make_row` reads the cell.
_PROVIDER = f.TRIM(f.Field("provider"))


def _is_among(value: f.Formula, names: Iterable[str]) -> f.Formula:
    return f.OR([f.EQ(value, name) for name in names])


def _literal(moment: datetime) -> f.Formula:
    # To the second, rounded up: Airtable compares what it parses, and a row too many is harmless.
    return f.DATETIME_PARSE(iso(moment.replace(microsecond=0) + timedelta(seconds=1)))
