"""How a run looks: a progress bar and a table on a terminal, plain lines under cron, one object as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, cast

from token_refresh.base.clock import iso, span
from token_refresh.base.errors import Kind
from token_refresh.base.events import (
    FAILURES,
    Event,
    Notice,
    Outcome,
    RowFinished,
    RowsListed,
    RowWaiting,
    RunFinished,
    RunStarted,
)
from token_refresh.base.text import counted, one_line
from token_refresh.terminal.console import Console, to_stderr, to_stdout

if TYPE_CHECKING:  # on a terminal only
    from rich.progress import Progress

_IDS = ("row", "location")
_SHOWN_NAMES = 10
_SUMMARY = {
    Outcome.REFRESHED: ("refreshed", "refreshed"),
    Outcome.CHANGED: ("changed meanwhile", "changed meanwhile"),
    Outcome.TRANSIENT: ("to be tried again", "to be tried again"),
    Outcome.UNKNOWN: ("without a usable answer", "without a usable answer"),
    Outcome.REAUTHORIZE: ("needs a new login", "need a new login"),
    Outcome.OPERATOR: ("needs fixing", "need fixing"),
}


class LineReport:
    """A subscriber that says a run in plain lines on stderr, one a row: what a log file wants.

    Args:
        console: where to say it; as JSON, each line carries its event's fields.
        only_news: name failures that were there before in few lines at the end.
    """

    def __init__(self, console: Console, *, only_news: bool = False) -> None:
        self._console = console
        self._only_news = only_news
        self._old: list[RowFinished] = []
        self._run_id: str | None = None

    def __call__(self, event: Event) -> None:
        """Say it."""
        if isinstance(event, RunStarted):
            self._run_id = event.run_id
        elif isinstance(event, RowsListed):
            self._rows_listed(event.total)
        elif isinstance(event, RowFinished):
            self._row_finished(event)
        elif isinstance(event, Notice):
            self._notice(event)
        elif isinstance(event, RowWaiting):
            pass  # said together at the end
        elif isinstance(event, RunFinished) and event.error is None:  # else whoever called the run says why
            self._run_finished(event)

    def _rows_listed(self, total: int) -> None:
        """Lines need no total."""

    def _row_finished(self, result: RowFinished) -> None:
        if self._only_news and result.outcome in FAILURES and not result.is_news:
            self._old.append(result)
        else:
            self._say_row(result)

    def _say_row(self, result: RowFinished) -> None:
        facts = {name: value for name, value in result_object(result).items() if name != "action"}
        facts["run_id"] = self._run_id
        say = self._console.warn if result.outcome in FAILURES else self._console.info
        say(_row_line(result), result.action or "", **facts)

    def _notice(self, notice: Notice) -> None:
        facts = {"code": notice.code, "location_id": notice.location_id, "provider": notice.provider}
        self._console.warn(str(notice), notice.action, **facts, run_id=self._run_id)

    def _run_finished(self, run: RunFinished) -> None:
        for action in dict.fromkeys(result.action for result in self._old):
            same = [result for result in self._old if result.action == action]
            fail = counted(len(same), "row still fails as it", "rows still fail as they")
            message = f"{fail} did before: {_names(same)}"
            self._console.warn(message, action or "", run_id=self._run_id)
        if not run.dry_run:
            self._say_waiting(run.waiting)
        for error in filter(None, (run.store_error, run.journal_error)):
            self._console.error(str(error), error.action, code=error.kind, run_id=self._run_id)
        self._console.info(summary(run), counts=run.counts(), run_id=self._run_id)

    def _say_waiting(self, rows: Sequence[RowWaiting]) -> None:
        groups: dict[tuple[str, str, bool], list[RowWaiting]] = {}
        for row in rows:
            groups.setdefault((row.reason, row.action, row.is_brief), []).append(row)
        for (reason, action, is_brief), same in groups.items():
            ends = [row.until for row in same if row.until is not None]
            until = f", until {min(ends):%Y-%m-%d %H:%M} UTC" if ends else ""
            what = counted(len(same), "due row was", "due rows were")
            say = self._console.info if is_brief else self._console.warn
            say(f"{what} not tried ({_names(same)}): {reason}{until}", action, code="waiting", run_id=self._run_id)


class TerminalReport(LineReport):
    """The same with a progress bar on stderr, and a table of what failed at the end."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._progress = _progress("refreshing")
        self._task = self._progress.add_task("rows", total=None)
        self._failed: list[RowFinished] = []

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _rows_listed(self, total: int) -> None:
        self._progress.update(self._task, total=total)
        if total:
            self._progress.start()

    def _row_finished(self, result: RowFinished) -> None:
        if result.outcome is None:
            self._say_row(result)
        self._progress.advance(self._task)
        if result.outcome in FAILURES:
            self._failed.append(result)

    def _notice(self, notice: Notice) -> None:
        self._progress.stop()
        super()._notice(notice)

    def _run_finished(self, run: RunFinished) -> None:
        self._progress.stop()
        if self._failed:
            lines = [
                (one.location_id, one.provider, one.outcome or "", one.error or "", one.action or "")
                for one in self._failed
            ]
            self._progress.console.print(
                rich_table(("location", "provider", "outcome", "what happened", "what to do"), lines)
            )
        super()._run_finished(run)


def _row_line(result: RowFinished) -> str:
    what = f"{result.location_id} {result.provider}: {result.outcome or 'would be refreshed'}"
    if result.error:
        return f"{what}, {result.error}"
    if result.expires_at is not None and result.outcome is Outcome.REFRESHED:
        again = "; it had failed before" if result.is_news else ""
        return f"{what}, until {result.expires_at:%Y-%m-%d %H:%M} UTC{again}"
    return what


def _names(results: Sequence[RowFinished | RowWaiting]) -> str:
    return _listed([f"{result.location_id} {result.provider}" for result in results])


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {counted(rest, 'other')}" if rest > 0 else "")


class _Stderr:
    """Stderr for the drawing library: a terminal that is closed meanwhile must not end a run half-way."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        to_stderr(text, self._stream)
        return len(text)

    def flush(self) -> None:
        to_stderr("", self._stream)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def report_for(console: Console, *, only_news: bool = False) -> Iterator[LineReport]:
    """The report that fits where stderr goes; on a terminal all failures are shown."""
    if not sys.stderr.isatty() or console.is_for_machines:
        yield LineReport(console, only_news=only_news)
        return
    with closing(TerminalReport(console)) as report:
        yield report


@contextmanager
def progress_bar(console: Console, words: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields what moves it on."""
    if not total or not sys.stderr.isatty() or console.is_for_machines:
        yield lambda _: None
        return
    with _progress(words) as progress:
        task = progress.add_task("rows", total=total)
        yield lambda count: progress.advance(task, count)


def _progress(words: str) -> Progress:
    """A bar on stderr, not drawn yet."""
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = RichConsole(file=cast(IO[str], _Stderr()), highlight=False)
    return Progress(TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=screen)


def summary(run: RunFinished) -> str:
    """A run in one line: `9 refreshed, 2 need fixing`."""
    if run.dry_run:
        return f"{run.due} due; nothing was called or written (dry run)" if run.due else "nothing due"
    counts = run.counts()
    parts = [counted(counts[outcome], *words) for outcome, words in _SUMMARY.items() if outcome in counts]
    if run.waiting:
        parts.append(f"{len(run.waiting)} not tried")
    return ", ".join(parts) or ("nothing was tried" if run.due else "nothing due")


def report_object(run: RunFinished, store: str, store_calls: int) -> dict[str, Any]:
    """A run as `refresh --json` prints it."""
    return {
        "run_id": run.run_id,
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at or run.started_at),
        "dry_run": run.dry_run,
        "store": store,
        "store_calls": store_calls,
        "counts": run.counts(),
        "results": [result_object(result) for result in run.results],
        "waiting": [_waiting_object(row) for row in run.waiting],
    }


def _waiting_object(row: RowWaiting) -> dict[str, Any]:
    return {
        "location_id": row.location_id,
        "provider": row.provider,
        "reason": row.reason,
        "until": iso(row.until) if row.until else None,
    }


def result_object(result: RowFinished) -> dict[str, Any]:
    """One row of the report; `error` and `action` are null on success."""
    return {
        "location_id": result.location_id,
        "provider": result.provider,
        "outcome": result.outcome,
        "error": result.error,
        "action": result.action,
        "expires_at": iso(result.expires_at) if result.expires_at else None,
    }


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A plain table for a pipe or a log."""
    cells = [[one_line(str(cell)) for cell in line] for line in (head, *lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def rich_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Any:
    """The same for a terminal."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for name in head:  # an id is copied, so it stays whole; other words are folded, and never cut off
        drawn.add_column(name, no_wrap=name in _IDS, overflow="fold")
    for line in lines:
        drawn.add_row(*(Text(one_line(str(cell))) for cell in line))
    return drawn


def show_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table on stdout, drawn on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        to_stdout(table(head, lines) + "\n")
        return
    from rich.console import Console as RichConsole

    RichConsole(highlight=False).print(rich_table(head, lines))


def show_table_with_notes(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """The same for lines that begin with two words of whose they are and end with what to do.

    On a terminal that stands below the table, each text once: a command in it can be copied whole from there.
    """
    if not sys.stdout.isatty():
        show_table(head, lines)
        return
    show_table(head[:-1], [line[:-1] for line in lines])
    notes: dict[str, list[str]] = {}
    for one, other, *_, note in lines:
        notes.setdefault(note, []).append(f"{one} {other}")
    for note, whose in notes.items():
        if note:
            to_stdout(one_line(f"{_listed(whose)}: {note}") + "\n")


def until(moment: datetime | None, now: datetime) -> str:
    """How long from now, for people: `3 h 20 min`, `expired 5 min ago`, `unknown`."""
    if moment is None:
        return "unknown"
    left = moment - now
    return span(left) if left > timedelta(0) else f"expired {span(-left)} ago"


def show_onboarded(console: Console, store: str, result: RowFinished) -> Iterable[Kind]:
    """Say what became of a credential that was entered or logged in; the kinds of its failure."""
    if console.as_json:
        console.object({"store": store, "results": [result_object(result)]})
    if result.is_saved:
        ends = f"; its access token lives until {result.expires_at:%Y-%m-%d %H:%M} UTC" if result.expires_at else ""
        console.info(f"{result.location_id} is saved{ends}")
        _warn_of_owner(console, result)
        return ()
    console.error(f"{result.location_id} was not saved: {result.error}", result.action or "")
    return (result.kind or Kind.ROW,)


def _warn_of_owner(console: Console, result: RowFinished) -> None:
    """A token that was entered for another location refreshes well, and who reads the row acts for somebody else."""
    if result.owner:
        console.warn(
            f"{result.location_id} has the tokens of {result.owner}, as its provider says",
            "If the two were mixed up, delete this row, and connect both accounts again.",
        )


def show_line(console: Console, number: int, result: RowFinished) -> None:
    """Say what became of one line of a file."""
    whose = f" ({result.location_id}, {result.provider})" if result.location_id else ""
    if result.is_saved:
        console.info(f"line {number}: {result.error or 'saved'}{whose}")
        _warn_of_owner(console, result)
        return
    problem = f"line {number}: not saved ({result.outcome}): {result.error}"
    console.warn(problem, f"{result.action or ''}{whose}".strip())


def show_file(console: Console, store: str, numbers: Sequence[int], results: Sequence[RowFinished]) -> None:
    """Say what became of a file; the lines that were not tried, at its end, have no result."""
    if console.as_json:
        objects = [{"line": number, **result_object(one)} for number, one in zip(numbers, results, strict=False)]
        console.object({"store": store, "results": objects})
    if len(results) < len(numbers):
        left = counted(len(numbers) - len(results), "line was", "lines were")
        console.warn(f"{left} not tried", "Run it again: what is saved is skipped.")
    console.info(f"lines in the table: {sum(one.is_saved for one in results)} of {len(numbers)}")
