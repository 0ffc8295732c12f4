"""How fast and how large a run on the embedded database is, beside a bare loop that stores nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.figure import Figure
from bench.world import (
    CLIENT_ID,
    SECRET,
    Cost,
    Provider,
    cost,
    cost_of_run,
    fill,
    installation,
    many_rows,
    provider,
    scratch,
)

FEW_ROWS = 1_000
ROW_BYTES = 3 * 1024  # what a due row may cost in memory


def throughput() -> list[Figure]:
    """Rate against the bare loop, and memory against a run of a thousand rows."""
    count = many_rows()
    with scratch() as folder, provider(folder, 2 * count + FEW_ROWS) as granted:
        few, _ = run(folder / "few", granted, FEW_ROWS)
        bare = float(bare_loop(granted, count).said)
        many, seconds = run(folder / "many", granted, count)
    allowed = 1.5 * few + ROW_BYTES * count
    return [
        Figure(
            f"rate on SQLite, {count} rows / bare loop", bare / seconds, "at least 0.7",
            f"{count / seconds:.0f} / {count / bare:.0f} refreshes a second; ours are durable",
        ),
        Figure("its memory / (1.5 x that of 1,000 rows + 3 KiB a row)", many / allowed, "1", f"{many / 2**20:.0f} MiB"),
    ]  # fmt: skip


def bare_loop(granted: Provider, count: int) -> Cost:
    """Of the bare loop, which says how many seconds its posts took."""
    forms = [
        {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID, "client_secret": SECRET}
        for token in granted.take(count)
    ]
    return cost([sys.executable, "bench/bare_loop.py"], stdin=json.dumps({"url": granted.url, "forms": forms}))


def run(home: Path, granted: Provider, count: int) -> tuple[float, float]:
    """One run over so many rows: its peak memory in bytes, and its seconds from start to end."""
    program = installation(home, granted.url)
    fill(program, granted.url, granted.take(count))
    taken = cost_of_run(program)
    return float(taken.said), taken.wall
