"""Adding or replacing clients: asked for at a terminal, or line by line from a CSV file."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.journal.file import JournalError
from token_refresh.refresh.jobs import read_params
from token_refresh.refresh.leftovers import store_leftovers
from token_refresh.refresh.result import FAILURES, Outcome, RowResult, not_saved_notices
from token_refresh.stores.base import StoreError, StoreUnavailableError
from token_refresh.terminal.console import Talk
from token_refresh.terminal.flags import Parser
from token_refresh.terminal.process import ended_by
from token_refresh.terminal.prompts import Asker, Terminal
from token_refresh.terminal.report import result_object
from token_refresh.wiring import Context, open_parts, prepare

if TYPE_CHECKING:
    from providers.base import Endpoint, Provider
    from token_refresh.clients.admission import Enroller, Enrolment
    from token_refresh.stores.base import Row

CSV_HEADER = ("location_id", "provider", "client_id", "client_secret", "refresh_token")
CSV_OPTIONAL = ("provider_params",)
MAX_CSV_BYTES = 64 * 1024 * 1024


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of `onboard_client.py`. Secrets are never among them."""
    parser = Parser(prog="onboard_client.py", description="Add a client, or replace its credential.")
    parser.add_argument(
        "--from-csv", metavar="FILE", help=f"one client a line, - for standard input; header: {','.join(CSV_HEADER)}"
    )
    parser.add_argument("--replace", action="store_true", help="replace existing credentials without asking")
    parser.add_argument("--no-check", action="store_true", help="save without proving by a refresh")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="a token host (host:port where the port is not 443) that a line may name itself",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse(argv)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """Save one client or many; exit 1 where one was not saved."""
    context = prepare(environ, clock, talk)
    if arguments.from_csv is not None:
        return _from_csv(arguments, context, talk)
    return _from_terminal(arguments, context, talk)


@contextmanager
def _enroller(context: Context, talk: Talk) -> Iterator[Enroller]:
    """What saves credentials, under the lock; what an earlier run left in the journal is stored first."""
    from token_refresh.clients.admission import Enroller

    with context.patient_lock(talk), open_parts(context) as parts:
        store_leftovers(parts, talk)
        enroller = Enroller(parts)
        try:
            yield enroller
        finally:
            for sentence in not_saved_notices(enroller.not_saved):
                talk.warn(sentence)


class _Stop:
    """Whether somebody wants the end; a request that is under way is finished first, for its answer is a token."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.is_wanted = False

    def __call__(self, reason: str) -> None:
        if not self.is_wanted:
            self._talk.warn(f"{reason}; the request that is under way is brought to its end")
        self.is_wanted = True


# At a terminal


def _from_terminal(arguments: argparse.Namespace, context: Context, talk: Talk) -> Iterable[Kind]:
    """Everything is asked first; the lock is taken and the table touched only then."""
    with Terminal() as ask:
        enrolment, may_replace = _ask_for(arguments, context, ask)
    with _enroller(context, talk) as enroller:
        row = enroller.existing(enrolment.location_id, enrolment.provider)
        if row is not None and row.encrypted_refresh and not may_replace:
            raise ActionableError(
                "the row got a credential while you were typing", "Start again to replace it.", Kind.ROW
            )
        with ended_by(_Stop(talk)):
            result = enroller.save(enrolment, row, check=not arguments.no_check)
    if talk.as_json:
        talk.object({"store": context.settings.store, "results": [result_object(result)]})
    if _is_saved(result):
        until = f"; its access token lives until {result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else ""
        talk.info(f"{result.location_id} is saved{until}")
    else:
        talk.error(f"{result.location_id} was not saved: {result.error}", result.action or "")
    return _kinds(enroller, [result])


def _ask_for(arguments: argparse.Namespace, context: Context, ask: Asker) -> tuple[Enrolment, bool]:
    """The credential, and whether it may take the place of another."""
    from token_refresh.clients.admission import Enrolment, endpoint_of

    location_id = _required(ask.text("Location id"), "location id")
    name = ask.text("Provider", context.settings.default_provider)
    provider = context.catalog.get(name)
    row = _look_up(context, location_id, name)
    may_replace = _may_replace(arguments, ask, row)
    params = _ask_params(provider, ask, row.provider_params if row else "")
    draft = Enrolment(location_id, name, "", "", "", params)
    endpoint = endpoint_of(provider, draft)
    _confirm_host(arguments, endpoint, ask)
    default = context.settings.provider(name)
    known = (row.client_id if row else "") or (default.client_id or "" if endpoint.is_fixed else "")
    # A host that the row names may have an app of its own: the settings' is only proposed there.
    client_id = known or _required(ask.text("Client id", default.client_id or ""), "client id")
    has_secret = endpoint.is_fixed and default.client_secret is not None and client_id == default.client_id
    secret = ask.secret("Client secret" + (" (empty: the one from the settings)" if has_secret else ""))
    token = _required(ask.secret("Refresh token"), "refresh token")
    return replace(draft, client_id=client_id, client_secret=secret, refresh_token=token), may_replace


def _ask_params(provider: Provider, ask: Asker, known: str) -> str:
    """The row's `provider_params`, with what the provider needs beyond them and has no default for."""
    params = read_params(known)
    needed = [name for name, default in provider.placeholders.items() if default is None and not params.get(name)]
    if not needed:
        return known
    params |= {name: _required(ask.text(name.capitalize()), name) for name in needed}
    return json.dumps(params)


def _look_up(context: Context, location_id: str, provider: str) -> Row | None:
    from token_refresh.clients.admission import Enroller

    with open_parts(context) as parts:
        return Enroller(parts).existing(location_id, provider)


def _may_replace(arguments: argparse.Namespace, ask: Asker, row: Row | None) -> bool:
    if arguments.replace:
        return True
    if row is None or not row.encrypted_refresh:
        return False  # one that it gets while the person types is somebody else's
    if ask.yes(f"{row.location_id} already has a credential. Replace it?"):
        return True
    raise ActionableError("nothing was changed", "", Kind.ROW)


def _confirm_host(arguments: argparse.Namespace, endpoint: Endpoint, ask: Asker) -> None:
    if endpoint.is_fixed or _is_allowed(endpoint, arguments.allow_host):
        return
    if not ask.yes(f"The client secret and the refresh token will be sent to {endpoint.origin}. Is that right?"):
        raise ActionableError("nothing was sent or changed", "Correct the host, then start again.", Kind.ROW)


def _required(answer: str, name: str) -> str:
    if not answer:
        raise ActionableError(f"the {name} is empty; nothing was changed", "Start again.", Kind.USAGE)
    return answer


def _is_allowed(endpoint: Endpoint, hosts: Sequence[str]) -> bool:
    """`host` stands for its default port alone; another one is listed as `host:port`."""
    return endpoint.origin.partition("://")[2] in {host.strip().lower() for host in hosts}


# From a file


@dataclass(frozen=True)
class Line:
    """One line of the file: a client, or why it is none."""

    number: int
    enrolment: Enrolment | None
    problem: str = ""


def _from_csv(arguments: argparse.Namespace, context: Context, talk: Talk) -> Iterable[Kind]:
    lines = list(read_csv(_text_of(arguments.from_csv, talk), context.settings.default_provider))
    results: list[RowResult] = []
    stop = _Stop(talk)
    error: Exception | None = None
    with _enroller(context, talk) as enroller, ended_by(stop):
        for line in lines:
            if stop.is_wanted or isinstance(enroller.store_error, StoreUnavailableError):
                break
            try:
                result = _save_line(arguments, context, enroller, line)
            except (StoreError, JournalError) as failure:
                error = failure
                break
            _tell_line(talk, line.number, result)
            results.append(result)
    if talk.as_json:
        numbered = zip(lines, results, strict=False)  # those that were not tried have no result
        objects = [{"line": line.number, **result_object(result)} for line, result in numbered]
        talk.object({"store": context.settings.store, "results": objects})
    _tell_count(talk, results, len(lines))
    if error is not None:
        raise error
    if stop.is_wanted and len(results) < len(lines):
        return (Kind.STOPPED,)
    return _kinds(enroller, results)


def _text_of(name: str, talk: Talk) -> str:
    """The file's text; standard input for `-`."""
    if name == "-" and sys.stdin.isatty():
        raise ActionableError(
            "standard input is a terminal, which would show the secrets",
            "Pipe a file in, or leave --from-csv away to be asked.",
            Kind.USAGE,
        )
    try:
        data = sys.stdin.buffer.read(MAX_CSV_BYTES + 1) if name == "-" else _content(Path(name), talk)
        if len(data) > MAX_CSV_BYTES:
            raise ActionableError(f"{name} is larger than {MAX_CSV_BYTES >> 20} MiB", "Split it.", Kind.USAGE)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ActionableError(f"{name} cannot be read ({error.strerror})", "Correct the name.", Kind.USAGE) from None
    except UnicodeDecodeError:
        raise ActionableError(f"{name} is not UTF-8 text", "Save it as CSV in UTF-8.", Kind.USAGE) from None


def _content(path: Path, talk: Talk) -> bytes:
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            talk.warn(f"other users can read {path}, which holds secrets", f"Run: chmod 600 {shlex.quote(str(path))}")
        return file.read(MAX_CSV_BYTES + 1)


def read_csv(text: str, default_provider: str) -> Iterator[Line]:
    """The lines of a file, each judged by itself.

    Raises:
        ActionableError: the header is not the expected one. No cell is quoted: it could be a secret.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if tuple(header) not in (CSV_HEADER, CSV_HEADER + CSV_OPTIONAL):
            raise ActionableError(
                "the first line is not the expected header",
                f"Write: {','.join(CSV_HEADER)}[,provider_params]",
                Kind.USAGE,
            )
        number = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _line(number, header, cells, default_provider)
            number = reader.line_num + 1
    except csv.Error:
        problem = "cannot be read as CSV (a quote that is not closed?), and so what follows it was not read"
        yield Line(number, None, problem)


def _line(number: int, header: Sequence[str], cells: Sequence[str], default_provider: str) -> Line:
    from token_refresh.clients.admission import Enrolment

    if len(cells) != len(header):
        return Line(number, None, f"has {len(cells)} cells, not {len(header)}")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    missing = [name for name in ("location_id", "refresh_token") if not values[name]]
    if missing:
        return Line(number, None, f"has no {' and no '.join(missing)}")
    values["provider"] = values["provider"] or default_provider
    return Line(number, Enrolment(**values))


def _save_line(arguments: argparse.Namespace, context: Context, enroller: Enroller, line: Line) -> RowResult:
    """Save one line; whatever is wrong with it is its own result, never the end of the others.

    Where it may be wrong which cell is which, none of them is repeated: it could be a secret.
    """
    from token_refresh.clients.admission import EnrolmentError

    enrolment = line.enrolment
    if enrolment is None:
        return RowResult("", "", Outcome.OPERATOR, line.problem, "Correct the line.")
    if enrolment.provider not in {provider.slug for provider in context.catalog}:
        known = ", ".join(sorted(provider.slug for provider in context.catalog))
        return RowResult("", "", Outcome.OPERATOR, "names a provider that is not known", f"Known: {known}.")
    try:
        return _save(arguments, enroller, enrolment)
    except EnrolmentError as error:
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.OPERATOR, str(error), error.action)


def _save(arguments: argparse.Namespace, enroller: Enroller, entered: Enrolment) -> RowResult:
    from token_refresh.clients.admission import EnrolmentError

    row = enroller.existing(entered.location_id, entered.provider)
    enrolment = enroller.completed(entered, row)
    endpoint = enroller.endpoint(enrolment)
    if not endpoint.is_fixed and not _is_allowed(endpoint, arguments.allow_host):
        host = endpoint.origin.partition("://")[2]
        raise EnrolmentError(
            f"its secrets would go to {endpoint.origin}, which nobody has allowed",
            f"If that is right, repeat with --allow-host {host}.",
        )
    if enroller.is_done(enrolment, row):
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.CHANGED, "already done: skipped")
    if row is not None and row.encrypted_refresh and not arguments.replace:
        raise EnrolmentError("the row already has a credential", "Repeat with --replace to replace it.")
    if not enrolment.client_id:
        raise EnrolmentError("client_id is empty", "Write the app's client id into the line.")
    return enroller.save(enrolment, row, check=not arguments.no_check)


# Reporting


def _is_saved(result: RowResult) -> bool:
    """Whether the credential is in the table, now or already; a row that somebody changed meanwhile asks for a look."""
    return result.outcome not in FAILURES and result.action is None


def _tell_line(talk: Talk, number: int, result: RowResult) -> None:
    if _is_saved(result):
        talk.info(f"line {number}: {result.error or 'saved'} ({result.location_id}, {result.provider})")
    else:
        talk.warn(f"line {number}: not saved ({result.outcome}): {result.error}", result.action or "")


def _tell_count(talk: Talk, results: Sequence[RowResult], count: int) -> None:
    if len(results) < count:
        talk.warn(f"{count - len(results)} lines were not tried", "Run it again: what is saved is skipped.")
    talk.info(f"{sum(map(_is_saved, results))} of {count} lines are in the table")


def _kinds(enroller: Enroller, results: Sequence[RowResult]) -> Iterable[Kind]:
    """Of which kinds the failures are."""
    kinds = {result.kind or Kind.ROW for result in results if not _is_saved(result)}
    if isinstance(enroller.store_error, StoreUnavailableError):
        kinds.add(enroller.store_error.kind)
    return kinds
