"""`import`: the rows of a source into the table. First what would be done to each row is shown, then it is done."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.stop import Stop
from token_refresh.base.text import counted
from token_refresh.commands import patient_lock, prepare
from token_refresh.journal.entries import OPEN_STEPS
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_allow_host, add_yes
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal, can_ask
from token_refresh.transfer.export_file import SourceRow
from token_refresh.transfer.import_plan import ImportPlanner, ImportStep, PlannedRow, as_shown, counts_of
from token_refresh.transfer.import_rows import carry_out, rows_of_export
from token_refresh.transfer.layouts import LAYOUTS
from token_refresh.wiring import Installation, make_import_planner, open_run_context, open_sealed, read_source

_HEAD = ("row", "location", "provider", "", "why", "what to do")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("source", metavar="SOURCE", help="an export (- for standard input), or what --layout reads")
    parser.epilog = "Layouts: " + "; ".join(f"{name}: {what}" for name, what in LAYOUTS.items())
    parser.add_argument("--layout", choices=LAYOUTS, metavar="NAME", help="of what an earlier program kept; see below")
    parser.add_argument("--redirect-uri", default="", metavar="URI", help="of the logins, where the source lacks it")
    add_allow_host(parser)
    add_yes(parser)
    parser.add_argument("--replace", action="store_true", help="overwrite rows that differ, even newer ones")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Show the plan, then carry it out where that is wanted; exit 1 where a row was refused."""
    installation = prepare(environ, clock, console)
    console.info("first stop whatever else refreshes these clients, its cron line too: it would spend their tokens")
    with open_sealed(installation) as store:
        rows = _rows(arguments, installation, store.store.columns)
        planner = make_import_planner(
            installation,
            store,
            arguments.allow_host,
            is_layout=arguments.layout is not None,
            is_replacing=arguments.replace,
        )
        shown = None if arguments.yes else planner.plan(rows)
        if shown is not None:
            _show(shown, console)
            if not _is_wanted(shown):
                _say_left_behind(planner, shown, console)
                return _end(installation, console, shown, is_done=False)
        done = _carry_out(installation, planner, rows, shown, console)
        _say_left_behind(planner, done, console)
    if done != shown:
        _show(done, console)
    return _end(installation, console, done, is_done=True)


def _rows(arguments: argparse.Namespace, installation: Installation, columns: Collection[str]) -> list[SourceRow]:
    if arguments.layout is not None:
        source, uri = arguments.source, arguments.redirect_uri
        return read_source(installation, arguments.layout, source, uri, arguments.allow_host, columns)
    if arguments.redirect_uri or arguments.allow_host:
        raise ActionableError("--redirect-uri and --allow-host are for --layout", "Leave them out.", Kind.USAGE)
    return rows_of_export(arguments.source)


def _is_wanted(shown: Sequence[PlannedRow]) -> bool:
    """Whether a person, asked at a terminal, agrees. Elsewhere it stays at the plan."""
    created, replaced = (sum(one.step is step for one in shown) for step in (ImportStep.CREATE, ImportStep.REPLACE))
    if not (created or replaced) or not can_ask():
        return False
    with Terminal() as ask:
        return ask.yes(f"Create {counted(created, 'row')} and replace {replaced}?")


def _carry_out(
    installation: Installation,
    planner: ImportPlanner,
    rows: Sequence[SourceRow],
    shown: Sequence[PlannedRow] | None,
    console: Console,
) -> list[PlannedRow]:
    stop = Stop()
    with patient_lock(installation, console):
        with open_run_context(installation) as context:
            waiting = [one for one in context.journal.entries(*OPEN_STEPS) if one.admission]
        planned = as_shown(planner.plan(rows, waiting), shown)
        with ended_by(stop):
            return carry_out(planner.store, planned, stop, installation.audit(planner.store))


def _end(installation: Installation, console: Console, rows: Sequence[PlannedRow], *, is_done: bool) -> Iterable[Kind]:
    counts = counts_of(rows)
    if console.as_json:
        results = [one.as_json() for one in rows]
        store = installation.settings.store
        console.object({"store": store, "dry_run": not is_done, "counts": counts, "results": results})
    summary = ", ".join(f"{count} {step}" for step, count in counts.items()) or "there are no rows in it"
    if is_done:
        console.info(summary)
    else:
        how = ". To do it: --yes" if {ImportStep.CREATE, ImportStep.REPLACE} & counts.keys() else ""
        console.info(f"nothing was written; it would be: {summary}{how}")
    return (Kind.ROW,) if ImportStep.REFUSE in counts else ()


def _say_left_behind(planner: ImportPlanner, rows: Sequence[PlannedRow], console: Console) -> None:
    if left := planner.left_behind(rows):
        console.warn(f"the table has no columns for this, and it is left behind: {left}", "Keep the source.")


def _show(rows: Sequence[PlannedRow], console: Console) -> None:
    from token_refresh.terminal.report import show_table

    if rows and not console.as_json:
        lines = [(one.name, one.location_id, one.provider, one.step.value, one.reason, one.action) for one in rows]
        show_table(_HEAD, lines)
