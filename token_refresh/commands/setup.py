"""`setup`: make the table, or the columns that it lacks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_store


def run(_arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Make what is missing and say what was made; where that is not allowed, say what to click."""
    installation = prepare(environ, clock, console)
    with installation.lock(), closing(open_store(installation)) as store:
        made = store.setup()
    if console.as_json:
        console.object({"store": installation.settings.store, "made": made})
    for sentence in made:
        console.info(sentence)
    console.info("the table is complete" if made else "the table was complete already")
    return ()
