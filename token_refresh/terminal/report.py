"""How a run looks: a progress bar and a table on a terminal, plain lines under cron, one object as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import IO, Any, cast

from token_refresh.base.clock import iso
from token_refresh.base.text import one_line
from token_refresh.refresh.result import FAILURES, Outcome, Report, RowResult
from token_refresh.terminal.console import Talk, to_stderr, to_stdout

_SHOWN_NAMES = 10


class LineObserver:
    """Plain lines on stderr, one a row: what a log file wants."""

    def __init__(self, talk: Talk, *, only_news: bool = False) -> None:
        self._talk = talk
        self._only_news = only_news
        self._old: list[RowResult] = []

    def begin(self, total: int) -> None:
        """See `Observer.begin`."""

    def row(self, result: RowResult) -> None:
        """See `Observer.row`."""
        if self._only_news and result.outcome in FAILURES and not result.is_news:
            self._old.append(result)
        else:
            tell(self._talk, result)

    def note(self, sentence: str) -> None:
        """See `Observer.note`."""
        self._talk.warn(sentence)

    def end(self, report: Report) -> None:
        """The last lines."""
        if self._old:
            names = ", ".join(f"{result.location_id} {result.provider}" for result in self._old[:_SHOWN_NAMES])
            rest = len(self._old) - _SHOWN_NAMES
            others = f" and {rest} others" if rest > 0 else ""
            self._talk.warn(
                f"{len(self._old)} rows still fail as they did before: {names}{others}",
                "What to do was said when it began; see: python token_manager.py status",
            )
        summarise(self._talk, report)


class TerminalObserver(LineObserver):
    """A progress bar on stderr, and a table of what failed at the end."""

    def __init__(self, talk: Talk, *, only_news: bool = False) -> None:
        super().__init__(talk, only_news=only_news)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(file=cast(IO[str], _Stderr()), highlight=False)
        self._progress = Progress(
            TextColumn("refreshing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=self._console
        )
        self._task = self._progress.add_task("rows", total=None)

    def begin(self, total: int) -> None:
        """See `Observer.begin`."""
        self._progress.update(self._task, total=total)
        if total:
            self._progress.start()

    def row(self, result: RowResult) -> None:  # noqa: ARG002 - failures are shown together at the end
        """See `Observer.row`."""
        self._progress.advance(self._task)

    def note(self, sentence: str) -> None:
        """See `Observer.note`."""
        self._progress.stop()
        super().note(sentence)

    def end(self, report: Report) -> None:
        """The table and the last line."""
        self._progress.stop()
        failed = [result for result in report.results if result.outcome in FAILURES]
        if failed:
            lines = [
                (one.location_id, one.provider, one.outcome or "", one.error or "", one.action or "") for one in failed
            ]
            self._console.print(rich_table(("location", "provider", "outcome", "what happened", "what to do"), lines))
        super().end(report)


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
def observer_for(talk: Talk, *, only_news: bool = False) -> Iterator[LineObserver]:
    """The observer that fits where stderr goes. `only_news`: failures that were told before are only counted."""
    if not sys.stderr.isatty() or talk.is_for_machines:
        yield LineObserver(talk, only_news=only_news)
        return
    observer = TerminalObserver(talk)
    try:
        yield observer
    finally:
        observer._progress.stop()


@contextmanager
def progress_bar(talk: Talk, words: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields what moves it on."""
    if not total or not sys.stderr.isatty() or talk.is_for_machines:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=cast(IO[str], _Stderr()), highlight=False)
    with Progress(
        TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task("rows", total=total)
        yield lambda count: progress.advance(task, count)


def tell(talk: Talk, result: RowResult) -> None:
    """One row's end as a line."""
    what = f"{result.location_id} {result.provider}: {result.outcome}"
    if result.outcome in FAILURES:
        talk.warn(f"{what}, {result.error}" if result.error else what, result.action or "")
    elif result.expires_at is not None and result.outcome is Outcome.REFRESHED:
        again = "; it had failed before" if result.is_news else ""
        talk.info(f"{what}, until {result.expires_at:%Y-%m-%d %H:%M} UTC{again}")
    else:
        talk.info(what + (f", {result.error}" if result.error else ""))


def summarise(talk: Talk, report: Report) -> None:
    """The last line of a run."""
    if report.store_error is not None:
        talk.error(str(report.store_error), report.store_error.action)
    if report.journal_error is not None:
        talk.error(str(report.journal_error), report.journal_error.action)
    if report.dry_run:
        for result in report.results:
            talk.info(f"{result.location_id} {result.provider}: would be refreshed")
        talk.info(f"{report.due} due; nothing was called or written (dry run)" if report.due else "nothing due")
    elif not report.results:
        talk.info("nothing due" if not report.due else "nothing was tried")
    else:
        talk.info(", ".join(f"{count} {outcome}" for outcome, count in sorted(report.counts().items())))


def report_object(report: Report, run_id: str, store: str, store_calls: int) -> dict[str, Any]:
    """A run as `refresh --json` prints it."""
    return {
        "run_id": run_id,
        "started_at": iso(report.started_at),
        "finished_at": iso(report.finished_at or report.started_at),
        "dry_run": report.dry_run,
        "store": store,
        "store_calls": store_calls,
        "counts": report.counts(),
        "results": [result_object(result) for result in report.results],
    }


def result_object(result: RowResult) -> dict[str, Any]:
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

    drawn = Table(*head)
    for line in lines:
        drawn.add_row(*(Text(one_line(str(cell))) for cell in line))
    return drawn


def show_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table on stdout, drawn on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        to_stdout(table(head, lines) + "\n")
        return
    from rich.console import Console

    Console(highlight=False).print(rich_table(head, lines))


def until(moment: datetime | None, now: datetime) -> str:
    """How long from now, for people: `3 h 20 min`, `out since 5 min`, `unknown`."""
    if moment is None:
        return "unknown"
    left = moment - now
    return _span(left) if left > timedelta(0) else f"out since {_span(-left)}"


def _span(span: timedelta) -> str:
    minutes = int(span.total_seconds()) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"
