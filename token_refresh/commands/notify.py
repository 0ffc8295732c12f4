"""`notify --test`: send one message to each place that hears of runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.commands import prepare
from token_refresh.terminal.console import Console
from token_refresh.wiring import notifiers_surroundings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--test", action="store_true", required=True, help="send one of each; nothing is refreshed")


def run(_: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Send one of each; exit 1 where one was not accepted."""
    from token_refresh.notifiers.channels import tests_of
    from token_refresh.notifiers.watch import ALL_SECONDS, Limit, act_together

    installation = prepare(environ, clock, console)
    limit = Limit(ALL_SECONDS)
    acts = dict(tests_of(notifiers_surroundings(installation, console.warn), limit))
    if not acts:
        what = "none of NOTIFY_URLS, NOTIFY_COMMAND, WEBHOOK_URL and PING_URL is set"
        raise ActionableError(what, "See docs/alerts.md.", Kind.CONFIGURATION)
    problems = act_together(acts, limit)
    if console.as_json:
        words = {name: (str(problem), problem.action) for name, problem in problems.items()}
        fields = (dict(zip(("error", "action"), words.get(name, (None, None)), strict=True)) for name in acts)
        console.object({"results": [{"name": name} | field for name, field in zip(acts, fields, strict=True)]})
    for name in acts.keys() - problems.keys():
        console.info(f"{name}: accepted")
    for name, problem in problems.items():
        console.error(f"{name}: {problem}", problem.action)
    return (Kind.ROW,) if problems else ()
