"""What a monitor reads: the last run, in a file that needs no store to be found, and what it means by now."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from token_refresh.base.clock import iso, parse_time, span
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import one_line
from token_refresh.notifiers.ledger import write_file
from token_refresh.notifiers.summary import Code, RunSummary

INTERVALS = 2  # without a run are too many
_SHOWN_NAMES = 10
_STATUS = f"See: {TOKEN_MANAGER} status"
_CRON = f"Look whether cron starts {TOKEN_MANAGER}, and at its log."


class Finding(NamedTuple):
    """What a monitor reads.

    Attributes:
        state: `ok`, `attention`, `expired`, `late` or `unknown`.
        kind: which gives the exit code; None where all is well.
        message: what is so, without a full stop.
        action: what to do; empty where nothing is to be done.
    """

    state: str
    kind: Kind | None
    message: str
    action: str = ""

    def __str__(self) -> str:
        words = {None: "OK", Kind.ROW: "WARNING", Kind.EXPIRED: "CRITICAL"}.get(self.kind, "UNKNOWN")
        return one_line(f"{words}: {self.message}" + (f". {self.action}" if self.action else ""))


@dataclass(frozen=True)
class LastRun:
    """What the last run left.

    Attributes:
        ended_at: when the last one ended that came by itself; None where none did yet.
        exit_code: what it ended with, and `error` why, where an error ended it.
        interval: seconds between two runs then.
        alarms: who needs somebody and why, as far as shown; `count` of them there are.
        first_end: when the first of their access tokens ends, or ended.
    """

    ended_at: datetime | None
    exit_code: int
    error: str
    interval: float
    alarms: list[str]
    count: int
    first_end: datetime | None


def file_of(state: Path, name: str) -> Path:
    """Where it is kept; `name`: see `Surroundings`."""
    return state / f"last-run-{name}.json"


def keep_last_run(file: Path, summary: RunSummary) -> None:
    """Keep what a run leaves. One that a person started says nothing of whether they come by themselves."""
    kept = _read(file)
    if summary.is_scheduled:
        run = summary.run
        error = run.error or run.store_error or run.journal_error
        kept |= {
            "ended_at": iso(summary.ended_at),
            "exit_code": summary.exit_code,
            "interval": summary.interval,
            "error": str(error) if error is not None else "",
        }
    if summary.folder is not None:
        kept["folder"] = summary.folder.name
    if summary.facts is not None:
        names = dict.fromkeys(f"{row.location_id} ({row.code})" for row in summary.facts.rows)
        rows = [row for row in summary.facts.rows if row.code is not Code.ENDING]
        ends = [row.token_ends for row in rows if row.token_ends is not None]
        kept |= {"alarms": list(names)[:_SHOWN_NAMES], "count": len(names), "first_end": iso(min(ends)) if ends else None}
    write_file(file, json.dumps(kept).encode())


def read_last_run(state: Path, name: str) -> LastRun | None:
    """What the last run left; None where there was none."""
    kept = _read(file_of(state, name))
    try:
        return LastRun(
            parse_time(kept.get("ended_at")),
            int(kept.get("exit_code", 0)),
            str(kept.get("error", "")),
            float(kept.get("interval", 0)),
            [str(one) for one in kept.get("alarms", ())],
            int(kept.get("count", 0)),
            parse_time(kept.get("first_end")),
        )
    except (TypeError, ValueError):
        return None


def folder_of_last_run(state: Path, name: str) -> Path | None:
    """The store's state folder, as the last run found it; None where none did."""
    folder = _read(file_of(state, name)).get("folder")
    return state / folder if isinstance(folder, str) else None


def judge(last: LastRun | None, now: datetime) -> Finding:
    """What it means by now: a token may have expired since, and no other run may have come."""
    if last is None or last.ended_at is None:
        return Finding("unknown", Kind.NOT_CHECKED, "no run has come yet", _CRON)
    ago = now - last.ended_at
    if ago > timedelta(seconds=INTERVALS * last.interval):
        return Finding("late", Kind.EXPIRED, f"the last run ended {span(ago)} ago, more than two intervals", _CRON)
    names = ", ".join(last.alarms) + (", …" if last.count > len(last.alarms) else "")
    if last.first_end is not None and last.first_end <= now:
        return Finding("expired", Kind.EXPIRED, f"access tokens have expired; {last.count} need somebody: {names}", _STATUS)
    if last.count:
        return Finding("attention", Kind.ROW, f"all access tokens are valid, {last.count} need somebody: {names}", _STATUS)
    if last.exit_code:
        why = f" ({last.error})" if last.error else ""
        return Finding("attention", Kind.ROW, f"the last run ended with exit code {last.exit_code}{why}", _STATUS)
    return Finding("ok", None, f"the last run ended {span(ago)} ago, and nobody has to do anything")


def not_checked(error: ActionableError) -> Finding:
    """What is wrong with the set-up, so that nobody knows how the tokens are."""
    return Finding("unknown", Kind.NOT_CHECKED, str(error).rstrip("."), error.action)


def _read(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        kept = json.loads(file.read_bytes())
        if isinstance(kept, dict):
            return kept
    return {}
