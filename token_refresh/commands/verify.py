"""`verify`: whether every sealed cell opens, in the table or in an export. It asks no provider and writes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.terminal.console import Talk
from token_refresh.wiring import Context, make_bench, make_seals, open_sealed, prepare

if TYPE_CHECKING:
    from token_refresh.keys.inspection import Finding, Stale, Survey
    from token_refresh.stores.base import Row
    from token_refresh.transfer.export_file import Line

_HEAD = ("row", "location", "provider", "", "finding", "what to do")
_RESEAL = "The next refresh seals it anew, or: python token_manager.py rotate-key"


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Open everything; the exit code alone says whether all of it opened."""
    context = prepare(environ, clock, talk)
    survey = _of_store(context) if arguments.file is None else _of_file(context, arguments.file)
    bad = [*survey.findings, *survey.duplicates]
    if talk.as_json:
        talk.object(_object(survey, context.settings.store if arguments.file is None else "file"))
    else:
        _show(survey, bad)
    refuse_wrong_key(survey)
    rows = f"{survey.rows} row{'s' if survey.rows != 1 else ''}"
    talk.info(f"{rows}: {survey.opened} cells open, {len(bad)} faults, {len(survey.stale)} rows want to be sealed anew")
    return (Kind.ROW,) if bad else ()


def refuse_wrong_key(survey: Survey) -> None:
    """Where no key opens anything, the configuration is at fault and not the rows.

    Raises:
        ActionableError: that is so.
    """
    if survey.is_key_wrong:
        raise ActionableError(
            f"ENCRYPTION_KEY opens no cell of the {survey.rows} rows",
            "Set the key that they were sealed with; older keys go into ENCRYPTION_KEY_FALLBACKS.",
            Kind.CONFIGURATION,
        )


def finding_object(finding: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    return {
        "row": finding.row,
        "location_id": finding.location_id,
        "provider": finding.provider,
        "error": finding.error,
        "action": finding.action,
    }


def _of_store(context: Context) -> Survey:
    from token_refresh.keys.inspection import Inspector

    with open_sealed(context) as store:
        return Inspector(store, make_bench(context, store)).survey(store.store.rows(complete=True))


def _of_file(context: Context, name: str) -> Survey:
    from token_refresh.keys.inspection import Finding, Inspector
    from token_refresh.transfer.export_file import read_export

    unread: list[Finding] = []

    def rows(lines: Iterable[Line]) -> Iterator[Row]:
        for line in lines:
            if line.row is not None:
                yield line.row
            else:
                unread.append(Finding(line.name, "", "", line.problem, "Export anew, or correct the file."))

    seals = make_seals(context)
    survey = Inspector(seals, make_bench(context, seals)).survey(rows(read_export(name)))
    survey.findings += unread
    survey.rows += len(unread)
    return survey


def _show(survey: Survey, bad: list[Finding]) -> None:
    from token_refresh.terminal.report import show_table

    lines = [(one.row, one.location_id, one.provider, "bad", one.error, one.action) for one in bad]
    lines += [(one.row, one.location_id, one.provider, "old", _stale(one), _RESEAL) for one in survey.stale]
    if lines:
        show_table(_HEAD, lines)


def _stale(one: Stale) -> str:
    are = "wants" if len(one.columns) == 1 else "want"
    return f"{', '.join(one.columns)} {are} to be sealed anew: of an older form, an older key or a former host"


def _object(survey: Survey, where: str) -> dict[str, Any]:
    return {
        "store": where,
        "rows": survey.rows,
        "cells_opened": survey.opened,
        "findings": [finding_object(one) for one in [*survey.findings, *survey.duplicates]],
        "stale": [
            {"row": one.row, "location_id": one.location_id, "provider": one.provider, "columns": list(one.columns)}
            for one in survey.stale
        ],
    }
