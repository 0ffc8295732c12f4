"""What a refresh costs where several processes share one table in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure
from bench.world import ServerProcessor, cost, fill, installation, many_rows, postgres, provider, scratch
from tests.world.postgres import PostgresServer, plain
from tests.world.program import ROOT, Program

PROCESSES = (1, 2, 4, 8)
SHARE = 0.04  # of BENCH_ROWS
ROUNDS = 4  # there and back again, so that a machine that grows slower does not look like a crowd
LEAST_ROWS = 400


@dataclass(frozen=True)
class Took:
    """Processor milliseconds of one round, a row: of the runs, of idle runs of as many processes, of PostgreSQL.

    `plain` is what a plain computation took in each process, in seconds.
    """

    run: float
    idle: float
    server: float
    plain: float


def workers() -> list[Figure]:
    """Processor time a refresh, by the number of processes; of the quietest round of each."""
    rows = many_rows(SHARE, LEAST_ROWS)
    rounds: dict[int, list[Took]] = {count: [] for count in PROCESSES}
    with scratch() as folder, postgres() as server, provider(folder, rows) as granted:
        address = server.database()
        program = installation(folder / "home", granted.url, DATABASE_URL=plain(address))
        fill(program, granted.url, granted.take(rows))
        meter = ServerProcessor(server, address)
        for number, count in enumerate((*PROCESSES, *reversed(PROCESSES)) * (ROUNDS // 2)):
            _make_due(server, address)
            rounds[count].append(_round(program, meter, folder / f"state {number}", count, rows))
            _assert_fresh(server, address, rows)
    return _figures({count: min(seen, key=lambda took: took.run) for count, seen in rounds.items()}, rows)


def _figures(best: dict[int, Took], rows: int) -> list[Figure]:
    alone = best[1]
    whole = {count: took.run for count, took in best.items()}
    dearer = {count: took.plain / alone.plain for count, took in best.items()}
    own = {count: (took.run - took.idle) / dearer[count] for count, took in best.items()}
    served = {count: took.server for count, took in best.items()}
    processes = ", ".join(map(str, PROCESSES))
    return [
        Figure(
            f"a refresh with {processes} processes, processor: the worst / the best",
            max(whole.values()) / min(whole.values()), "1.15",
            f"{_listed(whole)} ms of the workers, {_listed(served)} of PostgreSQL;"
            f" {rows} rows; a process starts with {rows * alone.idle:.0f} ms",
        ),
        Figure(
            "the same without the starts / a plain computation in as many processes",
            max(own.values()) / min(own.values()), "1.15", f"{_listed(own)} ms; plain: {_listed(dearer)} times",
        ),
    ]  # fmt: skip


def _listed(values: dict[int, float]) -> str:
    return " ".join(f"{value:.2f}" for value in values.values())


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
    return Took(seconds["run"] * a_row, seconds["idle"] * a_row, served * a_row, seconds["plain"] / count)


def _make_due(server: PostgresServer, address: str) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        shell.execute("UPDATE credentials SET access_token_expiry = NULL")
        shell.execute("VACUUM FULL ANALYZE credentials")  # each count meets the same table


def _assert_fresh(server: PostgresServer, address: str, rows: int) -> None:
    with contextlib.closing(server.connect(address)) as shell:
        [found] = shell.execute("SELECT count(access_token_expiry) AS fresh FROM credentials").fetchall()
    assert found["fresh"] == rows, f"{found['fresh']} of {rows} rows were refreshed"
