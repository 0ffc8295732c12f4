"""Several workers at once, forked when everything is imported: what is measured is work, not Python's start.

Reads JSON from stdin: settings, the number of processes, and how many rows one claims at a time. Prints the processor
seconds of each as a JSON list.
"""

from __future__ import annotations

import json
import os
import sys

from commands import cli
from refresher import listing
from tests.workers import child  # noqa: F401 - imports whatever a worker needs


def main() -> None:
    """Fork, and wait for each."""
    work = json.load(sys.stdin)
    listing.CLAIMED_ROWS = work["claimed"]
    workers = [_forked(work["settings"]) for _ in range(work["processes"])]
    seconds = []
    for worker in workers:
        _, status, usage = os.wait4(worker, 0)
        if status:
            sys.exit(f"a worker ended with {os.waitstatus_to_exitcode(status)}")
        seconds.append(usage.ru_utime + usage.ru_stime)
    print(json.dumps(seconds))


def _forked(settings: dict[str, str]) -> int:
    worker = os.fork()
    if worker == 0:
        code = cli.main([], settings)
        sys.stdout.flush()
        os._exit(code)
    return worker


if __name__ == "__main__":
    main()
