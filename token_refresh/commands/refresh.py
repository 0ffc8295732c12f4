"""`refresh`: what cron runs."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from token_refresh.base.clock import Clock, iso, parse_time
from token_refresh.base.errors import Kind
from token_refresh.commands import prepare
from token_refresh.refresh.rounds import Stop, rounds
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import interval, seconds
from token_refresh.terminal.process import ended_by, on_one_core
from token_refresh.wiring import Context, open_parts

if TYPE_CHECKING:  # a run that finds another one active ends before it needs these
    from token_refresh.refresh.run_context import RunContext

LAST_RUN_FILE = "last-run"
RARE_RUNS = 1.5  # intervals between two runs that are too many


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--all", action="store_true", help="also what is not due")
    parser.add_argument("--location", action="append", default=[], metavar="ID", help="only this one; may be repeated")
    parser.add_argument("--provider", metavar="P", help="only this provider's rows")
    parser.add_argument("--dry-run", action="store_true", help="show what would be refreshed; call and write nothing")
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="start nothing new after so many seconds")
    parser.add_argument("--jitter", type=seconds, default=0, metavar="S", help="first wait a random time up to this")
    parser.add_argument(
        "--every", type=interval, metavar="S", help="go on, round after round, one every S seconds (10 or more)"
    )
    parser.add_argument("--takeover", action="store_true", help="go on although another host refreshed this table")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Refresh what is due, report it, and say by the exit code how it went."""
    context = prepare(environ, clock, console)
    if arguments.provider is not None:
        context.catalog.get(arguments.provider)  # a name that nobody has is reported before another run that is active
    if arguments.jitter:
        import random

        clock.sleep(random.uniform(0, arguments.jitter))
    stop = Stop()
    if arguments.every is None:
        return _run_once(arguments, context, console, stop)
    known = replace(context.settings, refresh_interval=math.ceil(arguments.every))  # nobody else starts the runs
    context = replace(context, settings=known)
    with ended_by(stop):
        return _run_on(arguments, context, console, stop)


def _run_on(arguments: argparse.Namespace, context: Context, console: Console, stop: Stop) -> Iterable[Kind]:
    """Round after round, until a signal; a round that fails is reported, and the next one comes."""
    from token_refresh.commands import reported

    console.as_lines = True
    was_cut = False
    for _ in rounds(arguments.every, context.clock, stop):
        kinds = reported(console, partial(_run_once, arguments, context, console, stop))
        was_cut = Kind.STOPPED in kinds and stop.reason is not None
    return (Kind.STOPPED,) if was_cut else ()


def _run_once(arguments: argparse.Namespace, context: Context, console: Console, stop: Stop) -> Iterable[Kind]:
    """One run; lock and journal are free again after it."""
    with context.lock():
        return _run_locked(arguments, context, console, stop)


def _run_locked(arguments: argparse.Namespace, context: Context, console: Console, stop: Stop) -> Iterable[Kind]:
    from token_refresh.refresh.run import Refresher
    from token_refresh.refresh.run_context import Scope
    from token_refresh.terminal.report import report_for, report_object

    scope = Scope(
        everything=arguments.all,
        locations=tuple(name.strip() for name in arguments.location),
        providers=context.catalog.get(arguments.provider).spellings if arguments.provider is not None else (),
        dry_run=arguments.dry_run,
        max_seconds=arguments.max_seconds,
        takeover=arguments.takeover,
    )
    with open_parts(context) as parts, report_for(console, only_news=not scope.is_by_hand) as subscriber:
        if not (scope.is_by_hand or scope.dry_run or scope.takeover):  # cron's own run
            _warn_of_rare_runs(context, console)
        refresher = Refresher(parts, subscriber)
        with ended_by(stop), stop.reaching(refresher.stop), on_one_core():
            report = refresher.run(scope)
        _warn_of_quota(context, parts, console)
    if console.as_json:
        console.object(report_object(report, context.settings.store, parts.store.store.calls))
    return report.kinds()


def _warn_of_quota(context: Context, parts: RunContext, console: Console) -> None:
    """Said before the month's calls are spent: from then on nothing can be stored, so nothing is refreshed."""
    usage = parts.store.store.usage()
    if usage is not None and context.settings.airtable is not None:
        from token_refresh.stores.airtable.quota import SHORT_ACTION, Quota  # and with it Airtable's library

        stand = Quota.of(context.settings.airtable.plan, usage.calls, usage.forecast)
        if stand.is_short:
            console.warn(str(stand), SHORT_ACTION)


def _warn_of_rare_runs(context: Context, console: Console) -> None:
    """Tokens are renewed in time only if the program knows how often it is run."""
    file = context.folder / LAST_RUN_FILE
    now = context.clock.now()
    last = parse_time(file.read_text()) if file.exists() else None
    interval = context.settings.refresh_interval
    if last is not None and (now - last).total_seconds() > RARE_RUNS * interval:
        console.warn(
            f"the last run was at {last:%Y-%m-%d %H:%M} UTC, longer ago than REFRESH_INTERVAL ({interval} s)",
            "Set REFRESH_INTERVAL to the seconds between two runs of cron.",
        )
    with contextlib.suppress(OSError):  # a full disk is reported by whoever cannot go on without it
        file.write_text(iso(now))
