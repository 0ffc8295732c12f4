"""Credentials from a CSV file: one client a line, each judged by itself."""

from __future__ import annotations

import csv
import io
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from providers.index import ProviderIndex
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Outcome, RowFinished
from token_refresh.base.stop import Stop
from token_refresh.base.text import counted, delimiter_of, trimmed
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.journal.file import JournalError
from token_refresh.stores.base import StoreError

CSV_HEADER = ("location_id", "provider", "client_id", "client_secret", "refresh_token")
CSV_OPTIONAL = ("provider_params",)
MAX_CSV_BYTES = 64 * 1024 * 1024

Warn = Callable[[str, str], None]
"""Is given what a person should know, and what to do about it."""


@dataclass(frozen=True)
class Line:
    """One line of the file: a client, or why it is none.

    Attributes:
        begins: its first two cells; where the line is none, they may be anything, a secret too.
    """

    number: int
    entered: NewCredential | None
    problem: str = ""
    begins: tuple[str, str] = field(default=("", ""), repr=False)


def read_text(name: str, warn: Warn) -> str:
    """The file's text; standard input for `-`.

    Raises:
        ActionableError: it cannot be read, is too large or no text, or is a terminal.
    """
    if name == "-" and sys.stdin.isatty():
        raise ActionableError(
            "standard input is a terminal, which would show the secrets",
            "Pipe a file in, or leave --from-csv away to be asked.",
            Kind.USAGE,
        )
    try:
        data = sys.stdin.buffer.read(MAX_CSV_BYTES + 1) if name == "-" else _content(Path(name), warn)
        if len(data) > MAX_CSV_BYTES:
            raise ActionableError(f"{name} is larger than {MAX_CSV_BYTES >> 20} MiB", "Split it.", Kind.USAGE)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ActionableError(f"{name} cannot be read ({error.strerror})", "Correct the name.", Kind.USAGE) from None
    except UnicodeDecodeError:
        raise ActionableError(f"{name} is not UTF-8 text", "Save it as CSV in UTF-8.", Kind.USAGE) from None


def _content(path: Path, warn: Warn) -> bytes:
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            warn(f"other users can read {path}, which holds secrets", f"Run: chmod 600 {shlex.quote(str(path))}")
        return file.read(MAX_CSV_BYTES + 1)


def read_lines(text: str, default_provider: str) -> Iterator[Line]:
    """The lines of a file, each judged by itself.

    Raises:
        ActionableError: the header is not the expected one. No cell is quoted: it could be a secret.
    """
    lines = io.StringIO(text, newline="")
    delimiter = delimiter_of(lines.readline())
    lines.seek(0)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
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
    begins = (cells[0].strip(), cells[1].strip() if len(cells) > 1 else "")
    if len(cells) != len(header):
        return Line(number, None, f"has {counted(len(cells), 'cell')}, not {len(header)}", begins)
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    values["location_id"] = trimmed(values["location_id"])
    missing = [name for name in ("location_id", "refresh_token") if not values[name]]
    if missing:
        return Line(number, None, f"has no {' and no '.join(missing)}", begins)
    values["provider"] = values["provider"] or default_provider
    location, provider, client_id, secret, token = (values[name] for name in CSV_HEADER)
    params = values.get("provider_params", "")
    return Line(number, NewCredential(location, provider, client_id, secret, token, params))


def admit_lines(
    admission: Admission,
    lines: Sequence[Line],
    terms: Terms,
    providers: ProviderIndex,
    stop: Stop,
    done: Callable[[int, RowFinished], None],
) -> tuple[list[RowFinished], ActionableError | None]:
    """Save one line after the other, until a signal, or until nothing more can be saved; and why, then.

    Those that were not tried have no result. `done` gets the number and the result of each.
    """
    results: list[RowFinished] = []
    for line in lines:
        if stop.reason is not None or admission.is_futile:
            break
        try:
            results.append(admit_line(admission, line, terms, providers))
        except (StoreError, JournalError) as error:
            return results, error
        done(line.number, results[-1])
    return results, None


def admit_line(admission: Admission, line: Line, terms: Terms, providers: ProviderIndex) -> RowFinished:
    """Save one line; whatever is wrong with it is its own result, never the end of the others.

    Where it may be wrong which cell is which, none of them is repeated: it could be a secret.

    Raises:
        StoreError, JournalError: the others cannot be saved, either.
    """
    entered = line.entered
    if entered is None:
        location, provider = line.begins  # with a provider in its place the cell before it is the location
        slug = providers.slug_of(provider) if provider else None
        known = (location, slug) if slug is not None else ("", "")
        return RowFinished(*known, Outcome.OPERATOR, line.problem, "Correct the line.")
    if providers.slug_of(entered.provider) is None:
        action = f"Known: {', '.join(sorted(providers.summaries))}."
        return RowFinished("", "", Outcome.OPERATOR, "names a provider that is not known", action)
    try:
        if entered.client_id and providers.get(entered.provider).login.is_strange(entered.client_id):
            what = "its client id is not of the form that this provider's have; it was not sent"
            return RowFinished(entered.location_id, entered.provider, Outcome.OPERATOR, what, "Copy it again.")
        return admission.admit(entered, terms)
    except (StoreError, JournalError):
        raise
    except ActionableError as error:
        return RowFinished(entered.location_id, entered.provider, Outcome.OPERATOR, str(error), error.action)
