"""The metadata endpoints: bases, tables, columns (airtable.com/developers/web/api/get-base-schema and beside it)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.world.airtable import errors
from tests.world.airtable.columns import from_request
from tests.world.airtable.tables import Base, Table
from tests.world.http import Response


def list_bases(bases: Iterable[Base], permission_level: str) -> Response:
    """The bases that a token reaches, with its user's role."""
    shown = [{"id": base.id, "name": base.name, "permissionLevel": permission_level} for base in bases]
    return Response.of_json(200, {"bases": shown})


def list_tables(base: Base, query: Iterable[tuple[str, str]]) -> Response:
    """The schema of a base."""
    visible = ("include", "visibleFieldIds") in {(key.removesuffix("[]"), value) for key, value in query}
    return Response.of_json(200, {"tables": [table.schema(visible_fields=visible) for table in base.tables.values()]})


def create_table(base: Base, body: Mapping[str, Any]) -> Response:
    """A table with its columns; nothing is made if one of them is wrong."""
    name, fields = body.get("name"), body.get("fields")
    if not isinstance(name, str) or not name.strip() or not isinstance(fields, list) or not fields:
        raise errors.invalid_request()
    columns = [from_request(spec) for spec in fields]
    if len({column.name.lower() for column in columns}) != len(columns):
        raise errors.error(422, "DUPLICATE_OR_EMPTY_FIELD_NAME")
    return Response.of_json(200, base.create_table(name, columns, body.get("description") or "").schema())


def create_field(table: Table, body: Mapping[str, Any]) -> Response:
    """One more column."""
    return Response.of_json(200, table.add_column(from_request(body)).schema())
