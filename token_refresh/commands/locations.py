"""`onboard_client.py --locations`: which locations of a HighLevel agency have the app, and rows for those without."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.events import RowFinished
from token_refresh.base.program import ONBOARD_CLIENT, flag
from token_refresh.base.stop import Stop
from token_refresh.clients.agencies import Agency
from token_refresh.clients.credential import AdmissionError
from token_refresh.clients.installs import (
    AgencyCalls,
    InstallsFile,
    add_location,
    fresh_agency,
    list_installed,
    rows_of,
)
from token_refresh.commands import patient_lock, prepare
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.refresh.run_context import RunContext
from token_refresh.terminal.console import Console
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.report import LineReport, show_table
from token_refresh.wiring import open_run_context

_HEAD = ("LOCATION", "NAME", "STATE", "ERROR", "ACTION")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """List the locations, and add those that were asked for; exit 1 where one was not added."""
    installation, stop = prepare(environ, clock, console), Stop()
    company_id = arguments.locations
    with patient_lock(installation, console), open_run_context(installation) as context, ended_by(stop):
        store_leftovers(context, LineReport(console))
        agency, calls = fresh_agency(context, company_id), AgencyCalls(clock)
        installed, known = list_installed(context, agency, calls), rows_of(context)
        InstallsFile(context.folder).note(company_id, installed, clock.now())
        lines = {one: _line(one, name, "in_table" if one in known else "new") for one, name in installed.items()}
        asked = [one for one in installed if one not in known] if arguments.all else arguments.location
        try:
            for location_id in dict.fromkeys(asked):
                if location_id not in lines:
                    lines[location_id] = _line(location_id, "", "failed", "the app is not installed there")
                elif location_id not in known and stop.reason is None:
                    lines[location_id] |= _added(context, agency, location_id, calls)
                _say(console, lines[location_id])
        finally:  # what was added before an error is shown, too
            _show(console, company_id, list(lines.values()))
    if stop.reason is not None:
        return (Kind.STOPPED,)
    return [Kind.ROW for line in lines.values() if line["state"] == "failed"][:1]


def _line(location_id: str, name: str, state: str, error: str | None = None) -> dict[str, Any]:
    return {"location_id": location_id, "name": name, "state": state, "error": error, "action": None}


def _added(context: RunContext, agency: Agency, location_id: str, calls: AgencyCalls) -> dict[str, Any]:
    try:
        end = add_location(context, agency, location_id, calls)
    except AdmissionError as problem:
        return {"state": "failed", "error": str(problem), "action": problem.action}
    if isinstance(end, RowFinished) and end.is_saved:
        return {"state": "added"}
    return {
        "state": "failed",
        "error": end.error if isinstance(end, RowFinished) else end.message,
        "action": end.action,
    }


def _say(console: Console, line: Mapping[str, Any]) -> None:
    if line["state"] == "failed":
        console.warn(f"{line['location_id']} was not added: {line['error']}", line["action"] or "")
    elif line["state"] == "added":
        console.info(f"{line['location_id']} is saved")


def _show(console: Console, company_id: str, lines: list[dict[str, Any]]) -> None:
    if console.as_json:
        console.object({"company_id": company_id, "locations": lines})
    else:
        show_table(_HEAD, [tuple(line[name] or "" for name in line) for line in lines])
    left = sum(line["state"] == "new" for line in lines)
    if left:
        add = f"{ONBOARD_CLIENT} {flag('--locations', company_id)} --all"
        console.info(f"without a row: {left} of {len(lines)}; to add all: {add}")
