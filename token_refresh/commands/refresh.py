"""`refresh`: what cron runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind
from token_refresh.base.rounds import rounds
from token_refresh.base.stop import Stop
from token_refresh.commands import prepare
from token_refresh.refresh.run_context import Scope
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import interval, location, seconds
from token_refresh.terminal.guard import reported
from token_refresh.terminal.process import ended_by, on_one_core
from token_refresh.wiring import Installation, open_run_context, run_watch

if TYPE_CHECKING:
    from token_refresh.notifiers.watch import RunWatch


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--all", action="store_true", help="refresh every client, due or not")
    parser.add_argument(
        "--location", action="append", default=[], type=location, metavar="ID", help="only this one; may be repeated"
    )
    parser.add_argument("--provider", metavar="P", help="only this provider's rows")
    parser.add_argument("--dry-run", action="store_true", help="show what would be refreshed; call and write nothing")
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="start nothing new after so many seconds")
    parser.add_argument("--jitter", type=seconds, default=0, metavar="S", help="first wait a random time up to this")
    parser.add_argument(
        "--every", type=interval, metavar="S", help="go on, round after round, one every S seconds (10 or more)"
    )
    parser.add_argument("--takeover", action="store_true", help="go on: the other machine on this table is stopped")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Refresh what is due, report it, and say by the exit code how it went."""
    installation = prepare(environ, clock, console)
    if arguments.provider is not None:
        installation.catalog.get(
            arguments.provider
        )  # a name that nobody has is reported before another run that is active
    if arguments.jitter:
        import random

        clock.sleep(random.uniform(0, arguments.jitter))
    stop = Stop()
    if arguments.every is None:
        return _run_once(arguments, installation, console, stop)
    known = replace(installation.settings, refresh_interval=math.ceil(arguments.every))  # nobody else starts the runs
    installation = replace(installation, settings=known)
    with ended_by(stop):
        return _run_on(arguments, installation, console, stop)


def _run_on(arguments: argparse.Namespace, installation: Installation, console: Console, stop: Stop) -> Iterable[Kind]:
    """Round after round, until a signal; a round that fails is reported, and the next one comes."""
    console.as_lines = True
    was_cut = False
    for _ in rounds(arguments.every, installation.clock, stop):
        kinds = _run_once(arguments, installation, console, stop)
        was_cut = Kind.STOPPED in kinds and stop.reason is not None
    console.info(f"{stop.reason}: no further round begins")
    return (Kind.STOPPED,) if was_cut else ()


def _run_once(
    arguments: argparse.Namespace, installation: Installation, console: Console, stop: Stop
) -> Iterable[Kind]:
    """One run, reported; whoever wants to know of it acts when lock and journal are free again.

    A signal ends the wait for them; in the middle of rounds it ends those, too.
    """
    scope = _scope(arguments, installation)
    watch = run_watch(installation, console.warn, is_scheduled=not (scope.is_by_hand or scope.dry_run))

    def act() -> Iterable[Kind]:
        with installation.lock():
            return _run_locked(arguments, installation, console, stop, watch)

    kinds = reported(console, lambda: watch.over(act))
    hurry = Stop()
    with ended_by(hurry), hurry.forwarding_to(stop):
        watch.tell(kinds, lambda: hurry.reason is not None)
    return kinds


def _scope(arguments: argparse.Namespace, installation: Installation) -> Scope:
    """Which rows the flags mean."""
    return Scope(
        everything=arguments.all,
        locations=tuple(arguments.location),
        providers=installation.catalog.get(arguments.provider).spellings if arguments.provider is not None else (),
        dry_run=arguments.dry_run,
        max_seconds=arguments.max_seconds,
        takeover=arguments.takeover,
    )


def _run_locked(
    arguments: argparse.Namespace, installation: Installation, console: Console, stop: Stop, watch: RunWatch
) -> Iterable[Kind]:
    from token_refresh.clients.rows import require_rows
    from token_refresh.refresh.run import Refresher
    from token_refresh.terminal.report import report_for, report_object

    for warning in installation.misspelt_settings():
        console.warn(warning)
    scope = _scope(arguments, installation)
    takes_over = scope.takeover and not scope.dry_run
    with (
        open_run_context(installation, takes_over=takes_over) as context,
        watch.following(context),
        report_for(console, only_news=not scope.is_by_hand) as subscriber,
    ):
        require_rows(context.store.store, context.job_factory, scope.locations, arguments.provider)
        refresher = Refresher(context, subscriber, watch)
        with ended_by(stop), stop.forwarding_to(refresher.stop), on_one_core():
            report = refresher.run(scope)
    if console.as_json:
        console.object(report_object(report, installation.settings.store, context.store.store.calls))
    return report.kinds()
