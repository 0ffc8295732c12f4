"""`recover`: what the journal holds, and putting into the table what can be put there.

A provider is called for an onboarding alone that was cut off before its answer came.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from token_refresh.base.clock import Clock, iso
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import Event, RowFinished
from token_refresh.base.text import counted
from token_refresh.clients.waiting import STEPS, end_wait, forget_entry, keep_printed_answer, printed_answer, way_out
from token_refresh.commands import prepare
from token_refresh.journal.entries import Entry, Step
from token_refresh.journal.spare import MAX_BYTES
from token_refresh.refresh.claims import released_at_the_end
from token_refresh.refresh.recovery import store_leftovers
from token_refresh.refresh.run_context import RunContext
from token_refresh.terminal.console import Console
from token_refresh.terminal.report import LineReport, result_object, show_table_with_notes
from token_refresh.wiring import open_run_context

_HEAD = ("entry", "location", "provider", "since", "what it is", "what to do")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--replay", action="store_true", help="store what waits for the table, and refresh nothing")
    parser.add_argument("--cell", metavar="FILE", help="take an encrypted answer that was printed; -: standard input")
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument(
        "--resend", metavar="LOCATION", help="after an answer of unknown form: send the same token once more"
    )
    wait.add_argument("--discard", metavar="LOCATION", help="delete an answer of unknown form; needs --yes")
    parser.add_argument("--provider", metavar="P", help="with --resend or --discard: of which, where there are several")
    parser.add_argument("--forget", type=int, metavar="ENTRY", help="delete an entry that nobody needs any more")
    parser.add_argument("--yes", action="store_true", help="agree to --forget or --discard")


def run(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock, console: Console) -> Iterable[Kind]:
    """List the entries, each with what ends it; with `--replay`, `--cell` or `--forget` do that first."""
    if arguments.provider is not None and arguments.resend is None and arguments.discard is None:
        raise ActionableError("--provider is for --resend and --discard", "Leave it out.", Kind.USAGE)
    installation = prepare(environ, clock, console)
    sealed = printed_answer(_read(arguments.cell)) if arguments.cell is not None else None
    events: list[Event] = []
    with installation.lock(), open_run_context(installation) as context, released_at_the_end(context):
        _end_what_waits(context, arguments)
        if sealed is not None:
            keep_printed_answer(context.journal, sealed)
        if sealed is not None or arguments.replay:
            store_leftovers(context, events.append, with_superseded=True)
        left = [(entry, way_out(context, entry)) for entry in context.journal.entries(*STEPS)]
    results = [event for event in events if isinstance(event, RowFinished)]
    if console.as_json:
        done, entries = [result_object(result) for result in results], [_object(*one) for one in left]
        console.object({"store": installation.settings.store, "results": done, "entries": entries})
    elif left:
        show_table_with_notes(_HEAD, [_line(*one) for one in left])
    for event in events:
        LineReport(console)(event)
    console.info(f"{counted(len(left), 'entry', 'entries')} in the journal" if left else "nothing waits in the journal")
    is_unfinished = (sealed is not None or arguments.replay) and any(one.step is Step.ANSWERED for one, _ in left)
    return {result.kind for result in results if result.kind is not None} | ({Kind.ROW} if is_unfinished else set())


def _end_what_waits(context: RunContext, arguments: argparse.Namespace) -> None:
    if arguments.forget is not None:
        forget_entry(context, arguments.forget, is_agreed=arguments.yes)
    if arguments.resend is not None:
        end_wait(context, arguments.resend, arguments.provider, resend=True)
    if arguments.discard is None:
        return
    if not arguments.yes:
        raise ActionableError(
            f"the kept answer of {arguments.discard!r} may hold tokens that nobody can make again",
            "Repeat with --yes to delete it.",
            Kind.USAGE,
        )
    end_wait(context, arguments.discard, arguments.provider, resend=False)


def _read(name: str) -> str:
    """What was printed, from a file or from standard input; it is no secret, but too long for an argument."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ActionableError(
            f"{name} cannot be read ({error.strerror})", "Name the file that holds it.", Kind.USAGE
        ) from None


def _line(entry: Entry, action: str) -> tuple[str, ...]:
    what = STEPS[entry.step][0] + (" (of an onboarding)" if entry.admission else "")
    return (str(entry.id), entry.location_id, entry.provider, f"{entry.started_at:%Y-%m-%d %H:%M}", what, action)


def _object(entry: Entry, action: str) -> dict[str, Any]:
    return {
        "entry": entry.id,
        "location_id": entry.location_id,
        "provider": entry.provider,
        "step": entry.step,
        "is_onboarding": bool(entry.admission),
        "started_at": iso(entry.started_at),
        "lost_at": iso(entry.lost_at) if entry.lost_at else None,
        "action": action,
    }
