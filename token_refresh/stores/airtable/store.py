"""Airtable as a store: one thread, few calls, nothing taken for granted about the table.

Facts that shape it: five requests a second a base and a penalty of 30 s beyond that; ten records a write, refused as
a whole; no conditional write, so a row is read again just before it is written; a 200 without `records` reads as an
empty table to the library; times without a zone shift.
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
    PausedError,
    RefusedBatchError,
    senseless,
    translated,
)
from token_refresh.stores.airtable.columns import Columns
from token_refresh.stores.airtable.gate import Gate
from token_refresh.stores.airtable.layout import Layout
from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.airtable.pace import Pace
from token_refresh.stores.base import (
    Change,
    DueQuery,
    Row,
    Store,
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
RECORDS_A_WRITE = 10
REREAD_SECONDS = 5.0  # how old a comparison may be when the write is sent
LIST_ATTEMPTS = 3


class AirtableStore(Store):
    """See `Store`. One thread owns it."""

    kind = "airtable"
    flush_size = RECORDS_A_PAGE
    max_wait_seconds = 20.0

    def __init__(self, options: AirtableOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pace = Pace(options.pace_file, clock, options.requests_per_second)
        self._gate = Gate(clock, self._pace, options.adapter, options.answer_seconds)
        self._api = _api(options, self._gate)
        self._table = self._api.table(options.base_id, options.table_name)
        self._columns = Columns(options, self._api, self._table, clock)
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
    def in_trouble(self) -> bool:  # type: ignore[override] # a plain attribute elsewhere
        """See `Store.in_trouble`."""
        return self._gate.in_trouble

    @property
    def columns(self) -> frozenset[str]:
        """See `Store.columns`."""
        return self._columns.known()

    def due(self, query: DueQuery) -> list[Row]:
        """See `Store.due`. The filter runs at Airtable; what it lets through is checked here."""
        records = self._columns.relearning(lambda: self._list(self._due_formula(query)))
        return [row for row in map(self._row, records) if query.admits(row)]

    def rows(self, *, complete: bool = False) -> Iterator[Row]:
        """See `Store.rows`."""
        columns = self.columns if complete else None
        return map(self._row, self._columns.relearning(lambda: self._list(None, columns)))

    def find(self, location_id: str) -> list[Row]:
        """See `Store.find`."""
        location_id = location_id.strip()
        records = self._columns.relearning(lambda: self._list(self._is_at(location_id), self.columns))
        return [row for row in map(self._row, records) if row.location_id == location_id]

    def read(self, keys: Sequence[str], *, complete: bool = False) -> dict[str, Row]:
        """See `Store.read`."""
        columns = self.columns if complete else None
        return {record["id"]: self._row(record) for record in self._records(keys, columns)}

    def prove_writable(self, row: Row) -> None:
        """See `Store.prove_writable`."""
        try:
            while True:
                with suppress(PausedError):
                    return self._update([(row.key, {"access_token_expiry": row.access_token_expiry})])
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
            return translated(lambda: str(self._table.create(self._cells(values))["id"]))
        except StoreUnavailableError:
            new = [row for row in self.find(location_id) if row.key not in before]
            ours = [row.key for row in new if row.encrypted_refresh == values.get("encrypted_refresh", "")]
            if len(ours) == 1:
                return ours[0]
            raise

    def create_all(self, rows: Sequence[Mapping[str, Value]]) -> list[StoreRefusedError | None]:
        """See `Store.create_all`. By ten, one by one where ten are refused."""
        results: list[StoreRefusedError | None] = []
        for start in range(0, len(rows), RECORDS_A_WRITE):
            results += self._create_batch(rows[start : start + RECORDS_A_WRITE])
        return results

    def setup(self) -> list[str]:
        """See `Store.setup`."""
        made = Layout(self._options, self._api).complete()
        self._columns.forget()
        return made

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
            yield from self._columns.relearning(partial(self._list, formula, columns))

    def _list(self, formula: f.Formula | None, columns: frozenset[str] | None = None) -> list[dict[str, Any]]:
        """All records that the formula lets through; by default with all columns but `last_access_token`."""
        wanted = columns or self.columns - {"last_access_token"}
        options: dict[str, Any] = {"fields": sorted(self._columns.name(name) for name in wanted)}
        if formula is not None:
            options["formula"] = formula
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                records = translated(lambda: self._table.all(page_size=RECORDS_A_PAGE, **options))
                # Pages are read one after the other: a record that moves between them may come twice.
                return list({record["id"]: dict(record) for record in records}.values())
            except IteratorGoneError:
                if attempt == LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _due_formula(self, query: DueQuery) -> f.Formula:
        conditions: list[f.Formula] = [f.NE(f.Field("encrypted_refresh"), f.BLANK())]
        if "status" in self.columns:
            conditions += [f.NE(f.Field("status"), status) for status in query.idle]
        if query.locations:
            conditions.append(f.OR([self._is_at(location_id) for location_id in query.locations]))
        if query.providers and "provider" in self.columns:
            names = [*query.providers, *([""] if query.default_provider in query.providers else [])]
            conditions.append(_is_among(_PROVIDER, names))
        if not query.everything:
            conditions.append(self._expiry_formula(query))
        return f.AND(conditions)

    def _is_at(self, location_id: str) -> f.Formula:
        return f.EQ(f.TRIM(f.Field(self._options.id_field)), location_id)

    def _expiry_formula(self, query: DueQuery) -> f.Formula:
        """Expiry missing, or before the provider's cut-off. Providers of one cut-off share a term."""
        expiry = f.Field("access_token_expiry")
        groups: dict[datetime, list[str]] = {}
        for provider, cutoff in query.cutoffs.items():
            groups.setdefault(cutoff, []).append(provider)
        other = query.cutoffs.get(query.default_provider, query.other_cutoff)
        if "provider" not in self.columns:
            return f.OR(f.NOT(expiry), f.IS_BEFORE(expiry, _literal(other)))
        terms = [
            f.AND(_is_among(_PROVIDER, names), f.IS_BEFORE(expiry, _literal(cutoff)))
            for cutoff, names in groups.items()
        ]
        # Whoever is in no group (unknown, or blank: the default provider's) is let through by the later of the
        # two cut-offs, and `DueQuery.admits` decides.
        rest: f.Formula = f.IS_BEFORE(expiry, _literal(max(other, query.other_cutoff)))
        if groups:
            rest = f.AND(f.NOT(_is_among(_PROVIDER, query.cutoffs)), rest)
        return f.OR([f.NOT(expiry), *terms, rest])

    def _row(self, record: Mapping[str, Any]) -> Row:
        return make_row(record["id"], lambda name: record["fields"].get(self._columns.name(name)))

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
        guarded = frozenset(column for index in pending for column in changes[index].guards)
        cells = {
            record["id"]: {name: _text(record["fields"].get(name)).strip() for name in guarded}
            for record in self._records(keys, guarded)
        }
        for index in pending:
            now = cells.get(changes[index].key)
            verdict = Written.GONE if now is None else changes[index].judge(now)
            if verdict is None and not self._cells(changes[index].values):
                verdict = Written.STORED  # this table lacks every column that would change
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
                self._update([(changes[index].key, changes[index].values) for index in batch])
                results |= {index: WriteResult(Written.STORED) for index in batch}
            except RefusedBatchError as error:
                if len(batch) > 1:
                    alone |= set(batch)
                    pending = batch + pending
                elif isinstance(error, GoneError):
                    results[batch[0]] = WriteResult(Written.GONE)
                else:
                    results[batch[0]] = WriteResult(Written.REFUSED, error)

    def _create_batch(self, rows: Sequence[Mapping[str, Value]]) -> list[StoreRefusedError | None]:
        records: list[Any] = [self._cells(values) for values in rows]
        try:
            made = translated(lambda: self._table.batch_create(records))
        except RefusedBatchError as error:
            return [error] if len(rows) == 1 else [result for one in rows for result in self._create_batch([one])]
        if len(made) != len(rows):
            raise senseless()
        return [None] * len(rows)

    def _update(self, updates: Sequence[tuple[str, Mapping[str, Value]]]) -> None:
        def send() -> None:
            records: list[Any] = [{"id": key, "fields": self._cells(values)} for key, values in updates]
            stored = translated(lambda: self._table.batch_update(records))
            if {record["id"] for record in stored} != {key for key, _ in updates}:
                raise senseless()

        self._columns.relearning(send)

    def _cells(self, values: Mapping[str, Value]) -> dict[str, Any]:
        usable = {self._columns.name(name): value for name, value in values.items() if name in self.columns}
        # None empties a cell of any type; an empty text is no option of a single select.
        return {name: iso(value) if isinstance(value, datetime) else _or_none(value) for name, value in usable.items()}


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


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _or_none(value: Value) -> Value:
    return None if value == "" else value
