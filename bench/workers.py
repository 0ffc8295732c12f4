"""What a refresh costs where several processes share one table in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure
from bench.world import ServerProcessor, cost, fill, installation, many_rows, postgres, provider, scratch
from tests.world.postgres import PostgresServer, plain
from tests.world.program import ROOT, Program

PROCESSES = (1, 2, 4, 8)
SHARE = 0.04  # of BENCH_ROWS
LEAST_ROWS = 400
LATENCY_SECONDS = 0.2  # eight processes that wait so long leave two cores some air


@dataclass(frozen=True)
class Took:
    """Processor milliseconds of one round, a row: of the runs, of idle runs of as many processes, of PostgreSQL."""

    run: float
    idle: float
    server: float

    @property
    def refresh(self) -> float:
        """Without the starts, of which many processes have many."""
        return self.run - self.idle


def workers() -> list[Figure]:
    """Processor time a refresh, by the number of processes."""
    return [
        *_figures(f"at a provider that answers after {LATENCY_SECONDS * 1000:.0f} ms", LATENCY_SECONDS),
        *_figures("where it answers at once, and every core is busy", 0.0),
    ]


def _figures(where: str, latency: float) -> list[Figure]:
    """The worst number of processes beside the best, of the quieter of two rounds of each."""
    rows = many_rows(SHARE, LEAST_ROWS)
    rounds: dict[int, list[Took]] = {count: [] for count in PROCESSES}
    with scratch() as folder, postgres() as server, provider(folder, rows, latency) as granted:
        address = server.database()
        program = installation(folder / "home", granted.url, DATABASE_URL=plain(address))
        fill(program, granted.url, granted.take(rows))
        meter = ServerProcessor(server, address)
        # There and back again, so that a machine that grows slower does not look like a crowd.
        for number, count in enumerate((*PROCESSES, *reversed(PROCESSES))):
            _make_due(server, address)
            rounds[count].append(_round(program, meter, folder / f"state {number}", count, rows))
            _assert_fresh(server, address, rows)
    best = [min(seen, key=lambda took: took.run) for seen in rounds.values()]
    runs, refreshes = [took.run for took in best], [took.refresh for took in best]
    processes = ", ".join(map(str, PROCESSES))
    return [
        Figure(
            f"a refresh with {processes} processes, {where}, processor: the worst / the best",
            max(runs) / min(runs), "1.15",
            f"{_listed(runs)} ms of the workers, {_listed([took.server for took in best])} of PostgreSQL; {rows} rows",
        ),
        Figure(
            "the same without the starts", max(refreshes) / min(refreshes), "1.15",
            f"{_listed(refreshes)} ms; a process starts with {rows * best[0].idle:.0f} ms",
        ),
    ]  # fmt: skip


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _round(program: Program, meter: ServerProcessor, state: Path, count: int, rows: int) -> Took:
    """So many workers, from their forks to their ends; each round has a new state folder."""
    work = {
        "settings": program.settings | {"STATE_DIR": str(state)},
        "processes": count,
        "claimed": max(1, rows // 40),  # the same for all counts, and few enough that each process gets its share
    }
    environment = program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
    before = meter.seconds()
    seconds = json.loads(cost([sys.executable, "bench/forks.py"], environment, json.dumps(work)).said)
    served = meter.seconds() - before
    a_row = 1000 / rows
    return Took(seconds["run"] * a_row, seconds["idle"] * a_row, served * a_row)


def _make_due(server: PostgresServer, address: str) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        shell.execute("UPDATE credentials SET access_token_expiry = NULL")
        shell.execute("VACUUM FULL ANALYZE credentials")  # each count meets the same table


def _assert_fresh(server: PostgresServer, address: str, rows: int) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        [found] = shell.execute("SELECT count(access_token_expiry) AS fresh FROM credentials").fetchall()
    assert found["fresh"] == rows, f"{found['fresh']} of {rows} rows were refreshed"
