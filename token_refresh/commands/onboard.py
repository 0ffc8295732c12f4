"""Adding or replacing clients: asked for at a terminal, by a login, or line by line from a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import RowFinished
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.stop import Stop
from token_refresh.clients.admission import Admission, Terms, is_saved
from token_refresh.clients.csv_file import CSV_HEADER, Line, admit_lines, read_lines, read_text
from token_refresh.clients.questions import Order, ask_for_credential, ask_whose, offer_login
from token_refresh.clients.row import find_row
from token_refresh.commands import patient_lock, prepare, started
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import Parser, add_allow_host, add_json, refuse_together
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal
from token_refresh.terminal.report import LineReport, result_object
from token_refresh.wiring import (
    Installation,
    make_job_factory,
    make_seals,
    open_run_context,
    open_store,
    resume_admission,
)

_FINISHING = "; the request that is under way is brought to its end"
_CONTRADICTIONS = (
    ("authorize", "from_csv"),
    ("authorize", "no_check"),
    ("device", "redirect_uri"),
    ("device", "no_browser"),
)
_LOGIN_FLAGS = ("provider", "location", "scope", "redirect_uri", "no_browser", "device")


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> int:
    """Run `onboard_client.py` with these words and return the exit code. Arguments: see `commands.main`."""

    def act(given: Mapping[str, str], console: Console) -> Iterable[Kind]:
        return run(_parsed(argv), given, clock or SystemClock(), console)

    return started(argv, environ, act)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of `onboard_client.py`. Secrets are never among them."""
    parser = Parser(prog=ONBOARD_CLIENT, description="Add a client, or replace its credential.")
    parser.add_argument("--authorize", action="store_true", help="by logging in at the provider, without a token")
    parser.add_argument("--provider", default="", metavar="P", help="with --authorize: where")
    parser.add_argument("--location", default="", metavar="ID", help="with --authorize: whose row it is")
    parser.add_argument("--scope", action="append", default=[], metavar="S", help="with --authorize: also ask for this")
    parser.add_argument("--redirect-uri", default="", metavar="URI", help="with --authorize: as the provider has it")
    parser.add_argument("--no-browser", action="store_true", help="with --authorize: only print the address")
    parser.add_argument("--device", action="store_true", help="with --authorize: on another device, by a code")
    file_help = f"one client a line, - for standard input; header: {','.join(CSV_HEADER)}"
    parser.add_argument("--from-csv", metavar="FILE", help=file_help)
    parser.add_argument("--replace", action="store_true", help="replace existing credentials without asking")
    parser.add_argument("--no-check", action="store_true", help="save without proving by a refresh")
    add_allow_host(parser, "a line")
    add_json(parser)
    arguments = parser.parse(argv)
    for pair in _CONTRADICTIONS:
        refuse_together(parser, arguments, *pair)
    if not arguments.authorize and (given := [name for name in _LOGIN_FLAGS if getattr(arguments, name)]):
        parser.error(f"--{given[0].replace('_', '-')} is for --authorize")
    return arguments


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Save one client or many; exit 1 where one was not saved."""
    installation = prepare(environ, clock, console)
    terms = Terms(replace=arguments.replace, hosts=arguments.allow_host, check=not arguments.no_check)
    if arguments.from_csv is not None:
        return _from_csv(arguments.from_csv, replace(terms, skip_done=True), installation, console)
    return _from_terminal(arguments, terms, installation, console)


def _from_terminal(
    arguments: argparse.Namespace, terms: Terms, installation: Installation, console: Console
) -> Iterable[Kind]:
    """Everything is asked first; the lock is taken and the table touched only then."""
    job_factory, default = make_job_factory(installation, make_seals(installation)), installation.default_provider
    with Terminal() as ask:
        order = Order.of(arguments)
        if not arguments.authorize:
            location_id, provider = ask_whose(ask, job_factory, default)
            order = replace(order, location_id=location_id, provider=provider.slug)
        if arguments.authorize or offer_login(ask, provider):
            from token_refresh.clients.login.onboarding import log_in

            with open_run_context(installation, is_bystander=True) as context:
                uid = log_in(context, ask, order, default, terms)
            return _store_login(uid, installation, console)
        with closing(open_store(installation)) as store:
            find = partial(find_row, store, job_factory)
            entered, terms = ask_for_credential(ask, job_factory, provider, location_id, terms, find)
    with _admission(installation, console, Stop()) as admission:
        result = admission.admit(entered, terms)
        return {*_shown(result, installation, console), *admission.failure_kinds([result])}


def _store_login(uid: str, installation: Installation, console: Console) -> Iterable[Kind]:
    with patient_lock(installation, console), open_run_context(installation) as context:
        [entry] = [one for one in context.journal.entries() if one.uid == uid]
        end = resume_admission(context, entry)
        store_leftovers(context, LineReport(console))
    if not isinstance(end, RowFinished):
        raise ActionableError(end.message, end.action, Kind.ROW)
    return _shown(end, installation, console)


def _shown(result: RowFinished, installation: Installation, console: Console) -> Iterable[Kind]:
    if console.as_json:
        console.object({"store": installation.settings.store, "results": [result_object(result)]})
    if is_saved(result):
        until = f"; its access token lives until {result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else ""
        console.info(f"{result.location_id} is saved{until}")
        return ()
    console.error(f"{result.location_id} was not saved: {result.error}", result.action or "")
    return (result.kind or Kind.ROW,)


def _from_csv(name: str, terms: Terms, installation: Installation, console: Console) -> Iterable[Kind]:
    lines, stop = list(read_lines(read_text(name, console.warn), installation.default_provider)), Stop()
    with _admission(installation, console, stop) as admission:
        show = partial(_show_line, console)
        results, failure = admit_lines(admission, lines, terms, installation.catalog, stop, show)
    if console.as_json:
        # Those that were not tried have no result.
        objects = [{"line": line.number, **result_object(one)} for line, one in zip(lines, results, strict=False)]
        console.object({"store": installation.settings.store, "results": objects})
    if len(results) < len(lines):
        console.warn(f"{len(lines) - len(results)} lines were not tried", "Run it again: what is saved is skipped.")
    console.info(f"{sum(map(is_saved, results))} of {len(lines)} lines are in the table")
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
    with patient_lock(installation, console), open_run_context(installation) as context:
        store_leftovers(context, LineReport(console))
        with ended_by(stop), stop.forwarding_to(lambda reason: console.warn(f"{reason}{_FINISHING}")):
            yield Admission(context)


def _show_line(console: Console, line: Line, result: RowFinished) -> None:
    whose = f" ({result.location_id}, {result.provider})" if result.location_id else ""
    if is_saved(result):
        console.info(f"line {line.number}: {result.error or 'saved'}{whose}")
        return
    console.warn(
        f"line {line.number}: not saved ({result.outcome}): {result.error}", f"{result.action or ''}{whose}".strip()
    )
