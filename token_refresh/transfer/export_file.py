"""The two forms of an export: one row a line, sealed cells as they are, in CSV or JSON.

A spreadsheet takes a CSV cell that starts with `=` and the like for a formula. Such a cell is written with an
apostrophe before it, and so is one that starts with an apostrophe itself: whoever reads takes one away, always.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TextIO

from token_refresh.base.clock import iso, parse_time
from token_refresh.base.columns import ALL_COLUMN_NAMES, ALL_COLUMNS, ATTRIBUTES, REQUIRED_COLUMNS, ColumnType
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.text import FORMULA_STARTS, counted, delimiter_of
from token_refresh.stores.base import Row, Value, make_row

FORMAT, VERSION = "token-refresh export", 1
SURROGATES = "surrogatepass"  # broken JSON may have brought a lone one into the table: it is written like any letter
GUARD = "'"
GUARDED = (*FORMULA_STARTS, GUARD)

_TIMES = [column.name for column in ALL_COLUMNS if column.type is ColumnType.DATETIME]
_NUMBERS = [column.name for column in ALL_COLUMNS if column.type is ColumnType.NUMBER]
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}")
Cells = Mapping[str, str | int | None]


@dataclass(frozen=True)
class SourceRow:
    """One row of an export or another source, or why it is none. Its cells are sealed, as in a table.

    Attributes:
        name: where it is.
        problem, action: why there is no row, and what to do.
        is_wrong: that somebody has to fix this, not merely know it.
        location_id, provider: of what is no row, where these are known.
    """

    name: str
    row: Row | None
    problem: str = ""
    action: str = "Export again, or correct the file."
    is_wrong: bool = True
    location_id: str = ""
    provider: str = ""


# Writing


def cells_of(row: Row, columns: Iterable[str]) -> dict[str, str | int | None]:
    """A row's cells in the order of `columns`, times as ISO 8601."""
    return {name: _text(getattr(row, ATTRIBUTES[name])) for name in columns}


def write_csv(rows: Iterable[Cells], columns: Sequence[str], write: Callable[[str], object]) -> None:
    """A header, then a line for each row; every cell is quoted."""
    writer = csv.writer(_Writer(write), quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([guarded(row[name]) for name in columns])


def write_json(rows: Iterable[Cells], columns: Sequence[str], write: Callable[[str], object]) -> None:
    """One object, with one row a line."""
    head = json.dumps({"format": FORMAT, "version": VERSION, "columns": list(columns)})
    write(f'{head[:-1]}, "rows": [')
    separator = "\n"
    for row in rows:
        write(f"{separator}{json.dumps(row)}")
        separator = ",\n"
    write("\n]}\n")


def guarded(value: str | int | None) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return GUARD + text if text.startswith(GUARDED) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` was given."""
    return cell.removeprefix(GUARD)


# Reading


def read_export(name: str) -> Iterator[SourceRow]:
    """The rows of a file that `export` wrote; `-` is standard input. CSV is read line by line.

    Raises:
        ActionableError: the file cannot be read, or is no export. No cell is quoted.
    """
    with _opened(name) as stream:
        try:
            first = stream.readline()
            rest = _from_json(first + stream.read()) if first.lstrip().startswith("{") else _from_csv(first, stream)
            yield from rest
        except UnicodeDecodeError:
            raise _no_export(name, "is not UTF-8 text") from None
        except _NoExportError as error:
            raise _no_export(name, str(error)) from None


class _NoExportError(Exception):
    """The file as a whole cannot be used."""


def _from_json(text: str) -> Iterator[SourceRow]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _NoExportError("is cut off or is not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("rows"), list):
        raise _NoExportError("is no export of this program")
    if content.get("version") != VERSION:
        raise _NoExportError("was written by a newer version of this program")
    for number, cells in enumerate(content["rows"], 1):
        name = f"row {number}"
        if isinstance(cells, dict) and all(isinstance(cell, str | int | None) for cell in cells.values()):
            yield _line(name, cells)
        else:
            yield SourceRow(name, None, "is no row of an export")


def _from_csv(first: str, stream: Iterable[str]) -> Iterator[SourceRow]:
    reader = csv.reader(chain([first], stream), strict=True, delimiter=delimiter_of(first))
    number = 1
    try:
        header = next(reader, [])
        if not set(REQUIRED_COLUMNS) <= set(header) <= set(ALL_COLUMN_NAMES) or len(set(header)) < len(header):
            raise _NoExportError("is no export of this program: its first line does not name the columns of a table")
        for cells in reader:
            number = reader.line_num
            if len(cells) == len(header):
                yield _line(f"line {number}", dict(zip(header, map(unguarded, cells), strict=True)))
            elif cells:
                problem = f"has {counted(len(cells), 'cell')}, not {len(header)}"
                yield SourceRow(f"line {number}", None, problem, location_id=_location_in(header, cells))
    except csv.Error:
        problem = "cannot be read as CSV (a quote that is not closed?), and so what follows it was not read"
        yield SourceRow(f"line {number + 1}", None, problem)


def _location_in(header: Sequence[str], cells: Sequence[str]) -> str:
    """The location id of a line with cells too many or too few. An export holds no secret that could stand there."""
    place = header.index("locationId")
    return unguarded(cells[place]) if place < len(cells) else ""


def _line(name: str, cells: Mapping[str, str | int | None]) -> SourceRow:
    if not set(cells) <= set(ALL_COLUMN_NAMES):
        return SourceRow(name, None, "has columns that are not known")
    values = {column: _number(cell) if column in _NUMBERS else cell for column, cell in cells.items()}
    wrong = [column for column in _TIMES if values.get(column) and parse_time(values[column]) is None]
    wrong += [column for column in _NUMBERS if values.get(column) and not isinstance(values[column], int)]
    if wrong:
        return SourceRow(name, None, f"has something else in {', '.join(wrong)} than belongs there")
    row = make_row(name, values.get, columns=ALL_COLUMNS)
    return SourceRow(name, row) if row.location_id else SourceRow(name, None, "has no locationId")


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    try:
        if name == "-":
            yield io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors=SURROGATES, newline="")
        else:
            with Path(name).open(encoding="utf-8-sig", errors=SURROGATES, newline="") as file:
                yield file
    except OSError as error:
        raise _no_export(name, f"cannot be read ({error.strerror})") from None


def _no_export(name: str, problem: str) -> ActionableError:
    what = "standard input" if name == "-" else name
    return ActionableError(f"{what} {problem}", "Name a file that `export` wrote.", Kind.USAGE)


class _Writer:
    """What the csv module takes for a file."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.write = write


def _text(value: Value) -> str | int | None:
    return iso(value) if isinstance(value, datetime) else value


def _number(cell: str | int | None) -> str | int | None:
    return int(cell) if isinstance(cell, str) and _WHOLE_NUMBER.fullmatch(cell) else cell
