"""What a refresh costs where several processes share one table in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from bench.figure import Figure
from bench.world import ServerProcessor, cost, fill, installation, many_rows, postgres, provider, scratch
from tests.world.postgres import PostgresServer, plain
from tests.world.program import ROOT, Program

PROCESSES = (1, 2, 4, 8)
SHARE = 0.03  # of BENCH_ROWS
LEAST_ROWS = 400


def workers() -> list[Figure]:
    """Processor time a refresh, by the number of processes; there and back again, the quieter of both counts."""
    rows = many_rows(SHARE, LEAST_ROWS)
    took: dict[int, list[float]] = {count: [] for count in PROCESSES}
    server_took: dict[int, list[float]] = {count: [] for count in PROCESSES}
    with scratch() as folder, postgres() as server, provider(folder, rows) as granted:
        address = server.database()
        program = installation(folder / "home", granted.url, DATABASE_URL=plain(address))
        fill(program, granted.url, granted.take(rows))
        meter = ServerProcessor(server, address)
        for number, count in enumerate((*PROCESSES, *reversed(PROCESSES))):
            _make_due(server, address)
            before = meter.seconds()
            took[count].append(1000 * _round(program, folder / f"state {number}", count, rows) / rows)
            server_took[count].append(1000 * (meter.seconds() - before) / rows)
            _assert_fresh(server, address, rows)
    best = {count: min(seen) for count, seen in took.items()}
    said = ", ".join(f"{count}: {best[count]:.2f} + {min(server_took[count]):.2f}" for count in PROCESSES)
    return [
        Figure(
            f"a refresh with {', '.join(map(str, PROCESSES))} processes, processor: the worst / the best",
            max(best.values()) / min(best.values()), "1.15", f"ms of the workers + of PostgreSQL: {said}; {rows} rows",
        )
    ]  # fmt: skip


def _round(program: Program, state: Path, count: int, rows: int) -> float:
    """Processor seconds of so many workers, from their forks to their ends; each round has a new state folder."""
    work = {
        "settings": program.settings | {"STATE_DIR": str(state)},
        "processes": count,
        "claimed": max(1, rows // 40),  # the same for all counts, and few enough that each process gets its share
    }
    environment = program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
    said = cost([sys.executable, "bench/forks.py"], environment, json.dumps(work)).said
    seconds: list[float] = json.loads(said.splitlines()[-1])
    return sum(seconds)


def _make_due(server: PostgresServer, address: str) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        shell.execute("UPDATE credentials SET access_token_expiry = NULL")
        shell.execute("VACUUM FULL ANALYZE credentials")  # each count meets the same table


def _assert_fresh(server: PostgresServer, address: str, rows: int) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        [found] = shell.execute("SELECT count(access_token_expiry) AS fresh FROM credentials").fetchall()
    assert found["fresh"] == rows, f"{found['fresh']} of {rows} rows were refreshed"
