"""Reading one record, and writing: create, update, replace, upsert, delete.

A request is checked whole before anything is written, so a batch is taken or refused as one
(airtable.com/developers/web/api/update-multiple-records, and the pages beside it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.world.airtable import errors
from tests.world.airtable.listing import flag
from tests.world.airtable.tables import Author, Base, Row, Table
from tests.world.http import Request, Response

MAX_BATCH = 10
_WRITE_KEYS = frozenset({"fields", "records", "typecast", "returnFieldsByFieldId", "performUpsert"})


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises `ApiError` (400)."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise errors.unreadable_body()
    try:
        body = request.json()
    except ValueError:
        raise errors.unreadable_body() from None
    if not isinstance(body, dict):
        raise errors.unreadable_body()
    return body


@dataclass(frozen=True)
class Write:
    """One request that writes records, after its body was checked for form."""

    table: Table
    author: Author
    body: Mapping[str, Any]
    typecast: bool
    by_id: bool
    replace: bool

    @classmethod
    def of(cls, table: Table, author: Author, request: Request) -> Write:
        """Raises `ApiError` (400, 422)."""
        body = json_object(request)
        if not body.keys() <= _WRITE_KEYS:
            raise errors.invalid_request()
        typecast, by_id = (flag(body.get(key, False)) for key in ("typecast", "returnFieldsByFieldId"))
        return cls(table, author, body, typecast, by_id, request.method == "PUT")

    def prepare(self, fields: Any) -> dict[str, Any]:
        """Written values as cells; nothing is changed yet. Raises `ApiError` (422)."""
        if not isinstance(fields, dict):
            raise errors.missing_fields()
        return self.table.prepare(fields, typecast=self.typecast)

    def shown(self, row: Row) -> dict[str, Any]:
        """A record as the answer shows it."""
        return self.table.shown(row, by_id=self.by_id)

    def batch(self) -> list[dict[str, Any]]:
        """The entries of `records`, one to ten. Raises `ApiError` (422)."""
        entries = self.body["records"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise errors.invalid_records()
        if not 1 <= len(entries) <= MAX_BATCH or any(not entry.keys() <= {"id", "fields"} for entry in entries):
            raise errors.invalid_records()
        return entries


def get(base: Base, table: Table, record_id: str, query: Mapping[str, str]) -> Response:
    """One record. Airtable does not mind which table of the base is named (pyairtable issue 375)."""
    if not query.keys() <= {"cellFormat", "returnFieldsByFieldId", "timeZone", "userLocale"}:
        raise errors.invalid_request()
    if query.get("cellFormat", "json") != "json":
        raise errors.invalid_request()
    found = base.row(record_id)
    if found is None:
        raise errors.model_not_found()
    owner, row = found
    return Response.of_json(200, owner.shown(row, by_id=flag(query.get("returnFieldsByFieldId", False))))


def create(write: Write) -> Response:
    """One record from `fields`, or up to ten from `records`."""
    if "performUpsert" in write.body:
        raise errors.invalid_request()
    if "records" not in write.body:
        row = write.table.create(write.prepare(write.body.get("fields")), write.author)
        return Response.of_json(200, write.shown(row))
    count = len(write.body["records"]) if isinstance(write.body["records"], list) else 0
    if count > MAX_BATCH:
        message = f"A maximum of {MAX_BATCH} records can be created per request but you have provided {count}."
        raise errors.invalid_records(message)
    prepared = [write.prepare(entry.get("fields")) for entry in write.batch()]
    rows = [write.table.create(cells, write.author) for cells in prepared]
    return Response.of_json(200, {"records": [write.shown(row) for row in rows]})


def update_one(write: Write, record_id: str) -> Response:
    """PATCH or PUT of one record by its path."""
    row = _row(write.table, record_id)
    write.table.update(row, write.prepare(write.body.get("fields")), write.author, replace=write.replace)
    return Response.of_json(200, write.shown(row))


def update_many(write: Write) -> Response:
    """PATCH or PUT of up to ten records, by id or, with `performUpsert`, by the columns to merge on."""
    if "records" not in write.body:
        raise errors.missing_fields() if "fields" not in write.body else errors.invalid_records()
    if "performUpsert" in write.body:
        return _upsert(write)
    entries = write.batch()
    if any(not isinstance(entry.get("id"), str) or not isinstance(entry.get("fields"), dict) for entry in entries):
        raise errors.invalid_records()
    rows = _rows(write.table, [entry["id"] for entry in entries])
    prepared = [write.prepare(entry["fields"]) for entry in entries]
    for row, cells in zip(rows, prepared, strict=True):
        write.table.update(row, cells, write.author, replace=write.replace)
    return Response.of_json(200, {"records": [write.shown(row) for row in rows]})


def delete_one(table: Table, record_id: str, author: Author) -> Response:
    """DELETE of one record by its path."""
    table.delete(_row(table, record_id), author)
    return Response.of_json(200, {"id": record_id, "deleted": True})


def delete_many(table: Table, query: Sequence[tuple[str, str]], author: Author) -> Response:
    """DELETE of up to ten records, named by `records[]`."""
    ids = [value for key, value in query if key in {"records[]", "records"}]
    if not 1 <= len(ids) <= MAX_BATCH or len(ids) != len(query):
        raise errors.invalid_records("You must provide an array of up to 10 record IDs.")
    for row in _rows(table, ids):
        table.delete(row, author)
    return Response.of_json(200, {"records": [{"id": record_id, "deleted": True} for record_id in ids]})


def _row(table: Table, record_id: str) -> Row:
    row = table.rows.get(record_id)
    if row is None:
        raise errors.model_not_found()
    return row


def _rows(table: Table, record_ids: Sequence[str]) -> list[Row]:
    """The records of a batch. Raises `ApiError` (422) for one that is gone or named twice."""
    if len(set(record_ids)) != len(record_ids):
        raise errors.invalid_records("You cannot update the same record multiple times in a single request.")
    for record_id in record_ids:
        if record_id not in table.rows:
            raise errors.row_does_not_exist(record_id)
    return [table.rows[record_id] for record_id in record_ids]


def _upsert(write: Write) -> Response:
    keys = _merge_columns(write)
    entries = write.batch()
    prepared = [write.prepare(entry.get("fields")) for entry in entries]
    matched = [_match(write, entry, cells, keys) for entry, cells in zip(entries, prepared, strict=True)]
    _rows(write.table, [row.id for row in matched if row is not None])
    rows, created = [], []
    for row, cells in zip(matched, prepared, strict=True):
        if row is None:
            row = write.table.create(cells, write.author)
            created.append(row.id)
        else:
            write.table.update(row, cells, write.author, replace=write.replace)
        rows.append(row)
    updated = [row.id for row in rows if row.id not in created]
    body = {"records": [write.shown(row) for row in rows], "createdRecords": created, "updatedRecords": updated}
    return Response.of_json(200, body)


def _merge_columns(write: Write) -> list[str]:
    """The ids of one to three columns. Raises `ApiError` (422)."""
    asked = write.body["performUpsert"]
    names = asked.get("fieldsToMergeOn") if isinstance(asked, dict) else None
    if not isinstance(names, list) or not 1 <= len(names) <= 3 or not all(isinstance(name, str) for name in names):
        raise errors.invalid_request()
    columns = [write.table.column(name) for name in names]
    if any(column.computed for column in columns):
        raise errors.invalid_request()
    return [column.id for column in columns]


def _match(write: Write, entry: Mapping[str, Any], cells: Mapping[str, Any], keys: Sequence[str]) -> Row | None:
    """The record that an entry means, `None` for a new one. Raises `ApiError` (422) where several fit."""
    if "id" in entry:
        return _rows(write.table, [str(entry["id"])])[0]
    if any(key not in cells for key in keys):
        raise errors.invalid_request()
    fits = [row for row in write.table.rows.values() if all(row.cells.get(key) == cells[key] for key in keys)]
    if len(fits) > 1:
        raise errors.invalid_request("Cannot update more than one record per upserted record.")
    return fits[0] if fits else None
