"""Adding or replacing clients: asked for at a terminal, or line by line from a CSV file."""

from __future__ import annotations

import argparse
import csv
import io
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clock import Clock
from commands import exits
from commands.context import Context, open_parts, prepare
from commands.prompts import Asker, Terminal
from commands.talk import Talk
from refresher.outcome import FAILURES, Outcome, RowResult

if TYPE_CHECKING:
    from providers.base import Endpoint
    from refresher.enrol import Enroller, Enrolment
    from stores.base import Row

LOCK_WAIT_SECONDS = 120.0  # a cron run may be active; whoever has typed everything should not have to again
CSV_HEADER = ("location_id", "provider", "client_id", "client_secret", "refresh_token")
CSV_OPTIONAL = ("provider_params",)
MAX_CSV_BYTES = 64 * 1024 * 1024


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of `onboard_client.py`. Secrets are never among them."""
    parser = argparse.ArgumentParser(
        prog="onboard_client.py", description="Add a client, or replace its credential.", allow_abbrev=False
    )
    parser.add_argument(
        "--from-csv", metavar="FILE", help=f"one client a line, - for standard input; header: {','.join(CSV_HEADER)}"
    )
    parser.add_argument("--replace", action="store_true", help="replace existing credentials without asking")
    parser.add_argument("--no-check", action="store_true", help="save without proving by a refresh")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="a token host that a line may name itself"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> int:
    """Save one client or many; exit 1 where one was not saved."""
    context = prepare(environ, clock, talk)
    if arguments.from_csv is not None:
        return _from_csv(arguments, context, talk)
    return _from_terminal(arguments, context, talk, Terminal())


@contextmanager
def _enroller(context: Context, talk: Talk) -> Iterator[Enroller]:
    from refresher.enrol import Enroller

    lock = context.lock(LOCK_WAIT_SECONDS, lambda: talk.info("another run is active; waiting for it to end"))
    with lock, open_parts(context) as parts:
        yield Enroller(parts)


# At a terminal


def _from_terminal(arguments: argparse.Namespace, context: Context, talk: Talk, ask: Asker) -> int:
    """Everything is asked first; the lock is taken and the table touched only then."""
    enrolment, may_replace = _ask_for(arguments, context, ask)
    with _enroller(context, talk) as enroller:
        row = enroller.existing(enrolment.location_id, enrolment.provider)
        if row is not None and row.encrypted_refresh and not may_replace:
            raise exits.CommandError(
                "the row got a credential while you were typing", "Start again to replace it.", exits.FAILED
            )
        result = enroller.save(enrolment, row, check=not arguments.no_check)
    _report(talk, [result], context)
    return exits.FAILED if result.outcome in FAILURES else exits.DONE


def _ask_for(arguments: argparse.Namespace, context: Context, ask: Asker) -> tuple[Enrolment, bool]:
    from refresher.enrol import Enrolment

    location_id = _required(ask.text("Location id"), "location id")
    provider = ask.text("Provider", context.settings.default_provider)
    params = _ask_params(context, ask, provider)
    row = _look_up(context, location_id, provider)
    may_replace = _may_replace(arguments, ask, row)
    draft = Enrolment(location_id, provider, "", "", "", params or (row.provider_params if row else ""))
    _confirm_host(arguments, context, ask, draft)
    default = context.settings.provider(provider)
    known = (row.client_id if row else "") or default.client_id or ""
    client_id = known or _required(ask.text("Client id"), "client id")
    secret = ask.secret("Client secret" + (" (empty: the one from the settings)" if default.client_secret else ""))
    token = _required(ask.secret("Refresh token"), "refresh token")
    return replace(draft, client_id=client_id, client_secret=secret, refresh_token=token), may_replace


def _ask_params(context: Context, ask: Asker, name: str) -> str:
    """What the provider needs to know of this client and has no default for, as the JSON of `provider_params`."""
    import json

    provider = context.catalog.get(name)
    needed = [placeholder for placeholder, default in provider.placeholders.items() if default is None]
    params = {placeholder: _required(ask.text(placeholder.capitalize()), placeholder) for placeholder in needed}
    return json.dumps(params) if params else ""


def _look_up(context: Context, location_id: str, provider: str) -> Row | None:
    from refresher.enrol import Enroller

    with open_parts(context) as parts:
        return Enroller(parts).existing(location_id, provider)


def _may_replace(arguments: argparse.Namespace, ask: Asker, row: Row | None) -> bool:
    if row is None or not row.encrypted_refresh or arguments.replace:
        return True
    if ask.yes(f"{row.location_id} already has a credential. Replace it?"):
        return True
    raise exits.CommandError("nothing was changed", "", exits.FAILED)


def _confirm_host(arguments: argparse.Namespace, context: Context, ask: Asker, draft: Enrolment) -> None:
    from refresher.enrol import endpoint_of

    endpoint = endpoint_of(context.catalog.get(draft.provider), draft)
    if endpoint.is_fixed or _is_allowed(endpoint, arguments.allow_host):
        return
    if not ask.yes(f"The client secret and the refresh token will be sent to {endpoint.origin}. Is that right?"):
        raise exits.CommandError("nothing was sent or changed", "Correct the host, then start again.", exits.FAILED)


def _required(answer: str, name: str) -> str:
    if not answer:
        raise exits.CommandError(f"the {name} is empty; nothing was changed", "Start again.", exits.USAGE)
    return answer


def _is_allowed(endpoint: Endpoint, hosts: Sequence[str]) -> bool:
    parts = urlsplit(endpoint.origin)
    return bool({parts.netloc, parts.hostname} & {host.strip().lower() for host in hosts})


# From a file


@dataclass(frozen=True)
class Line:
    """One line of the file: a client, or why it is none."""

    number: int
    enrolment: Enrolment | None
    problem: str = ""


def _from_csv(arguments: argparse.Namespace, context: Context, talk: Talk) -> int:
    lines = list(read_csv(_text_of(arguments.from_csv, talk), context.settings.default_provider))
    results: list[RowResult] = []
    with _enroller(context, talk) as enroller:
        for line in lines:
            result = _save_line(arguments, enroller, line)
            _tell_line(talk, line.number, result)
            results.append(result)
    _report(talk, results, context, told=True)
    return exits.FAILED if any(result.outcome in FAILURES for result in results) else exits.DONE


def _text_of(name: str, talk: Talk) -> str:
    """The file's text; standard input for `-`."""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_CSV_BYTES)
        else:
            path = Path(name)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                talk.warn(f"other users can read {path}, which holds secrets", f"Run: chmod 600 {path}")
            data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise exits.CommandError(f"{name} cannot be read ({error.strerror})", "Correct the name.") from None
    except UnicodeDecodeError:
        raise exits.CommandError(f"{name} is not UTF-8 text", "Save it as CSV in UTF-8.") from None


def read_csv(text: str, default_provider: str) -> Iterator[Line]:
    """The lines of a file, each judged by itself.

    Raises:
        CommandError: the header is not the expected one. No cell is quoted: it could be a secret.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if tuple(header) not in (CSV_HEADER, CSV_HEADER + CSV_OPTIONAL):
            raise exits.CommandError(
                "the first line is not the expected header", f"Write: {','.join(CSV_HEADER)}[,provider_params]"
            )
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _line(reader.line_num, header, cells, default_provider)
    except csv.Error:
        yield Line(reader.line_num, None, "is not CSV (a quote is not closed?); the rest of the file was not read")


def _line(number: int, header: Sequence[str], cells: Sequence[str], default_provider: str) -> Line:
    from refresher.enrol import Enrolment

    if len(cells) != len(header):
        return Line(number, None, f"has {len(cells)} cells, not {len(header)}")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    missing = [name for name in ("location_id", "refresh_token") if not values[name]]
    if missing:
        return Line(number, None, f"has no {' and no '.join(missing)}")
    values["provider"] = values["provider"] or default_provider
    return Line(number, Enrolment(**values))


def _save_line(arguments: argparse.Namespace, enroller: Enroller, line: Line) -> RowResult:
    """Save one line; whatever is wrong with it is its own result, never the end of the others."""
    from refresher.enrol import EnrolmentError

    enrolment = line.enrolment
    if enrolment is None:
        return RowResult("", "", Outcome.OPERATOR, f"line {line.number} {line.problem}", "Correct the line.")
    try:
        return _save(arguments, enroller, enrolment)
    except EnrolmentError as error:
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.OPERATOR, str(error), error.action)


def _save(arguments: argparse.Namespace, enroller: Enroller, enrolment: Enrolment) -> RowResult:
    from refresher.enrol import EnrolmentError

    endpoint = enroller.endpoint(enrolment)
    if not endpoint.is_fixed and not _is_allowed(endpoint, arguments.allow_host):
        host = endpoint.origin.partition("://")[2]
        raise EnrolmentError(
            f"its secrets would go to {endpoint.origin}, which nobody has allowed",
            f"If that is right, repeat with --allow-host {host}.",
        )
    row = enroller.existing(enrolment.location_id, enrolment.provider)
    if enroller.is_done(enrolment, row):
        return RowResult(enrolment.location_id, enrolment.provider, Outcome.CHANGED, "already done: skipped")
    if row is not None and row.encrypted_refresh and not arguments.replace:
        raise EnrolmentError("the row already has a credential", "Repeat with --replace to replace it.")
    client_id = enrolment.client_id or (row.client_id if row else "") or enroller.default_client_id(enrolment)
    if not client_id:
        raise EnrolmentError("client_id is empty", "Write the app's client id into the line.")
    return enroller.save(replace(enrolment, client_id=client_id), row, check=not arguments.no_check)


# Reporting


def _tell_line(talk: Talk, number: int, result: RowResult) -> None:
    what = f"line {number}, {result.location_id} {result.provider}"
    if result.outcome in FAILURES:
        talk.warn(f"{what}: not saved ({result.outcome}): {result.error}", result.action or "")
    else:
        talk.info(f"{what}: {result.error or 'saved'}")


def _report(talk: Talk, results: Sequence[RowResult], context: Context, *, told: bool = False) -> None:
    from commands.report import result_object

    if talk.as_json:
        talk.object({"store": context.settings.store, "results": [result_object(result) for result in results]})
    if told:
        saved = sum(result.outcome not in FAILURES for result in results)
        talk.info(f"{saved} of {len(results)} lines are in the table")
        return
    for result in results:
        if result.outcome in FAILURES:
            talk.error(f"{result.location_id} was not saved: {result.error}", result.action or "")
        else:
            until = (
                f"; its access token lives until {result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else ""
            )
            talk.info(f"{result.location_id} is saved{until}")
