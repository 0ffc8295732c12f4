"""`status`: every row, and when its access token ends; `status --check`: one line for a monitor. Opens no cell.

Reads the table, and the state folder for what the table has no columns for; `--check` reads nothing but what the last
run left there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.text import counted
from token_refresh.commands import prepare_with_catalog
from token_refresh.diagnosis.row_state import RowStatus, row_statuses
from token_refresh.library.tokens import readable_params, scopes_of
from token_refresh.notifiers.last_run import LastRun, not_checked
from token_refresh.refresh.due import DuePolicy
from token_refresh.stores.base import STATUS_ACTIVE, STATUS_DISABLED, Row
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_store, recall_failures

_HEAD = ("location", "provider", "state", "access token", "last refreshed", "failures", "last error", "what to do")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    words = "for a monitor: one line from the last run; exit 1 attention, 2 a token expired or no run, 3 cannot look"
    parser.add_argument("--check", action="store_true", help=words)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Show all rows; or with `--check` say in a line, and by the exit code, whether a person has to look."""
    if arguments.check:
        return _check(environ, clock, console)
    installation, now = prepare_with_catalog(environ, clock, console), clock.now()
    policy = DuePolicy(installation.settings.refresh_interval, installation.settings.token_expiry_buffer)
    with closing(open_store(installation)) as store:
        rows = recall_failures(installation, store, store.rows())
    statuses = row_statuses(rows, installation.catalog, installation.default_provider, policy, now)
    if console.as_json:
        console.object(_object(statuses, installation.settings.store, now))
    else:
        _show(statuses, now, console)
    return ()


def _check(environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    try:
        installation = prepare_with_catalog(environ, clock, console)
        finding = LastRun(installation.state.path, installation.store_name).judge(clock.now())
    except ActionableError as error:
        finding = not_checked(error)
    if console.as_json:
        console.object(finding.as_json())
    else:
        console.data(str(finding))
    return finding.kinds


def _show(rows: list[RowStatus], now: datetime, console: Console) -> None:
    from token_refresh.terminal.report import show_table_with_notes, until

    lines = [
        (
            one.row.location_id,
            one.provider,
            f"{one.shown_state}, {one.note}" if one.note else one.shown_state,
            "no end" if one.row.is_endless else until(one.row.access_token_expiry, now),
            f"{one.row.last_refreshed:%Y-%m-%d %H:%M}" if one.row.last_refreshed else "",
            str(one.row.failure_count or ""),
            one.error,
            one.action,
        )
        for one in rows
    ]
    if lines:
        show_table_with_notes(_HEAD, lines)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(Counter(one.shown_state for one in rows).items()))
    console.info(f"{counted(len(rows), 'row')}: {summary}" if rows else f"no rows yet; add one with: {ONBOARD_CLIENT}")


def _object(rows: list[RowStatus], store: str, now: datetime) -> dict[str, Any]:
    return {
        "checked_at": iso(now),
        "store": store,
        "counts": dict(Counter(one.shown_state for one in rows)),
        "rows": [
            {
                "location_id": one.row.location_id,
                "provider": one.provider,
                "status": one.row.status or STATUS_ACTIVE,
                "state": one.shown_state,
                "note": one.note or None,
                "expires_at": iso(one.row.access_token_expiry) if one.row.access_token_expiry else None,
                "refresh_expires_at": iso(one.row.refresh_token_expiry) if one.row.refresh_token_expiry else None,
                "last_refreshed": iso(one.row.last_refreshed) if one.row.last_refreshed else None,
                "failure_count": one.row.failure_count,
                "last_error": one.error or None,
                "action": one.action or None,
                "is_active": one.row.status != STATUS_DISABLED,
                "can_refresh": bool(one.row.encrypted_refresh),
                **_details(one.row),
            }
            for one in rows
        ],
    }


def _details(row: Row) -> dict[str, Any]:
    """What else is known of the client, without secrets; null where nothing is."""
    params = readable_params(row)
    texts = ("token_type", "redirect_uri", "workspace_email", "workspace_name", "username", "email")
    times = ("connected_at", "last_used_at")
    return {
        "scopes": scopes_of(row, params),
        **{name: getattr(row, name) or params.get(name) for name in texts},
        **{name: iso(moment) if (moment := getattr(row, name)) else None for name in times},
    }
