"""`enable LOCATION`: refresh and serve a client that was disabled."""

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
    """Ask, and set the status. Safe to repeat."""
    provider = change_client(arguments, environ, clock, console, "Refresh {whom} again?", "enable")
    if console.as_json:
        console.object({"location_id": arguments.location.strip(), "provider": provider.slug, "enabled": True})
    console.info(f"{arguments.location.strip()} {provider.slug}: enabled; the next run refreshes it when it is due")
    return ()
