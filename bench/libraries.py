"""Refreshes a second beside what OAuth libraries do by themselves, which stores nothing.

All are whole processes, measured from start to end, over as many rows at the same provider; every one keeps its
connections. A library's loop has one thread and one session, ours is cron's run: threads, claims, journal, SQLite.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.database import bare_loop
from bench.figure import Figure
from bench.peer_loop import LIBRARIES
from bench.world import (
    CLIENT_ID,
    LIFETIME_SECONDS,
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

SHARE, LEAST_ROWS = 0.02, 200  # of BENCH_ROWS
ROUNDS = 2
FAR_SHARE, FAR_SECONDS = 0.002, 0.05  # a provider as far away as real ones are
OURS, ALONE, UNSYNCED = "ours", "ours, one thread", "ours, its journal unsynced"
BARE = "a bare loop of requests, 16 threads"  # what no program that uses requests can pass
OWN = {OURS: ("peak", {}), ALONE: ("peak", {"CONCURRENCY": "1"}), UNSYNCED: ("unsynced", {})}


def libraries() -> list[Figure]:
    """At a provider that answers at once, where only the processor counts; and at one as far away as real ones are."""
    near = _rates((*LIBRARIES, BARE, *OWN), many_rows(SHARE, LEAST_ROWS), 0.0, ROUNDS)
    far = _rates((*LIBRARIES, OURS), many_rows(FAR_SHARE, LEAST_ROWS), FAR_SECONDS, 1)
    return [
        _figure(f"after {1000 * FAR_SECONDS:.0f} ms", far, "at least 1.5"),
        _figure("at once", near, "at least 1.5"),
        Figure(
            "with the journal's syncs / without", near[OURS] / near[UNSYNCED], "none: what durability costs",
            f"{near[OURS]:.0f} / {near[UNSYNCED]:.0f} refreshes a second",
        ),
    ]  # fmt: skip


def _figure(answers: str, rates: dict[str, float], bound: str) -> Figure:
    best = max(rates[name] for name in LIBRARIES)
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items() if name != UNSYNCED)
    return Figure(
        f"rate on SQLite / of the fastest library, provider answers {answers}", rates[OURS] / best, bound,
        f"{said} refreshes a second; libraries: one thread, nothing stored",
    )  # fmt: skip


def _rates(names: tuple[str, ...], count: int, latency: float, rounds: int) -> dict[str, float]:
    """By name, of the fastest round."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with scratch() as folder, provider(folder, count * len(names) * rounds, latency) as granted:
        for number in range(rounds):
            for name in names:
                home = folder / f"{name} {number}"
                seconds[name].append(_cost_of(name, home, granted, count).wall)
    return {name: count / min(seen) for name, seen in seconds.items()}


def _cost_of(name: str, home: Path, granted: Provider, count: int) -> Cost:
    if name == BARE:
        return bare_loop(granted, count)
    return _ours(home, name, granted, count) if name in OWN else _library(name, granted, count)


def _library(name: str, granted: Provider, count: int) -> Cost:
    work = {
        "url": granted.url, "client_id": CLIENT_ID, "client_secret": SECRET, "tokens": granted.take(count),
    }  # fmt: skip
    return cost([sys.executable, "bench/peer_loop.py", name], stdin=json.dumps(work))


def _ours(home: Path, name: str, granted: Provider, count: int) -> Cost:
    script, settings = OWN[name]
    program = installation(home, granted.url, LIFETIME_SECONDS, **settings)
    fill(program, granted.url, granted.take(count))
    return cost_of_run(program, script)
