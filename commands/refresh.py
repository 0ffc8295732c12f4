"""`refresh`: what cron runs."""

from __future__ import annotations

import argparse
import random
import secrets
from collections.abc import Mapping

from clock import Clock
from commands import exits
from commands.context import Context, open_parts, prepare
from commands.process import ended_by
from commands.talk import Talk
from refresher.outcome import Report
from refresher.parts import Scope
from stores.base import StoreRefusedError


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> int:
    """Refresh what is due, report it, and say by the exit code how it went."""
    context = prepare(environ, clock, talk)
    if arguments.provider is not None:
        context.catalog.get(arguments.provider)
    if arguments.jitter:
        clock.sleep(random.uniform(0, arguments.jitter))
    with context.lock():
        return _run_locked(arguments, context, talk)


def _run_locked(arguments: argparse.Namespace, context: Context, talk: Talk) -> int:
    from commands.report import observer_for, report_object
    from refresher.run import Refresher

    scope = Scope(
        everything=arguments.all,
        locations=tuple(name.strip() for name in arguments.location),
        provider=arguments.provider,
        dry_run=arguments.dry_run,
        max_seconds=arguments.max_seconds,
        takeover=arguments.takeover,
    )
    with open_parts(context) as parts, observer_for(talk) as observer:
        _warn_of_short_lives(context, talk)
        refresher = Refresher(parts, observer)
        with ended_by(refresher.stop):
            report = refresher.run(scope)
        observer.end(report)
    if talk.as_json:
        talk.object(report_object(report, secrets.token_hex(8), context.settings.store, parts.store.store.calls))
    return _exit_code(report)


def _warn_of_short_lives(context: Context, talk: Talk) -> None:
    """A cron job cannot keep a token fresh that dies before the next run."""
    policy_interval = context.settings.refresh_interval
    default = context.catalog.get(context.settings.default_provider)
    if default.default_lifetime <= policy_interval:
        talk.warn(
            f"{default.name} tokens live {default.default_lifetime} s, not longer than REFRESH_INTERVAL",
            "Run cron more often and lower REFRESH_INTERVAL.",
        )


def _exit_code(report: Report) -> int:
    """The first that applies, in the order of `exits`."""
    if isinstance(report.store_error, StoreRefusedError) or report.journal_error is not None:
        return exits.USAGE
    if report.store_error is not None:
        return exits.STORE
    if report.stopped is not None:
        return exits.STOPPED
    return exits.FAILED if report.has_failures else exits.DONE
