"""What a refresh costs where several processes share one table in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench.figure import Figure
from bench.world import Provider, ServerProcessor, cost, fill, installation, many_rows, postgres, provider, scratch
from tests.world.postgres import PostgresServer, name_of, plain
from tests.world.program import ROOT, Program

PROCESSES = (1, 2, 4, 8)
ROUNDS = 5  # of each count, of which the middle one is told: others on the machine make single ones dearer
SHARE = 0.01  # of BENCH_ROWS, for each process: each has the same to do, however many there are
LEAST_ROWS = 100
CLAIMED_ROWS = 100  # at a time, so that each process gets its share
LATENCY_SECONDS = 0.2  # eight processes that wait so long leave two cores some air
# When a row expires that is not to be refreshed: later than any provider's tokens are due, and no wrong clock's doing.
LATER = datetime.now(UTC) + timedelta(days=100)


@dataclass(frozen=True, eq=False)
class _Table:
    """The program, installed for one table."""

    program: Program
    address: str


@dataclass(frozen=True)
class Took:
    """Processor milliseconds of one round, a row: of the runs, of idle runs of as many processes, of PostgreSQL."""

    run: float
    idle: float
    server: float

    @property
    def refresh(self) -> float:
        """Without the starts."""
        return self.run - self.idle


def workers() -> list[Figure]:
    """Processor time a refresh, by the number of processes."""
    return [
        *_figures(f"at a provider that answers after {LATENCY_SECONDS * 1000:.0f} ms", LATENCY_SECONDS),
        *_figures("where it answers at once, and every core is busy", 0.0),
    ]


def _figures(where: str, latency: float) -> list[Figure]:
    """The worst number of processes beside the best; the most of them beside as many with a table each."""
    rows, most = many_rows(SHARE, LEAST_ROWS), max(PROCESSES)
    with _Scene.open(2 * most * rows, latency) as scene:
        shared = scene.table(most * rows)
        crowds = [[shared] * count for count in PROCESSES]
        hermits = [scene.table(rows) for _ in range(most)]
        rounds = scene.rounds([*crowds, hermits], rows)
    runs = [[one.run for one in seen] for seen in rounds]
    *refreshes, alone = [median(one.refresh for one in seen) for seen in rounds]
    told = [median(seen) for seen in runs[:-1]]
    served = [median(one.server for one in seen) for seen in rounds[:-1]]
    unrest = max(max(seen) / min(seen) for seen in runs)
    processes = ", ".join(map(str, PROCESSES))
    return [
        Figure(
            f"a refresh with {processes} processes, {where}, processor: the worst / the best",
            max(told) / min(told), "1.15",
            f"{_listed(told)} ms of the workers, {_listed(served)} of PostgreSQL; {rows} rows a process; the same"
            f" again took up to {unrest:.2f} times as much",
        ),
        Figure(
            "the same without the starts", max(refreshes) / min(refreshes), "1.15",
            f"{_listed(refreshes)} ms; a process starts with {rows * rounds[0][0].idle:.0f} ms",
        ),
        Figure(
            f"{most} processes on one table / on a table each, without the starts",
            refreshes[-1] / alone, "1.15", f"{_listed([refreshes[-1], alone])} ms",
        ),
    ]  # fmt: skip


@dataclass
class _Scene:
    """A server, a provider, and tables in databases of their own."""

    folder: Path
    server: PostgresServer
    provider: Provider
    _number: int = 0

    @classmethod
    @contextmanager
    def open(cls, grants: int, latency: float) -> Iterator[_Scene]:
        """With so many grants."""
        with scratch() as folder, postgres() as server, provider(folder, grants, latency) as granted:
            yield cls(folder, server, granted)

    def table(self, rows: int) -> _Table:
        """A new one, with so many rows."""
        address = self.server.database()
        program = installation(self.folder / name_of(address), self.provider.url, DATABASE_URL=plain(address))
        fill(program, self.provider.url, self.provider.take(rows))
        return _Table(program, address)

    def rounds(self, crowds: Sequence[Sequence[_Table]], rows: int) -> list[list[Took]]:
        """Of each crowd, which names the table of each of its processes; so many rows are due for each of these."""
        took: list[list[Took]] = [[] for _ in crowds]
        numbered = list(enumerate(crowds))
        # There and back again, so that a machine that grows slower does not look like a crowd.
        for turn in range(ROUNDS):
            for number, crowd in numbered[:: -1 if turn % 2 else 1]:
                took[number].append(self._round(crowd, rows))
        return took

    def _round(self, crowd: Sequence[_Table], rows: int) -> Took:
        """A worker for each table that is named, from their forks to their ends, with a new state folder."""
        self._number += 1
        due = {table: rows * crowd.count(table) for table in crowd}
        states = {table: str(self.folder / f"state {self._number} {number}") for number, table in enumerate(due)}
        settings = [table.program.settings | {"STATE_DIR": states[table]} for table in crowd]
        work = json.dumps({"settings": settings, "claimed": CLAIMED_ROWS})
        environment = crowd[0].program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
        for table, count in due.items():
            self._make_due(table, count)
        meter = ServerProcessor(self.server, crowd[0].address)
        before = meter.seconds()
        seconds = json.loads(cost([sys.executable, "bench/forks.py"], environment, work).said)
        served = meter.seconds() - before
        for table, count in due.items():
            self._assert_fresh(table, count)
        a_row = 1000 / (rows * len(crowd))
        return Took(seconds["run"] * a_row, seconds["idle"] * a_row, served * a_row)

    def _make_due(self, table: _Table, count: int) -> None:
        """So many rows; the others stay out of it."""
        due = "CASE WHEN id IN (SELECT id FROM credentials ORDER BY id LIMIT %s) THEN NULL ELSE %s::timestamptz END"
        with contextlib.closing(self.server.connect(table.address)) as shell:
            shell.execute(f"UPDATE credentials SET last_refreshed = NULL, access_token_expiry = {due}", (count, LATER))
            shell.execute("VACUUM FULL ANALYZE credentials")  # each round meets the same table

    def _assert_fresh(self, table: _Table, count: int) -> None:
        query = "SELECT count(*) AS fresh FROM credentials WHERE access_token_expiry < %s"
        with contextlib.closing(self.server.connect(table.address)) as shell:
            [found] = shell.execute(query, (LATER,)).fetchall()
        assert found["fresh"] == count, f"{found['fresh']} of {count} rows were refreshed"


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
