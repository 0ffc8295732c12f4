"""Adding or replacing clients: asked for at a terminal, by a login, or line by line from a CSV file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import Kind
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.stop import Stop
from token_refresh.clients.admission import Admission, Terms, warn_of_foreign_key
from token_refresh.clients.csv_file import CSV_HEADER, admit_lines, read_lines, read_text
from token_refresh.clients.row import find_row
from token_refresh.commands import onboarding_context, prepare, started, store_login
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import Parser, add_completion, onboarding_flags, onboarding_parser
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal
from token_refresh.terminal.questions import ask_for_credential, ask_whose, offer_login
from token_refresh.terminal.report import LineReport, show_file, show_line, show_onboarded
from token_refresh.wiring import (
    Installation,
    make_job_factory,
    make_seals,
    open_run_context,
    open_store,
    record_rows,
)


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> int:
    """Run `onboard_client.py` with these words and return the exit code. Arguments: see `commands.main`."""

    def act(given: Mapping[str, str], console: Console) -> Iterable[Kind]:
        console.verb = "onboard"
        return run(onboarding_flags(parser_as(ONBOARD_CLIENT), argv), given, clock or SystemClock(), console)

    return started(argv, environ, act)


def parser_as(prog: str = "token-refresh-onboard") -> Parser:
    """What reads the flags; `prog` is what a person types."""
    parser = onboarding_parser(CSV_HEADER, prog)
    add_completion(parser, parser_as)
    return parser


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Save one client or many; exit 1 where one was not saved."""
    if arguments.locations:
        from token_refresh.commands import locations

        return locations.run(arguments, environ, clock, console)
    installation = prepare(environ, clock, console)
    terms = Terms(replace=arguments.replace, hosts=arguments.allow_host, check=not arguments.no_check)
    if arguments.from_csv is not None:
        return _from_csv(arguments.from_csv, replace(terms, skip_done=True), installation, console)
    has_display = sys.platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    arguments.no_browser = arguments.no_browser or not has_display
    return _from_terminal(arguments, terms, installation, console)


def _from_terminal(
    arguments: argparse.Namespace, terms: Terms, installation: Installation, console: Console
) -> Iterable[Kind]:
    """Everything is asked first; the lock is taken and the table touched only then."""
    job_factory, default = make_job_factory(installation, make_seals(installation)), installation.default_provider
    with Terminal() as ask:
        if not arguments.authorize:
            location_id, provider = ask_whose(ask, job_factory, default)
            arguments.location, arguments.provider = [location_id], provider.slug
        if arguments.authorize or offer_login(ask, provider):
            from token_refresh.terminal.login import log_in

            with open_run_context(installation, is_bystander=True) as context:
                result = store_login(context, log_in(context, ask, arguments, terms), installation, console)
            record_rows(installation, [result])
            return show_onboarded(console, installation.settings.store, result)
        with closing(open_store(installation)) as store:
            find = partial(find_row, store, job_factory)
            entered, terms = ask_for_credential(ask, job_factory, provider, location_id, terms, find)
    with _admission(installation, console, Stop()) as admission:
        result = admission.admit(entered, terms)
    record_rows(installation, [result])
    return {*show_onboarded(console, installation.settings.store, result), *admission.failure_kinds([result])}


def _from_csv(name: str, terms: Terms, installation: Installation, console: Console) -> Iterable[Kind]:
    lines, stop = list(read_lines(read_text(name, console.warn), installation.default_provider)), Stop()
    with _admission(installation, console, stop) as admission:
        results, failure = admit_lines(admission, lines, terms, installation.catalog, stop, partial(show_line, console))
    record_rows(installation, [result for result in results if result.location_id])
    show_file(console, installation.settings.store, [line.number for line in lines], results)
    if failure is not None:
        raise failure
    if stop.reason is not None and len(results) < len(lines):
        return (Kind.STOPPED,)
    return admission.failure_kinds(results)


@contextmanager
def _admission(installation: Installation, console: Console, stop: Stop) -> Iterator[Admission]:
    """What saves credentials, under the lock; what an earlier run left in the journal is stored first.

    A signal becomes `stop`: the request that is under way is finished first.
    """
    with onboarding_context(installation, console) as context:
        store_leftovers(context, LineReport(console))
        warn_of_foreign_key(context, console.warn)
        with (
            ended_by(stop),
            stop.forwarding_to(lambda reason: console.warn(f"{reason}; its open request is brought to its end")),
        ):
            yield Admission(context)
