"""`verify`: whether every sealed cell opens, in the table or in an export. It asks no provider and writes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import counted
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.wiring import Installation, make_job_factory, make_seals, open_sealed

if TYPE_CHECKING:
    from token_refresh.keys.inspection import Survey

_HEAD = ("row", "location", "provider", "", "finding", "what to do")
_REENCRYPT = f"The next refresh re-encrypts it, or: {TOKEN_MANAGER} rotate-key"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--file", metavar="FILE", help="look at an export (- for standard input) instead")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Open everything; the exit code alone says whether all of it opened."""
    installation = prepare(environ, clock, console)
    survey = _survey(installation, arguments.file)
    if console.as_json:
        console.object(_object(survey, installation.settings.store if arguments.file is None else "file"))
    else:
        _show(survey)
    survey.require_key()
    rows, opened, faults = counted(survey.rows, "row"), counted(survey.opened, "value"), len(survey.faults)
    stale = counted(len(survey.stale), "row needs", "rows need")
    console.info(f"{rows}: {opened} decrypted, {counted(faults, 'fault')}, {stale} re-encrypting")
    return (Kind.ROW,) if faults else ()


def _survey(installation: Installation, export: str | None) -> Survey:
    from token_refresh.keys.inspection import Inspector
    from token_refresh.transfer.export import survey_export

    if export is not None:
        seals = make_seals(installation)
        return survey_export(export, Inspector(seals, make_job_factory(installation, seals)))
    with open_sealed(installation) as store:
        return Inspector(store, make_job_factory(installation, store)).survey(store.store.rows(complete=True))


def _show(survey: Survey) -> None:
    from token_refresh.terminal.report import show_table

    lines = [(one.row, one.location_id, one.provider, "bad", one.error, one.action) for one in survey.faults]
    lines += [(one.row, one.location_id, one.provider, "old", str(one), _REENCRYPT) for one in survey.stale]
    if lines:
        show_table(_HEAD, lines)


def _object(survey: Survey, where: str) -> dict[str, Any]:
    return {
        "store": where,
        "rows": survey.rows,
        "cells_opened": survey.opened,
        "findings": [one.as_json() for one in survey.faults],
        "stale": [
            {"row": one.row, "location_id": one.location_id, "provider": one.provider, "columns": list(one.columns)}
            for one in survey.stale
        ],
    }
