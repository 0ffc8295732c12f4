"""`delete LOCATION`: take a client out of the table, its secrets first. Its grant lives on at its provider."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.commands import change_client
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import add_row, add_yes

_QUESTION = (
    "Delete {whom} and its row, with all that stands in it? Its tokens go on working at the provider: see revoke."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    add_row(parser)
    add_yes(parser)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Ask, empty the row, delete it."""
    provider = change_client(arguments, environ, clock, console, _QUESTION, "delete")
    if console.as_json:
        console.object({"location_id": arguments.location.strip(), "provider": provider.slug, "deleted": True})
    console.info(
        f"{arguments.location.strip()} {provider.slug}: deleted; to end its grant, disconnect the app at the provider"
    )
    return ()
