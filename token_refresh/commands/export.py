"""`export`: every row, sealed as it is, for a backup. What anybody could read is left out."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import audited
from token_refresh.base.text import counted
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.transfer.export import WRITERS, Export, whole_private_file
from token_refresh.wiring import open_store


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--format", choices=("csv", "json"), default="json", help="json, or csv for spreadsheets")
    parser.add_argument("--output", default="-", metavar="FILE", help="a new or an older export; - is standard output")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Write all rows; exit 1 where a row holds something in the place of a cell."""
    installation = prepare(environ, clock, console)
    is_data = arguments.output == "-"
    if is_data and console.as_json and arguments.format != "json":
        raise ActionableError("standard output cannot carry both CSV and --json", "Add --output FILE.", Kind.USAGE)
    write = WRITERS[arguments.format]
    with closing(open_store(installation)) as store, audited(installation.audit(store), "export"):
        export = Export(store)
        if is_data:
            write(export.cells(), export.columns, console.piece)
        else:
            with whole_private_file(Path(arguments.output)) as file:
                write(export.cells(), export.columns, file.write)
    for error in export.left_out:
        console.warn(str(error), error.action)
    if console.as_json and not is_data:
        console.object({"store": installation.settings.store, "file": arguments.output, "rows": export.rows})
    rows = counted(export.rows, "row")
    console.info(f"{rows} exported; keep ENCRYPTION_KEY elsewhere: both together are every secret")
    return {error.kind for error in export.left_out}
