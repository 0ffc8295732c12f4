"""`setup`: make the table, or the columns that it lacks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import closing

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.commands import prepare
from token_refresh.terminal.console import Talk
from token_refresh.wiring import open_store


def run(_arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Make what is missing and say what was made; where that is not allowed, say what to click."""
    context = prepare(environ, clock, talk)
    with context.lock(), closing(open_store(context)) as store:
        made = store.setup()
    if talk.as_json:
        talk.object({"store": context.settings.store, "made": made})
    for sentence in made:
        talk.info(sentence)
    talk.info("the table is complete" if made else "the table was complete already")
    return ()
