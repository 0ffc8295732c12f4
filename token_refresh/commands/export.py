"""`export`: every row, sealed as it is, for a backup. What anybody could read is left out."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import crypto
from token_refresh.base.clock import Clock
from token_refresh.base.columns import COLUMN_NAMES
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.stores.base import Row, Store
from token_refresh.terminal.console import Talk
from token_refresh.transfer.export_file import SURROGATES, Cells, cells_of, write_csv, write_json
from token_refresh.wiring import open_store, prepare

_WRITERS = {"csv": write_csv, "json": write_json}


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Write all rows; exit 1 where a row holds something in the place of a cell."""
    context = prepare(environ, clock, talk)
    is_data = arguments.output == "-"
    if is_data and talk.as_json and arguments.format != "json":
        raise ActionableError("standard output cannot carry both CSV and --json", "Add --output FILE.", Kind.USAGE)
    store = open_store(context)
    try:
        export = _Export(store, talk)
        if is_data:
            _WRITERS[arguments.format](export.cells(), export.columns, talk.piece)
        else:
            with _whole_file(Path(arguments.output)) as file:
                _WRITERS[arguments.format](export.cells(), export.columns, file.write)
    finally:
        store.close()
    if talk.as_json and not is_data:
        talk.object({"store": context.settings.store, "file": arguments.output, "rows": export.rows})
    talk.info(f"{export.rows} rows exported; keep ENCRYPTION_KEY elsewhere: both together are every secret")
    return (Kind.ROW,) if export.left_out else ()


@dataclass
class _Export:
    """The rows on their way out, one at a time."""

    store: Store
    talk: Talk
    rows: int = 0
    left_out: int = 0

    def __post_init__(self) -> None:
        self.columns = [name for name in COLUMN_NAMES if name in self.store.columns]

    def cells(self) -> Iterator[Cells]:
        for row in self.store.rows(complete=True):
            self.rows += 1
            yield cells_of(self._sealed_only(row), self.columns)

    def _sealed_only(self, row: Row) -> Row:
        """Without what anybody could read who finds the file."""
        access_token = row.last_access_token if crypto.is_sealed(row.last_access_token) else ""
        unsealed: dict[str, Any] = {}
        for column in ("encrypted_secret", "encrypted_refresh"):
            cell = getattr(row, column)
            if cell and not crypto.is_cell(cell):
                self.left_out += 1
                self.talk.warn(
                    f"{row.location_id}: {column} is not a sealed cell, and was left out",
                    "If it holds a secret, empty it and onboard the client: python onboard_client.py",
                )
                unsealed[column] = ""
        return replace(row, last_access_token=access_token, **unsealed)


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    """A private file that takes the name `path` only when it is whole and on the disk.

    Raises:
        ActionableError: it cannot be written; what was there stays as it was.
    """
    path = path.resolve()  # of a link the file that it leads to is replaced
    if path.exists() and not path.is_file():
        raise ActionableError(f"{path} is no file", "Name a file, or - for standard output.", Kind.USAGE)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
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
