"""What a refresh costs where several processes share one table in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure
from bench.world import Provider, ServerProcessor, cost, fill, installation, many_rows, postgres, provider, scratch
from tests.world.postgres import PostgresServer, name_of, plain
from tests.world.program import ROOT, Program

PROCESSES = (1, 2, 4, 8)
ROUNDS = 3  # of each count; others on the machine can only make one dearer, so the cheapest is told
SHARE = 0.04  # of BENCH_ROWS
LEAST_ROWS = 400
LATENCY_SECONDS = 0.2  # eight processes that wait so long leave two cores some air


@dataclass(frozen=True, eq=False)
class _Table:
    """The program, installed for one table."""

    program: Program
    address: str
    rows: int


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
    """The worst number of processes beside the best; the most of them beside as many with a table each."""
    rows = many_rows(SHARE, LEAST_ROWS)
    with _Scene.open(rows, latency) as scene:
        shared = scene.table(rows)
        crowds = [[shared] * count for count in PROCESSES]
        hermits = [scene.table(rows // PROCESSES[-1]) for _ in range(PROCESSES[-1])]
        *took, alone = scene.cheapest([*crowds, hermits])
    runs, refreshes = [one.run for one in took], [one.refresh for one in took]
    processes = ", ".join(map(str, PROCESSES))
    return [
        Figure(
            f"a refresh with {processes} processes, {where}, processor: the worst / the best",
            max(runs) / min(runs), "1.15",
            f"{_listed(runs)} ms of the workers, {_listed([one.server for one in took])} of PostgreSQL; {rows} rows",
        ),
        Figure(
            "the same without the starts", max(refreshes) / min(refreshes), "1.15",
            f"{_listed(refreshes)} ms; a process starts with {rows * took[0].idle:.0f} ms",
        ),
        Figure(
            f"{PROCESSES[-1]} processes on one table / on a table each, without the starts",
            refreshes[-1] / alone.refresh, "1.15", f"{_listed([refreshes[-1], alone.refresh])} ms",
        ),
    ]  # fmt: skip


@dataclass
class _Scene:
    """A server, a provider, and tables in databases of their own."""

    folder: Path
    server: PostgresServer
    provider: Provider
    _rounds: int = 0

    @classmethod
    @contextmanager
    def open(cls, rows: int, latency: float) -> Iterator[_Scene]:
        """With grants for one table of so many rows, and as many rows in small ones."""
        with scratch() as folder, postgres() as server, provider(folder, 2 * rows, latency) as granted:
            yield cls(folder, server, granted)

    def table(self, rows: int) -> _Table:
        """A new one, with so many rows."""
        address = self.server.database()
        home = self.folder / name_of(address)
        program = installation(home, self.provider.url, DATABASE_URL=plain(address))
        fill(program, self.provider.url, self.provider.take(rows))
        return _Table(program, address, rows)

    def cheapest(self, crowds: Sequence[Sequence[_Table]]) -> list[Took]:
        """Of some rounds of each crowd, which names the table of each of its processes."""
        took: list[list[Took]] = [[] for _ in crowds]
        numbered = list(enumerate(crowds))
        # There and back again, so that a machine that grows slower does not look like a crowd.
        for turn in range(ROUNDS):
            for number, crowd in numbered[:: -1 if turn % 2 else 1]:
                took[number].append(self._round(crowd))
        return [min(seen, key=lambda one: one.run) for seen in took]

    def _round(self, crowd: Sequence[_Table]) -> Took:
        """A worker for each table that is named, from their forks to their ends, with a new state folder."""
        self._rounds += 1
        tables = list(dict.fromkeys(crowd))
        rows = sum(table.rows for table in tables)
        for table in tables:
            self._make_due(table)
        states = {table: str(self.folder / f"state {self._rounds} {number}") for number, table in enumerate(tables)}
        work = {
            "settings": [table.program.settings | {"STATE_DIR": states[table]} for table in crowd],
            "claimed": max(1, rows // 40),  # the same for all counts, and few enough that each gets its share
        }
        environment = tables[0].program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
        meter = ServerProcessor(self.server, tables[0].address)
        before = meter.seconds()
        seconds = json.loads(cost([sys.executable, "bench/forks.py"], environment, json.dumps(work)).said)
        served = meter.seconds() - before
        for table in tables:
            self._assert_fresh(table)
        a_row = 1000 / rows
        return Took(seconds["run"] * a_row, seconds["idle"] * a_row, served * a_row)

    def _make_due(self, table: _Table) -> None:
        with contextlib.closing(self.server.connect(table.address)) as shell:
            shell.execute("UPDATE credentials SET access_token_expiry = NULL")
            shell.execute("VACUUM FULL ANALYZE credentials")  # each count meets the same table

    def _assert_fresh(self, table: _Table) -> None:
        with contextlib.closing(self.server.connect(table.address)) as shell:
            [found] = shell.execute("SELECT count(access_token_expiry) AS fresh FROM credentials").fetchall()
        assert found["fresh"] == table.rows, f"{found['fresh']} of {table.rows} rows were refreshed"


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
