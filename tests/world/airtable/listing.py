"""List records: its parameters, its pages, and the iterators behind `offset`.

airtable.com/developers/web/api/list-records. Parameters come in the query, or as JSON to `…/listRecords`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.world.airtable import errors
from tests.world.airtable.columns import Column
from tests.world.airtable.formula import Formula
from tests.world.airtable.formula.values import Value, equal, less, to_text, to_value
from tests.world.airtable.tables import Row, Table
from tests.world.http import Response

MAX_PAGE_SIZE = 100
_PARAMETERS = frozenset(
    {
        "fields",
        "filterByFormula",
        "maxRecords",
        "pageSize",
        "sort",
        "view",
        "cellFormat",
        "timeZone",
        "userLocale",
        "returnFieldsByFieldId",
        "recordMetadata",
        "offset",
    }
)
_SORT_KEY = re.compile(r"sort\[(\d+)\]\[(field|direction)\]")
_LIST_KEY = re.compile(r"(fields|recordMetadata)\[\d*\]")
_BOOLEANS = {"true": True, "1": True, True: True, "false": False, "0": False, "": False, False: False}


def from_query(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Query parameters in the form that they have as JSON."""
    options: dict[str, Any] = {}
    sort: dict[int, dict[str, str]] = {}
    for key, value in query:
        if found := _SORT_KEY.fullmatch(key):
            sort.setdefault(int(found[1]), {})[found[2]] = value
        elif found := _LIST_KEY.fullmatch(key):
            options.setdefault(found[1], []).append(value)
        else:
            options[key] = value
    if sort:
        options["sort"] = [sort[index] for index in sorted(sort)]
    return options


def flag(value: Any) -> bool:
    """A boolean parameter. Raises `ApiError` (422)."""
    if isinstance(value, bool | str) and value in _BOOLEANS:
        return _BOOLEANS[value]
    raise errors.invalid_request()


@dataclass(frozen=True)
class Options:
    """The parameters of one listing, checked against its table."""

    page_size: int
    max_records: int | None
    fields: tuple[Column, ...] | None
    formula: Formula | None
    sort: tuple[tuple[Column, bool], ...]
    view: str | None
    by_id: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], table: Table) -> Options:
        """Raises `ApiError` (422) for the first parameter that does not fit."""
        if not given.keys() <= _PARAMETERS or given.get("cellFormat", "json") != "json":
            raise errors.invalid_request()
        fields = given.get("fields")
        return cls(
            page_size=_positive(given.get("pageSize", MAX_PAGE_SIZE), MAX_PAGE_SIZE),
            max_records=None if given.get("maxRecords") is None else _positive(given["maxRecords"]),
            fields=None if fields is None else tuple(table.column(name) for name in _strings(fields)),
            formula=_formula(given.get("filterByFormula"), table),
            sort=_sort(given.get("sort", []), table),
            view=_view(given.get("view"), table),
            by_id=flag(given.get("returnFieldsByFieldId", False)),
        )


def _positive(value: Any, most: int | None = None) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise errors.invalid_request()
    count = int(value)
    if count < 1 or (most is not None and count > most):
        raise errors.invalid_request()
    return count


def _strings(values: Any) -> list[str]:
    names = [values] if isinstance(values, str) else values
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise errors.invalid_request()
    return names


def _formula(text: Any, table: Table) -> Formula | None:
    if text in (None, ""):
        return None
    if not isinstance(text, str):
        raise errors.invalid_request()
    return Formula.of(text, table)


def _sort(entries: Any, table: Table) -> tuple[tuple[Column, bool], ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise errors.invalid_request()
    for entry in entries:
        if not isinstance(entry.get("field"), str) or entry.get("direction", "asc") not in ("asc", "desc"):
            raise errors.invalid_request()
    return tuple((table.column(entry["field"]), entry.get("direction") == "desc") for entry in entries)


def _view(name: Any, table: Table) -> str | None:
    if name in (None, ""):
        return None
    if name not in (table.view_id, "Grid view"):
        raise errors.unknown_view(name)
    return str(name)


def select(table: Table, options: Options) -> list[Row]:
    """The records of a listing, in its order; without `sort` and `view` an arbitrary one, fixed by the seed."""
    rows = sorted(_matching(table, options), key=lambda row: row.number if options.view else row.rank)
    for column, descending in reversed(options.sort):
        keys = {row.id: _SortKey(to_value(table.value(row, column))) for row in rows}
        rows.sort(key=lambda row, keys=keys: keys[row.id], reverse=descending)  # type: ignore[misc]
    return rows[: options.max_records]


def _matching(table: Table, options: Options) -> list[Row]:
    formula = options.formula
    if formula is None:
        return list(table.rows.values())
    if formula.ids is not None:
        return [table.rows[record_id] for record_id in formula.ids if record_id in table.rows]
    now = table.workspace.now()
    return [row for row in table.rows.values() if formula.admits(table, row, now)]


class _SortKey:
    """Orders cells of one column, empty ones first."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def __lt__(self, other: _SortKey) -> bool:
        left, right = self.value, other.value
        if left is None or right is None:
            return left is None and right is not None
        if isinstance(left, str) or isinstance(right, str):
            return to_text(left).casefold() < to_text(right).casefold()
        return not equal(left, right) and less(left, right)


@dataclass
class _Iterator:
    """A listing that has more pages: its records were chosen when it began, its cells are read page by page."""

    table_id: str
    records: list[str]
    used: float


class Listings:
    """Answers list requests and keeps their iterators.

    An iterator dies `ttl_seconds` after its last use (the documentation only speaks of "inactivity"), or by
    `expire`. That records are chosen once and deleted ones left out is this server's reading: the true behaviour of
    a listing while its records change is undocumented.
    """

    def __init__(self, clock: Callable[[], float], ttl_seconds: float) -> None:
        self._clock = clock
        self.ttl_seconds = ttl_seconds
        self._iterators: dict[str, _Iterator] = {}

    def expire(self) -> None:
        """Kill every iterator, as a restart of the server does."""
        self._iterators.clear()

    def page(self, table: Table, given: Mapping[str, Any]) -> Response:
        """One page. Raises `ApiError` (422)."""
        options = Options.of(given, table)
        if given.get("offset"):
            key, iterator, start = self._resume(table, given["offset"])
        else:
            key, start = table.workspace.new_id("itr"), 0
            iterator = _Iterator(table.id, [row.id for row in select(table, options)], 0)
        end = start + options.page_size
        body: dict[str, Any] = {"records": _shown(table, iterator.records[start:end], options)}
        iterator.used = self._clock()
        if end < len(iterator.records):
            self._iterators[key] = iterator
            body["offset"] = f"{key}/{iterator.records[end]}"
        return Response.of_json(200, body)

    def _resume(self, table: Table, offset: Any) -> tuple[str, _Iterator, int]:
        oldest = self._clock() - self.ttl_seconds
        self._iterators = {key: kept for key, kept in self._iterators.items() if kept.used >= oldest}
        key, _, record_id = str(offset).partition("/")
        iterator = self._iterators.get(key)
        if iterator is None or iterator.table_id != table.id or record_id not in iterator.records:
            raise errors.iterator_not_available()
        return key, iterator, iterator.records.index(record_id)


def _shown(table: Table, record_ids: list[str], options: Options) -> list[dict[str, Any]]:
    rows = [table.rows[record_id] for record_id in record_ids if record_id in table.rows]
    return [table.shown(row, by_id=options.by_id, only=options.fields) for row in rows]
