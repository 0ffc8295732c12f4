"""Several workers at once, forked when everything is imported: what is measured is work, not Python's start.

Reads JSON from stdin: the settings of each, and how many rows one claims at a time. Prints JSON: the processor seconds
of them all for a run, and for another that finds nothing due.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from tests.workers import child  # noqa: F401 - imports whatever a worker needs
from token_refresh import commands as cli
from token_refresh.refresh import listing


def main() -> None:
    """One after the other."""
    work = json.load(sys.stdin)
    listing.CLAIMED_ROWS = work["claimed"]
    runs = [partial(cli.main, [], settings) for settings in work["settings"]]
    print(json.dumps({name: _seconds(runs) for name in ("run", "idle")}))


def _seconds(runs: Sequence[Callable[[], int]]) -> float:
    seconds = 0.0
    for worker in [_forked(run) for run in runs]:
        _, status, usage = os.wait4(worker, 0)
        if status:
            sys.exit(f"a worker ended with {os.waitstatus_to_exitcode(status)}")
        seconds += usage.ru_utime + usage.ru_stime
    return seconds


def _forked(run: Callable[[], int]) -> int:
    worker = os.fork()
    if worker == 0:
        code = run()
        sys.stdout.flush()
        os._exit(code)
    return worker


if __name__ == "__main__":
    main()
