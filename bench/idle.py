"""A run that finds nothing due costs the same in a table of a thousand rows and in one of a million; and what those who
act after it add to that."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field

import sqlalchemy as sa

from bench.figure import Figure
from bench.world import Cost, ServerProcessor, address_of, cost_of_run, installation, many_rows, postgres, scratch
from tests.world.http import HTTPServer, Response
from tests.world.postgres import plain
from tests.world.program import Program
from token_refresh.base.clock import SystemClock
from token_refresh.stores.database import DatabaseStore

FEW_ROWS = 1_000
MANY = 10  # times BENCH_ROWS
ROUNDS = 7
MIB = 1024 * 1024

URL = "https://acme.example/token"
LIFETIME_DAYS = 60
LIFETIME_SECONDS = LIFETIME_DAYS * 86_400
LEFT_DAYS = 40  # and up to twelve more: later than any provider's tokens are due, and no longer than these can live
_INTO = (
    "INSERT INTO credentials (location_id, provider, client_id, encrypted_secret, encrypted_refresh,"
    " last_access_token, access_token_expiry, last_refreshed)"
)
FILLINGS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows) "
    f"{_INTO} SELECT 'location ' || n, 'acme', 'app', hex(randomblob(50)), hex(randomblob(70)), hex(randomblob(70)),"
    f" strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '{LEFT_DAYS} days', n || ' seconds'),"
    f" strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '{LEFT_DAYS - LIFETIME_DAYS} days', n || ' seconds') FROM numbers",
    "postgresql": f"{_INTO} SELECT 'location ' || n, 'acme', 'app', repeat(md5(n::text), 3), repeat(md5(n::text), 4),"
    f" repeat(md5(n::text), 4), now() + interval '{LEFT_DAYS} days' + n * interval '1 second',"
    f" now() - interval '{LIFETIME_DAYS - LEFT_DAYS} days' + n * interval '1 second' FROM generate_series(1, :rows) n",
}


@dataclass
class Table:
    """A table where nothing is due, and what runs on it took."""

    program: Program
    server: ServerProcessor | None = None
    costs: list[Cost] = field(default_factory=list)
    server_seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Once more."""
        before = self.server.seconds() if self.server else 0.0
        self.costs.append(cost_of_run(self.program))
        self.server_seconds.append((self.server.seconds() if self.server else 0.0) - before)

    @property
    def processor(self) -> float:
        """Of the quietest run; that of the server, which is told in hundredths, is the mean of all."""
        return min(cost.processor for cost in self.costs) + sum(self.server_seconds) / len(self.server_seconds)

    @property
    def seconds(self) -> float:
        """From start to end, of the quickest run."""
        return min(cost.wall for cost in self.costs)

    @property
    def peak(self) -> float:
        """Bytes, of the leanest run."""
        return min(float(cost.said) for cost in self.costs)


def idle_database() -> list[Figure]:
    """On both databases."""
    return [*_on_sqlite(), *_on_postgres()]


def idle_operations() -> list[Figure]:
    """With a message, a webhook, a ping and a metrics file set, beside nothing of that. There is no news to send."""
    with scratch() as folder, HTTPServer(lambda _: Response(204)) as receiver:
        everything = {
            "METRICS_FILE": str(folder / "metrics.prom"),
            "NOTIFY_URLS": f"json://127.0.0.1:{receiver.port}",
            "NOTIFY_COMMAND": "true",
            "WEBHOOK_URL": receiver.url,
            "WEBHOOK_SECRET": f"whsec_{base64.b64encode(bytes(range(32))).decode()}",
            "PING_URL": receiver.url,
        }
        tables = []
        for name, settings in (("nothing", {}), ("everything", everything)):
            program = installation(folder / name, URL, LIFETIME_SECONDS, **settings)
            fill_fresh(program, FEW_ROWS)
            tables.append(Table(program))
        nothing, all_set = _measured(tables)
        return [
            Figure(
                "idle run with all of operations set / with nothing, processor", all_set.processor / nothing.processor,
                "none", f"{1000 * all_set.processor:.0f} ms / {1000 * nothing.processor:.0f} ms",
            ),
            Figure(
                "its time", all_set.seconds / nothing.seconds, "none",
                f"{1000 * all_set.seconds:.0f} ms / {1000 * nothing.seconds:.0f} ms",
            ),
        ]  # fmt: skip


def _on_sqlite() -> list[Figure]:
    with scratch() as folder:
        tables = []
        for count in _counts():
            program = installation(folder / str(count), URL, LIFETIME_SECONDS)
            fill_fresh(program, count)
            tables.append(Table(program))
        return _figures("SQLite", tables)


def _on_postgres() -> list[Figure]:
    with scratch() as folder, postgres() as server:
        tables = []
        for count in _counts():
            address = server.database()
            program = installation(folder / str(count), URL, LIFETIME_SECONDS, DATABASE_URL=plain(address))
            fill_fresh(program, count)
            with contextlib.closing(server.connect(address)) as shell:
                shell.execute("VACUUM ANALYZE")  # as the server does it by itself before long
                shell.execute("CHECKPOINT")
            tables.append(Table(program, ServerProcessor(server, address)))
        return _figures("PostgreSQL, with the server's own", tables)


def _counts() -> tuple[int, int]:
    return FEW_ROWS, many_rows(MANY, least=2 * FEW_ROWS)


def fill_fresh(program: Program, count: int) -> None:
    """So many rows of a provider at `URL` with `LIFETIME_SECONDS`: none is due, and each could be real."""
    address = address_of(program)
    with contextlib.closing(DatabaseStore(address, SystemClock())) as store, store._engine.begin() as connection:
        connection.execute(sa.text(FILLINGS[address.partition(":")[0].partition("+")[0]]), {"rows": count})


def _measured(tables: list[Table]) -> list[Table]:
    """All of them after some rounds."""
    for _ in range(1 + ROUNDS):
        for table in tables:
            table.run()
    for table in tables:  # the first one compiles and caches
        del table.costs[0], table.server_seconds[0]
    return tables


def _figures(database: str, tables: list[Table]) -> list[Figure]:
    few, many = _measured(tables)
    _, count = _counts()
    return [
        Figure(
            f"idle run at {count} rows / at {FEW_ROWS}, processor, {database}", many.processor / few.processor, "1.15",
            f"{1000 * many.processor:.0f} ms / {1000 * few.processor:.0f} ms",
        ),
        Figure(
            "its memory", many.peak / few.peak, "1.15", f"{many.peak / MIB:.1f} MiB / {few.peak / MIB:.1f} MiB"
        ),
    ]  # fmt: skip
