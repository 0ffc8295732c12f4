"""Adding or replacing clients: asked for at a terminal, or line by line from a CSV file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from token_refresh.base.clock import Clock, SystemClock
from token_refresh.base.errors import Kind
from token_refresh.base.events import RowFinished
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.base.stop import Stop
from token_refresh.clients.admission import Admission, Terms, is_saved
from token_refresh.clients.csv_file import CSV_HEADER, admit_line, read_lines, read_text
from token_refresh.clients.questions import ask_for_credential
from token_refresh.clients.row import find_row
from token_refresh.commands import patient_lock, prepare, started
from token_refresh.journal.file import JournalError
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.stores.base import Row, StoreError
from token_refresh.terminal.console import Console
from token_refresh.terminal.flags import Parser, add_allow_host, add_json
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Terminal
from token_refresh.terminal.report import LineReport, result_object
from token_refresh.wiring import Installation, make_job_factory, make_seals, open_run_context, open_store

_FINISHING = "; the request that is under way is brought to its end"


def main(argv: Sequence[str], environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> int:
    """Run `onboard_client.py` with these words and return the exit code. Arguments: see `commands.main`."""

    def act(given: Mapping[str, str], console: Console) -> Iterable[Kind]:
        return run(_parsed(argv), given, clock or SystemClock(), console)

    return started(argv, environ, act)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of `onboard_client.py`. Secrets are never among them."""
    parser = Parser(prog=ONBOARD_CLIENT, description="Add a client, or replace its credential.")
    file_help = f"one client a line, - for standard input; header: {','.join(CSV_HEADER)}"
    parser.add_argument("--from-csv", metavar="FILE", help=file_help)
    parser.add_argument("--replace", action="store_true", help="replace existing credentials without asking")
    parser.add_argument("--no-check", action="store_true", help="save without proving by a refresh")
    add_allow_host(parser, "a line")
    add_json(parser)
    return parser.parse(argv)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """Save one client or many; exit 1 where one was not saved."""
    installation = prepare(environ, clock, console)
    terms = Terms(replace=arguments.replace, hosts=arguments.allow_host, check=not arguments.no_check)
    if arguments.from_csv is not None:
        return _from_csv(arguments.from_csv, replace(terms, skip_done=True), installation, console)
    return _from_terminal(terms, installation, console)


def _from_terminal(terms: Terms, installation: Installation, console: Console) -> Iterable[Kind]:
    """Everything is asked first; the lock is taken and the table touched only then."""

    def find(location_id: str, provider: str) -> Row | None:
        with closing(open_store(installation)) as store:
            return find_row(store, job_factory, location_id, provider)

    job_factory = make_job_factory(installation, make_seals(installation))
    with Terminal() as ask:
        entered, terms = ask_for_credential(ask, job_factory, installation.default_provider, terms, find)
    with _admission(installation, console, Stop()) as admission:
        result = admission.admit(entered, terms)
    if console.as_json:
        console.object({"store": installation.settings.store, "results": [result_object(result)]})
    if is_saved(result):
        until = f"; its access token lives until {result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else ""
        console.info(f"{result.location_id} is saved{until}")
    else:
        console.error(f"{result.location_id} was not saved: {result.error}", result.action or "")
    return admission.failure_kinds([result])


def _from_csv(name: str, terms: Terms, installation: Installation, console: Console) -> Iterable[Kind]:
    lines = list(read_lines(read_text(name, console.warn), installation.default_provider))
    results: list[RowFinished] = []
    stop, failure = Stop(), None
    with _admission(installation, console, stop) as admission:
        for line in lines:
            if stop.reason is not None or admission.is_futile:
                break
            try:
                results.append(admit_line(admission, line, terms, installation.catalog))
            except (StoreError, JournalError) as error:
                failure = error
                break
            _show_line(console, line.number, results[-1])
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


def _show_line(console: Console, number: int, result: RowFinished) -> None:
    whose = f" ({result.location_id}, {result.provider})" if result.location_id else ""
    if is_saved(result):
        console.info(f"line {number}: {result.error or 'saved'}{whose}")
        return
    console.warn(
        f"line {number}: not saved ({result.outcome}): {result.error}", f"{result.action or ''}{whose}".strip()
    )
