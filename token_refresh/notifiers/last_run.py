"""What a monitor reads: the last run, in a file that needs no store to be found, and what it means by now."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from token_refresh.base.clock import iso, parse_time, span
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.base.events import NoticeCode
from token_refresh.base.files import read_object, replace_file
from token_refresh.base.program import TOKEN_MANAGER
from token_refresh.base.text import counted, one_line, sentences
from token_refresh.notifiers.summary import RunSummary

INTERVALS = 2  # without a run are too many
_SHOWN_NAMES = 10
_STATUS = f"See: {TOKEN_MANAGER} status"
_CRON = f"Look whether cron starts {TOKEN_MANAGER}, and at its log."
_EMPTY = "Add a client, or correct DATABASE_URL or STATE_DIR."
_WORDS = {None: "OK", Kind.ROW: "WARNING", Kind.EXPIRED: "CRITICAL", Kind.NOT_CHECKED: "UNKNOWN"}


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

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """None where all is well."""
        return () if self.kind is None else (self.kind,)

    def as_json(self) -> dict[str, str | None]:
        """What `status --check --json` prints."""
        return {"state": self.state, "message": self.message, "action": self.action or None}

    def __str__(self) -> str:
        return one_line(f"{_WORDS.get(self.kind)}: {sentences(self.message, self.action)}")


class LastRun:
    """What the last run left.

    Args:
        state: the state folder.
        name: stands for the table there; see `Surroundings`.
    """

    def __init__(self, state: Path, name: str) -> None:
        self._state, self._file = state, state / f"last-run-{name}.json"
        self._kept = read_object(self._file)

    @property
    def folder(self) -> Path | None:
        """The state folder of the table that the last run found, and that had rows; None where none did."""
        return self._state / str(self._kept["folder"]) if "folder" in self._kept else None

    @property
    def started_at(self) -> datetime | None:
        """When the last one began that came by itself."""
        return parse_time(self._kept.get("started_at"))

    @property
    def ended_at(self) -> datetime | None:
        """When that one ended."""
        return parse_time(self._kept.get("ended_at"))

    @property
    def exit_code(self) -> int:
        """What that one ended with."""
        return int(self._kept.get("exit_code", 0))

    @property
    def success_at(self) -> datetime | None:
        """When the last one ended that could do its work, whatever became of single rows."""
        return parse_time(self._kept.get("success_at"))

    def keep(self, summary: RunSummary) -> None:
        """Replace it. A run that a person started does not show that others come by themselves.

        Raises:
            OSError: the state folder rejects writes.
        """
        run, kept, at = summary.run, self._kept, iso(summary.ended_at)
        if summary.did_its_work:
            kept["success_at"] = at
        if summary.is_scheduled:
            error = run.error or run.store_error or run.journal_error
            kept |= {"started_at": iso(run.started_at), "ended_at": at, "interval": summary.interval}
            kept |= {"exit_code": summary.exit_code, "error": str(error or ""), "action": error.action if error else ""}
            kept["worked_at"] = at if summary.did_its_work else kept.get("worked_at", at)
        kept["is_empty"] = any(notice.code is NoticeCode.TABLE_EMPTY for notice in run.notices)
        if summary.folder is not None and summary.did_its_work and not kept["is_empty"]:
            kept["folder"] = summary.folder.name
        if (facts := summary.facts) is not None:
            names = list(dict.fromkeys(f"{one.location_id} ({one.code})" for one in facts.items if one.location_id))
            first_end = iso(facts.first_end) if facts.first_end else ""
            kept |= {"names": names[:_SHOWN_NAMES], "count": len(names), "first_end": first_end}
        replace_file(self._file, json.dumps(kept).encode())

    def judge(self, now: datetime) -> Finding:
        """What it means by now: a token may have expired since, and no run that could do its work may have come."""
        kept, count, names = self._kept, self._kept.get("count", 0), self._kept.get("names", [])
        ended_at, worked_at = parse_time(kept.get("ended_at")), parse_time(kept.get("worked_at"))
        if ended_at is None or worked_at is None:
            return Finding("unknown", Kind.NOT_CHECKED, "no run has come yet", _CRON)
        limit = timedelta(seconds=INTERVALS * kept.get("interval", 0))
        last = f"the last run ended {span(now - ended_at)} ago"
        if now - ended_at > limit:
            return Finding("late", Kind.EXPIRED, f"{last}, more than two intervals", _CRON)
        code, error = kept.get("exit_code"), kept.get("error")
        ill = f"{last} with exit code {code}" + (f" ({error})" if error else ""), kept.get("action") or _STATUS
        if now - worked_at > limit:
            return Finding("late", Kind.EXPIRED, *ill)
        need = counted(count, "client needs", "clients need")
        who = f"{need} somebody: {', '.join(names)}" + (", …" if count > len(names) else "")
        first_end = parse_time(kept.get("first_end"))
        if first_end is not None and first_end <= now:
            return Finding("expired", Kind.EXPIRED, f"access tokens have expired; {who}", _STATUS)
        if count:
            return Finding("attention", Kind.ROW, f"all access tokens are valid; {who}", _STATUS)
        if code:
            return Finding("attention", Kind.ROW, *ill)
        if kept.get("is_empty"):
            return Finding("attention", Kind.ROW, f"{last}, and the table has no rows", _EMPTY)
        return Finding("ok", None, f"{last}, nobody has to do anything")


def not_checked(error: ActionableError) -> Finding:
    """What is wrong with the set-up, so that nobody knows how the tokens are."""
    return Finding("unknown", Kind.NOT_CHECKED, str(error).rstrip("."), error.action)
