"""What an export holds, and how its file comes to be: sealed cells alone, in a private file that is whole or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import crypto
from token_refresh.base.columns import ALL_COLUMN_NAMES, SEALED_COLUMNS
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.files import require_own_place
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.keys.inspection import Finding, Inspector, Survey
from token_refresh.stores.base import Row, Store
from token_refresh.transfer.export_file import SURROGATES, Cells, cells_of, read_export, write_csv, write_json

WRITERS = {"csv": write_csv, "json": write_json}


@dataclass
class Export:
    """The rows of a store on their way out, one at a time.

    Attributes:
        rows: how many went out so far.
        left_out: one error for each cell that is not sealed and should be.
    """

    store: Store
    rows: int = 0
    left_out: list[ActionableError] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Those that the table has."""
        return [name for name in ALL_COLUMN_NAMES if name in self.store.columns]

    def cells(self) -> Iterator[Cells]:
        """Every row, without what anybody could read who finds the file."""
        columns = self.columns
        for row in self.store.rows(complete=True):
            self.rows += 1
            yield cells_of(self._sealed_only(row), columns)

    def _sealed_only(self, row: Row) -> Row:
        unsealed: dict[str, Any] = {}
        for column in SEALED_COLUMNS:
            if column == "last_access_token" and not row.has_only_access_token:
                continue  # whoever imports it refreshes the row
            cell = getattr(row, column)
            if cell and not crypto.is_cell(cell):
                error = ActionableError(
                    f"{row.location_id}: {column} is not an encrypted value, and was left out",
                    f"If it holds a secret, empty it and onboard the client: {ONBOARD_CLIENT}",
                    Kind.ROW,
                )
                self.left_out.append(error)
                unsealed[column] = ""
        return replace(without_plain_token(row), **unsealed)


def without_plain_token(row: Row) -> Row:
    """The row without an access token that anybody could read; whoever imports it refreshes the row instead."""
    return row if crypto.is_sealed(row.last_access_token) else replace(row, last_access_token="")


def survey_export(name: str, inspector: Inspector) -> Survey:
    """What a look at every row of an export found, with a finding for each that is no row.

    Raises:
        ActionableError: see `read_export`.
    """
    unread: list[Finding] = []

    def rows() -> Iterator[Row]:
        for line in read_export(name):
            if line.row is not None:
                yield line.row
            else:
                unread.append(Finding(line.name, "", "", line.problem, line.action))

    survey = inspector.survey(rows())
    survey.findings += unread
    survey.rows += len(unread)
    return survey


@contextlib.contextmanager
def whole_private_file(path: Path) -> Iterator[TextIO]:
    """A private file that takes the name `path` only when it is whole and on the disk.

    Raises:
        ActionableError: it cannot be written, or others could put something else in its place; what was there stays as
            it was.
    """
    try:
        path = require_own_place(path)  # of a link the file that it leads to is replaced
        if path.exists() and not path.is_file():
            raise ActionableError(f"{path} is not a file", "Name a file, or - for standard output.", Kind.USAGE)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors=SURROGATES, newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ActionableError(
            f"{path} cannot be written ({error.strerror})", "Free the disk, or name another file.", Kind.USAGE
        ) from None


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
