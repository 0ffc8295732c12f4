"""`recover`: what the journal holds, and putting into the table what can be put there. No provider is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.refresh.result import RowResult
from token_refresh.terminal.console import Talk
from token_refresh.terminal.report import result_object, show_table, tell
from token_refresh.wiring import Context, open_parts, prepare

if TYPE_CHECKING:
    from token_refresh.journal.entries import Entry
    from token_refresh.refresh.parts import Parts

MAX_CELL_BYTES = 4 * 1024 * 1024
_HEAD = ("entry", "location", "provider", "since", "what it is")
_STEPS = {
    "sent": "a request left and its end is not known",
    "answered": "an answer that the table does not hold yet",
    "lost": "the answer was lost; the token may be spent",
    "superseded": "new tokens, kept aside: somebody changed the row meanwhile, and theirs stayed",
}


@dataclass
class _Done:
    """What was done before the list is shown."""

    results: list[RowResult]
    notes: list[str]


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, talk: Talk) -> Iterable[Kind]:
    """List the entries; with `--replay`, `--cell` or `--forget` do that first."""
    context = prepare(environ, clock, talk)
    sealed = _read_cell(arguments.cell) if arguments.cell is not None else None
    with context.lock(), open_parts(context) as parts:
        done = _Done([], [])
        if arguments.forget is not None:
            _forget(parts, arguments.forget, arguments.yes)
        if sealed is not None:
            _keep(parts, sealed)
        if sealed is not None or arguments.replay:
            _replay(parts, done)
        left = parts.journal.entries(*_STEPS)
    _show(context, done, left, talk)
    return {result.kind for result in done.results if result.kind is not None}


def _read_cell(name: str) -> str:
    """The sealed answer, from a file or from standard input; it is no secret, but too long for an argument."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            text = file.read(MAX_CELL_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ActionableError(
            f"{name} cannot be read ({error.strerror})", "Name the file that holds it.", Kind.USAGE
        ) from None
    words = [word for word in text.split() if word.startswith("sealed:")]
    if len(words) != 1:
        raise ActionableError(
            "there is no sealed answer in it" if not words else "there are several sealed answers in it",
            "Give it the part that begins with sealed: of one line.",
            Kind.USAGE,
        )
    return words[0]


def _keep(parts: Parts, sealed: str) -> None:
    """Put a printed answer where it belongs: its request is in the journal, and only there does it open."""
    from crypto import SealedCellError
    from token_refresh.journal.entries import STEP_LOST, STEP_SENT

    for entry in parts.journal.entries(STEP_SENT, STEP_LOST):
        try:
            parts.journal.open_sealed(entry, sealed)
        except SealedCellError:
            continue
        return parts.journal.keep_sealed(entry.id, sealed)
    raise ActionableError(
        "no request in this journal belongs to that answer, or its key is gone",
        "Set STATE_DIR and ENCRYPTION_KEY as they were when it was printed.",
        Kind.NOT_FOUND,
    )


def _replay(parts: Parts, done: _Done) -> None:
    from token_refresh.refresh.recovery import replay
    from token_refresh.refresh.write_back import Draft, WriteBack

    writeback = WriteBack(parts.store, parts.journal, parts.clock, done.results.append)
    replay(
        parts,
        Draft(parts.store, parts.host_name, parts.journal.failures),
        writeback,
        done.notes.append,
        with_superseded=True,
    )
    error = writeback.error or writeback.journal_error
    if error is not None:
        raise error


def _forget(parts: Parts, entry_id: int, is_agreed: bool) -> None:
    """Delete what nobody needs any more; only of entries that no run will ever use."""
    from token_refresh.journal.entries import STEP_SUPERSEDED

    if all(entry.id != entry_id for entry in parts.journal.entries(STEP_SUPERSEDED)):
        raise ActionableError(
            f"there is no entry {entry_id} that is kept aside",
            "List them with: python token_manager.py recover",
            Kind.USAGE,
        )
    if not is_agreed:
        raise ActionableError(
            f"entry {entry_id} holds tokens that nobody can make again", "Repeat with --yes to delete it.", Kind.USAGE
        )
    parts.journal.finish([entry_id])


def _show(context: Context, done: _Done, left: list[Entry], talk: Talk) -> None:
    if talk.as_json:
        talk.object(
            {
                "store": context.settings.store,
                "results": [result_object(result) for result in done.results],
                "entries": [_object(entry) for entry in left],
            }
        )
    elif left:
        show_table(_HEAD, [_line(entry) for entry in left])
    for note in done.notes:
        talk.warn(note)
    for result in done.results:
        tell(talk, result)
    talk.info(f"{len(left)} entries in the journal" if left else "nothing waits in the journal")


def _line(entry: Entry) -> tuple[str, ...]:
    what = _STEPS[entry.step] + (" (of an onboarding)" if entry.enrolment else "")
    return (str(entry.id), entry.location_id, entry.provider, f"{entry.started_at:%Y-%m-%d %H:%M}", what)


def _object(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.id,
        "location_id": entry.location_id,
        "provider": entry.provider,
        "step": entry.step,
        "is_onboarding": bool(entry.enrolment),
        "started_at": iso(entry.started_at),
        "lost_at": iso(entry.lost_at) if entry.lost_at else None,
    }
