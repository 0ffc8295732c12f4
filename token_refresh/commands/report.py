"""`report --output FILE`: every client, the next 48 hours and the last 30 days, as one HTML file. Opens no cell."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import install_extra
from token_refresh.base.text import counted
from token_refresh.commands import prepare_with_catalog
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_history, runtime


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--output", required=True, metavar="FILE", help="a new or an older report")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Write the file, which only its owner may read."""
    try:
        from token_refresh.service.report import DAYS, report
    except ModuleNotFoundError:
        raise ActionableError("the report needs Jinja2", install_extra("service"), Kind.CONFIGURATION) from None
    from token_refresh.library.manager import TokenManager
    from token_refresh.transfer.export import whole_private_file

    installation, now = prepare_with_catalog(environ, clock, console), clock.now()
    with closing(TokenManager(runtime(installation))) as manager, open_history(installation, console.warn) as history:
        views, results = manager.list_tokens(), history.days(now.date() - timedelta(days=DAYS - 1))
    with whole_private_file(Path(arguments.output)) as file:
        for piece in report(views, results, now):
            file.write(piece)
    if console.as_json:
        console.object({"file": arguments.output, "rows": len(views)})
    console.info(f"{counted(len(views), 'client')} reported")
    return ()
