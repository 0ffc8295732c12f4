"""How often runs come: not more rarely than the settings say, nor more often than the store's plan allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from token_refresh.base.checks import GOOD
from token_refresh.base.clock import iso, parse_time
from token_refresh.base.events import Notice, NoticeCode
from token_refresh.refresh.run_context import RunContext, Scope

LAST_RUN_FILE = "last-run"
RARE_RUNS = 1.5  # intervals between two runs that are too many


def frequency_notices(context: RunContext, scope: Scope) -> Iterator[Notice]:
    """What a person should know of it at the start of a run."""
    if not (scope.is_by_hand or scope.dry_run or scope.takeover):  # of those that come by themselves
        yield from _rare_runs(context.folder / LAST_RUN_FILE, context.policy.interval, context.clock.now())
    quota = context.check_quota()
    if quota is not None and quota.state != GOOD:  # once the calls are spent nothing can be stored, nor refreshed
        yield Notice(NoticeCode.QUOTA_SHORT, None, quota.message, quota.action)


def _rare_runs(file: Path, interval: int, now: datetime) -> Iterator[Notice]:
    """Tokens are renewed in time only if the program knows how often it is run; `file` has the time of the last one."""
    last = None
    with contextlib.suppress(OSError, UnicodeDecodeError):  # the first run, or not written whole
        last = parse_time(file.read_text())
    if last is not None and (now - last).total_seconds() > RARE_RUNS * interval:
        yield Notice(
            NoticeCode.RARE_RUNS,
            None,
            f"the last run was at {last:%Y-%m-%d %H:%M} UTC, longer ago than REFRESH_INTERVAL ({interval} s)",
            "Set REFRESH_INTERVAL to the seconds between two runs of cron.",
        )
    with contextlib.suppress(OSError):  # a full disk is reported by whoever cannot go on without it
        file.write_text(iso(now))
