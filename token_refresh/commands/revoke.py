"""`revoke LOCATION`: end a client's grant at its provider, then take its secrets out of the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.commands import change_client
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_row, add_yes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser)
    add_yes(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Ask, revoke, empty the row. Safe to repeat."""
    question = "End the grant of {whom}? Only a new login brings it back."
    provider = change_client(arguments, environ, clock, console, question, "revoke")
    location, is_certain = arguments.location.strip(), provider.revocation.ends
    if console.as_json:
        console.object({"location_id": location, "provider": provider.slug, "revoked": is_certain})
    if is_certain:
        console.info(f"{location} {provider.slug}: revoked; its row is disabled and holds no secret any more")
    else:
        console.info(
            f"{location} {provider.slug}: asked to revoke; its row is disabled and holds no secret any more."
            f" {provider.name} does not promise that this ends the grant: remove the app there to be sure"
        )
    return ()
