"""`revoke LOCATION`: end a client's grant at its provider, then take its secrets out of the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.clients.rows import find_one
from token_refresh.commands import patient_lock, prepare
from token_refresh.library.tokens import WAIT_SECONDS
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_row, add_yes
from token_refresh.terminal.prompts import require_yes
from token_refresh.terminal.report import LineReport
from token_refresh.wiring import make_job_factory, open_run_context, open_sealed


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser)
    add_yes(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Ask, revoke, empty the row. Safe to repeat."""
    from token_refresh.clients.removal import Removal

    installation = prepare(environ, clock, console)
    location, provider = arguments.location, arguments.provider
    if not arguments.yes:
        with open_sealed(installation) as store:
            _, provider = find_one(store.store, make_job_factory(installation, store), location, provider)
        whom = f"{location} at {installation.catalog.get(provider).name}"
        require_yes(f"End the grant of {whom}? Only a new login brings it back.", "Repeat with --yes.")
    with patient_lock(installation, console), open_run_context(installation) as context:
        provider = Removal(context, LineReport(console), WAIT_SECONDS).end(location, provider, at_provider=True)
    if console.as_json:
        console.object({"location_id": location, "provider": provider, "revoked": True})
    console.info(f"{location} {provider}: revoked; its row is disabled and holds no secret any more")
    return ()
