"""`disable LOCATION`: let a client rest. Its tokens stay, and are neither refreshed nor served."""

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
    provider = change_client(
        arguments, environ, clock, console, "Stop refreshing {whom}? `enable` starts it again.", "disable"
    )
    if console.as_json:
        console.object({"location_id": arguments.location.strip(), "provider": provider.slug, "disabled": True})
    console.info(f"{arguments.location.strip()} {provider.slug}: disabled; to use it again: enable")
    return ()
