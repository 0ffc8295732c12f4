"""`audit LOCATION`: what the security log has of a location, as JSON lines, oldest first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.text import counted
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("location", metavar="LOCATION", help="as in the table, also of a row that is gone")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Print the lines. The store is not asked: the log may be looked at while it is away."""
    installation = prepare(environ, clock, console)
    location = arguments.location.strip()
    if installation.settings.security_log == "none":
        console.warn("SECURITY_LOG is none, so nothing is noted any more; what is found is from before")
    lines = list(installation.security_log.lines_of(location))
    if console.as_json:
        console.object({"location_id": location, "lines": lines})
    else:
        for line in lines:
            console.data(json.dumps(line))
    console.info(f"{counted(len(lines), 'line')} of {location}, or of all locations at once")
    return ()
