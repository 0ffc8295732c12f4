"""Airtable as a store: one thread, few calls, nothing taken for granted about the table.

Facts that shape this module: five requests a second a base and a penalty of 30 s beyond that; ten records a write,
refused as a whole; no conditional write, so a row is read again just before it is written; a 200 without `records`
reads as an empty table to the library; times without a zone shift.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from pyairtable import Api
from pyairtable import formulas as f
from requests.adapters import HTTPAdapter

from clock import Clock
from stores.base import (
    IDLE_STATUSES,
    OPTIONAL_COLUMNS,
    REQUIRED_COLUMNS,
    Change,
    DueQuery,
    Row,
    Store,
    StoreError,
    StoreQuotaError,
    StoreRefusedError,
    StoreUnavailableError,
    Value,
    WriteResult,
    Written,
    iso,
    make_row,
    unknown_columns,
)

RECORDS_A_PAGE = 100
RECORDS_A_WRITE = 10
TIMEOUT_SECONDS = (10, 60)  # connect, read
PENALTY_SECONDS = 30.0  # what a 429 costs, documented under "rate limits"
OUTAGE_SECONDS = 120.0  # how long the program waits for a store that does not answer
REREAD_SECONDS = 5.0  # how old a comparison may be when the write is sent
SCHEMA_SECONDS = 86_400
LIST_ATTEMPTS = 3

_T = TypeVar("_T")
_RETRIED = (500, 502, 503, 504)
_UNKNOWN_FIELD = re.compile(r'[Uu]nknown field names?:\s*"?([^"]+?)"?\s*$')


@dataclass(frozen=True)
class AirtableOptions:
    """Which table, with which token; `schema_file` is where the known columns are kept for a day."""

    api_key: str
    base_id: str
    table_name: str
    id_field: str
    endpoint_url: str
    requests_per_second: float
    schema_file: Path
    proxy: str | None = None
    ca_bundle: Path | None = None


class AirtableStore(Store):
    """See `Store`. One thread owns it."""

    kind = "airtable"
    flush_size = RECORDS_A_PAGE
    max_wait_seconds = 20.0

    def __init__(self, options: AirtableOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._gate = _Gate(clock, options.requests_per_second)
        self._api = _api(options, self._gate)
        self._table = self._api.table(options.base_id, options.table_name)
        self._known: frozenset[str] | None = None

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
        """See `Store.columns`. From the cache, else the schema, else learnt from what Airtable refuses."""
        if self._known is None:
            self._known = self._cached_columns() or self._fetch_columns()
        return self._known

    def due(self, query: DueQuery) -> list[Row]:
        """See `Store.due`. The filter runs at Airtable; what it lets through is checked here."""
        records = self._relearning(lambda: self._list(self._due_formula(query)))
        return [row for row in map(self._row, records) if query.admits(row)]

    def rows(self) -> Iterator[Row]:
        """See `Store.rows`."""
        return iter([self._row(record) for record in self._relearning(lambda: self._list(None))])

    def find(self, location_id: str) -> list[Row]:
        """See `Store.find`."""
        records = self._relearning(lambda: self._list(self._is_at(location_id), self.columns))
        return [row for row in map(self._row, records) if row.location_id == location_id]

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        """See `Store.read`."""
        return {record["id"]: self._row(record) for record in self._records(keys, None)}

    def prove_writable(self, row: Row) -> None:
        """See `Store.prove_writable`."""
        self._update([(row.key, {"access_token_expiry": row.access_token_expiry})])

    def write(self, changes: Sequence[Change]) -> list[WriteResult]:
        """See `Store.write`. Compared by the hundred, written by ten, one by one where ten are refused."""
        results: list[WriteResult] = []
        for start in range(0, len(changes), RECORDS_A_PAGE):
            results += self._write_page(changes[start : start + RECORDS_A_PAGE])
        return results

    def create(self, values: Mapping[str, Value]) -> str:
        """See `Store.create`. A create whose answer is lost is looked for before anything is sent again."""
        missing = unknown_columns(values, self.columns)
        if missing:
            raise StoreRefusedError(
                f"the table has no column {', '.join(missing)}, which this row needs",
                "Add the column in Airtable (long text), then try again.",
            )
        before = {row.key for row in self.find(str(values["locationId"]))}
        try:
            with _translated():
                return str(self._table.create(self._cells(values))["id"])
        except StoreUnavailableError:
            new = [row for row in self.find(str(values["locationId"])) if row.key not in before]
            if len(new) == 1 and new[0].encrypted_refresh == values.get("encrypted_refresh", ""):
                return new[0].key
            raise

    def close(self) -> None:
        """See `Store.close`."""
        self._api.session.close()

    # Reading

    def _records(self, keys: Sequence[str], columns: frozenset[str] | None) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), RECORDS_A_PAGE):
            formula = f.OR([f.EQ(f.RECORD_ID(), key) for key in keys[start : start + RECORDS_A_PAGE]])
            yield from self._relearning(partial(self._list, formula, columns))

    def _list(self, formula: f.Formula | None, columns: frozenset[str] | None = None) -> list[dict[str, Any]]:
        """All records that the formula lets through; by default with all columns but `last_access_token`."""
        wanted = columns or self.columns - {"last_access_token"}
        options: dict[str, Any] = {"fields": sorted(self._column(name) for name in wanted)}
        if formula is not None:
            options["formula"] = formula
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                with _translated():
                    return [dict(record) for record in self._table.all(page_size=RECORDS_A_PAGE, **options)]
            except _IteratorGoneError:
                if attempt == LIST_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _due_formula(self, query: DueQuery) -> f.Formula:
        conditions: list[f.Formula] = [f.NE(f.Field("encrypted_refresh"), f.BLANK())]
        if "status" in self.columns:
            conditions += [f.NE(f.Field("status"), status) for status in IDLE_STATUSES]
        if query.locations:
            conditions.append(f.OR([self._is_at(location_id) for location_id in query.locations]))
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
        column = f.Field("provider")
        terms = [
            f.AND(f.OR([f.EQ(column, name) for name in names]), f.IS_BEFORE(expiry, _literal(cutoff)))
            for cutoff, names in groups.items()
        ]
        # Whoever is in no group (unknown, or blank: the default provider's) is let through by the later of the
        # two cut-offs, and `DueQuery.admits` decides.
        known = f.OR([f.EQ(column, name) for name in query.cutoffs])
        rest = f.IS_BEFORE(expiry, _literal(max(other, query.other_cutoff)))
        return f.OR([f.NOT(expiry), *terms, f.AND(f.NOT(known), rest) if groups else rest])

    def _row(self, record: Mapping[str, Any]) -> Row:
        return make_row(record["id"], lambda name: record["fields"].get(self._column(name)))

    def _column(self, name: str) -> str:
        return self._options.id_field if name == "locationId" else name

    # Writing

    def _write_page(self, changes: Sequence[Change]) -> list[WriteResult]:
        """Compare and write up to a hundred changes; a comparison older than five seconds is made again."""
        results: dict[int, WriteResult] = {}
        pending = list(range(len(changes)))
        while pending:
            try:
                pending = self._compare(changes, pending, results)
                pending = self._send(changes, pending, results, self._clock.monotonic() + REREAD_SECONDS)
            except StoreError as error:
                results |= {index: WriteResult(Written.UNDONE, error) for index in pending if index not in results}
                break
        return [results[index] for index in range(len(changes))]

    def _compare(self, changes: Sequence[Change], pending: list[int], results: dict[int, WriteResult]) -> list[int]:
        """Read the rows again; those that may be written are returned, the others get their result."""
        keys = [changes[index].key for index in pending]
        records = self._records(keys, frozenset({"encrypted_refresh"}))
        cells = {record["id"]: _text(record["fields"].get("encrypted_refresh")).strip() for record in records}
        for index in pending:
            verdict = _compared(changes[index], cells.get(changes[index].key))
            if verdict is None and not self._cells(changes[index].values):
                verdict = Written.STORED  # this table lacks every column that would change
            if verdict is not None:
                results[index] = WriteResult(verdict)
        return [index for index in pending if index not in results]

    def _send(
        self, changes: Sequence[Change], pending: list[int], results: dict[int, WriteResult], deadline: float
    ) -> list[int]:
        """Send batches of ten until done or the comparison is too old; returns what is still to be sent."""
        while pending and self._clock.monotonic() < deadline:
            batch, pending = pending[:RECORDS_A_WRITE], pending[RECORDS_A_WRITE:]
            try:
                self._update([(changes[index].key, changes[index].values) for index in batch])
                results |= {index: WriteResult(Written.STORED) for index in batch}
            except _RefusedBatchError:
                results |= {index: self._send_alone(changes[index]) for index in batch}
        return pending

    def _send_alone(self, change: Change) -> WriteResult:
        """One bad row must not keep nine others' tokens out of the table."""
        try:
            self._update([(change.key, change.values)])
        except _GoneError:
            return WriteResult(Written.GONE)
        except _RefusedBatchError as error:
            return WriteResult(Written.REFUSED, error)
        return WriteResult(Written.STORED)

    def _update(self, updates: Sequence[tuple[str, Mapping[str, Value]]]) -> None:
        def send() -> None:
            records = [{"id": key, "fields": self._cells(values)} for key, values in updates]
            with _translated():
                self._table.batch_update(records)  # type: ignore[arg-type] # plain dicts of that shape

        self._relearning(send)

    def _cells(self, values: Mapping[str, Value]) -> dict[str, Any]:
        usable = {self._column(name): value for name, value in values.items() if name in self.columns}
        return {name: iso(value) if isinstance(value, datetime) else value for name, value in usable.items()}

    # Columns

    def _relearning(self, act: Callable[[], _T]) -> _T:
        """Do `act`; where Airtable does not know a column, learn the columns anew and do it once more."""
        try:
            return act()
        except _UnknownColumnError:
            self._known = self._fetch_columns()
            return act()

    def _cached_columns(self) -> frozenset[str] | None:
        try:
            cached = json.loads(self._options.schema_file.read_text())
            fresh = self._clock.now().timestamp() - cached["read_at"] < SCHEMA_SECONDS
            columns = frozenset(cached["columns"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return columns if fresh and columns.issuperset(REQUIRED_COLUMNS) else None

    def _fetch_columns(self) -> frozenset[str]:
        names = self._schema_columns()
        columns = self._learnt_columns() if names is None else self._usable(names)
        kept = {"read_at": self._clock.now().timestamp(), "columns": sorted(columns)}
        self._options.schema_file.write_text(json.dumps(kept))
        return columns

    def _schema_columns(self) -> set[str] | None:
        """The table's column names; None where the token may not see the schema."""
        url = self._api.build_url("meta", "bases", self._options.base_id, "tables")
        try:
            with _translated():
                tables = self._api.get(url)["tables"]
        except StoreRefusedError:
            return None
        except (KeyError, TypeError):
            raise _senseless() from None
        for table in tables:
            if self._options.table_name in (table.get("name"), table.get("id")):
                return {column["name"] for column in table["fields"]}
        shown = ", ".join(sorted(table.get("name", "?") for table in tables))
        raise StoreRefusedError(
            f"the base has no table {self._options.table_name!r}; it has: {shown}", "Correct AIRTABLE_TABLE_NAME."
        )

    def _usable(self, names: set[str]) -> frozenset[str]:
        missing = [self._column(name) for name in REQUIRED_COLUMNS if self._column(name) not in names]
        if missing:
            raise _missing_columns(missing)
        return frozenset(REQUIRED_COLUMNS) | (names & set(OPTIONAL_COLUMNS))

    def _learnt_columns(self) -> frozenset[str]:
        """Ask for every column; each refusal names one that is not there."""
        names = {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}
        while True:
            try:
                with _translated():
                    self._table.first(fields=sorted(self._column(name) for name in names))
                return frozenset(names)
            except _UnknownColumnError as error:
                if error.column not in names & set(OPTIONAL_COLUMNS):
                    raise _missing_columns([error.column or "that the program needs"]) from None
                names.discard(error.column)


class _UnknownColumnError(StoreRefusedError):
    def __init__(self, column: str) -> None:
        super().__init__(f"the table has no column {column!r}", "Add it in Airtable.")
        self.column = column


class _IteratorGoneError(StoreUnavailableError):
    def __init__(self) -> None:
        super().__init__("Airtable dropped the listing half-way", "The next run tries again.")


class _RefusedBatchError(StoreRefusedError):
    """A write with bad input: of ten records none was stored."""


class _GoneError(_RefusedBatchError):
    """One of the records does not exist any more."""


class _Gate(HTTPAdapter):
    """Every request to Airtable goes through here: counted, paced, and sent again where that helps."""

    def __init__(self, clock: Clock, requests_per_second: float) -> None:
        super().__init__(max_retries=0)
        self.calls = 0
        self.in_trouble = False
        self._clock = clock
        self._spacing = 1.0 / requests_per_second
        self._next_at = 0.0
        self._random = random.Random()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and wait out rate limits and outages for two minutes.

        A create is not repeated: its first attempt may have been carried out.

        Raises:
            StoreUnavailableError: no usable answer in that time.
            StoreQuotaError: the month's calls are spent.
        """
        started = self._clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            response = self._try(request, *args, **kwargs)
            wait = self._wait_for(response, attempt)
            self.in_trouble = wait is not None
            if isinstance(response, requests.Response) and wait is None:
                return response
            repeatable = request.method != "POST" or _is_listing(request) or _was_not_done(response)
            if not repeatable or wait is None or self._clock.monotonic() + wait - started > OUTAGE_SECONDS:
                raise _unavailable(response)
            self._clock.sleep(wait)

    def _try(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response | Exception:
        now = self._clock.monotonic()
        if now < self._next_at:
            self._clock.sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._spacing
        self.calls += 1
        try:
            response = super().send(request, *args, **kwargs)
            _ = response.content  # read here, so that a cut answer counts as none
        except requests.RequestException as error:
            return error
        if response.status_code == requests.codes.ok and not _makes_sense(request, response):
            return _SenselessError()
        return response

    def _wait_for(self, response: requests.Response | Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None where the answer is to be used as it is."""
        backoff = self._random.uniform(0.5, 1.0) * min(2.0**attempt, PENALTY_SECONDS)
        if isinstance(response, Exception):
            return backoff
        if response.status_code == requests.codes.too_many_requests:
            if "PUBLIC_API_BILLING_LIMIT_EXCEEDED" in response.text:
                raise StoreQuotaError(
                    "Airtable's monthly API calls for this workspace are spent",
                    "Upgrade the plan, or wait for the next month.",
                )
            return max(PENALTY_SECONDS, _retry_after(response)) + self._random.uniform(0, 2)
        if response.status_code in _RETRIED:
            return max(backoff, _retry_after(response))
        return None


class _SenselessError(Exception):
    """A 200 that is no answer to the question."""


class _translated:  # noqa: N801 - used like a function: with _translated(): ...
    """Turns what pyairtable raises into a `StoreError`, chained to nothing: the originals carry cells and the token."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            raise _store_error(error.response) from None
        if isinstance(error, requests.RequestException | ValueError | KeyError | TypeError):
            raise _senseless() from None


def _api(options: AirtableOptions, gate: _Gate) -> Api:
    api = Api(
        options.api_key, timeout=TIMEOUT_SECONDS, retry_strategy=None, endpoint_url=options.endpoint_url.rstrip("/")
    )
    session = api.session
    session.trust_env = False  # a .netrc would replace our Authorization header, a proxy variable would see it
    session.max_redirects = 0
    if options.proxy:
        session.proxies = {"https": options.proxy}
    if options.ca_bundle:
        session.verify = str(options.ca_bundle)
    session.mount("https://", gate)
    session.mount("http://", gate)
    return api


def _compared(change: Change, cell: str | None) -> Written | None:
    """What the row's refresh cell as it is now says of a change; None: it may be written."""
    if cell is None:
        return Written.GONE
    if cell == change.seen:
        return None
    return Written.STORED if cell == change.values.get("encrypted_refresh") else Written.CHANGED


def _literal(moment: datetime) -> f.Formula:
    # To the second, rounded up: Airtable compares what it parses, and a row too many is harmless.
    return f.DATETIME_PARSE(iso(moment.replace(microsecond=0) + timedelta(seconds=1)))


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _is_listing(request: requests.PreparedRequest) -> bool:
    return (request.url or "").partition("?")[0].endswith("/listRecords")


def _makes_sense(request: requests.PreparedRequest, response: requests.Response) -> bool:
    """Whether a 200 is JSON of the expected shape; a list without `records` would read as an empty table."""
    try:
        content = response.json()
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    if "/meta/" in (request.url or ""):
        return "tables" in content
    return "records" in content or "id" in content


def _was_not_done(response: requests.Response | Exception) -> bool:
    return isinstance(response, requests.Response) and response.status_code == requests.codes.too_many_requests


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _unavailable(response: requests.Response | Exception) -> StoreUnavailableError:
    if isinstance(response, _SenselessError):
        return _senseless()
    said = f"HTTP {response.status_code}" if isinstance(response, requests.Response) else type(response).__name__
    return StoreUnavailableError(
        f"Airtable does not answer ({said})", "Nothing to do if it passes: the next run tries again."
    )


def _senseless() -> StoreUnavailableError:
    return StoreUnavailableError(
        "Airtable answered something that makes no sense", "The next run tries again; see status.airtable.com."
    )


def _missing_columns(names: Sequence[str]) -> StoreRefusedError:
    return StoreRefusedError(
        f"the table has no column {', '.join(names)}", "Add it, or correct its name (docs/airtable.md lists them all)."
    )


def _error_of(response: requests.Response) -> tuple[str, str]:
    """Type and message of an error body, in whichever of Airtable's shapes it comes."""
    try:
        content = response.json()
    except ValueError:
        return "", ""
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        return str(error.get("type", "")), str(error.get("message", ""))
    return (error, "") if isinstance(error, str) else ("", "")


def _store_error(response: requests.Response) -> StoreError:
    kind, message = _error_of(response)
    status = response.status_code
    if status == requests.codes.unprocessable_entity:
        return _unprocessable(kind, message)
    if status == requests.codes.unauthorized:
        return StoreRefusedError(
            "Airtable does not accept AIRTABLE_API_KEY", "Create a new personal access token and put it there."
        )
    if status == requests.codes.forbidden:
        return StoreRefusedError(
            "the personal access token may not read or write this table, or the table does not exist",
            "Give it data.records:read and data.records:write on this base; check AIRTABLE_TABLE_NAME.",
        )
    if status == requests.codes.not_found:
        return StoreRefusedError("there is no such base or table", "Check AIRTABLE_BASE_ID and AIRTABLE_TABLE_NAME.")
    return StoreUnavailableError(f"Airtable refused the request (HTTP {status} {kind})", "The next run tries again.")


def _unprocessable(kind: str, message: str) -> StoreError:
    if kind == "LIST_RECORDS_ITERATOR_NOT_AVAILABLE":
        return _IteratorGoneError()
    match = _UNKNOWN_FIELD.search(message)
    if match is not None:
        return _UnknownColumnError(match[1])
    if kind in ("ROW_DOES_NOT_EXIST", "INVALID_RECORDS"):
        return _GoneError("Airtable does not know the record", "It was deleted; nothing to do.")
    return _RefusedBatchError(
        f"Airtable refuses a value ({kind or 'HTTP 422'})", "Check the column types against docs/airtable.md."
    )
