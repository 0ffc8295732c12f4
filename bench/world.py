"""What the measurements stand on: a provider in a process of its own, tables of any size, and what a run costs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from crypto import Context
from tests.world.postgres import PostgresServer, mapped
from tests.world.program import ROOT, Program
from token_refresh.base.clock import SystemClock
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

MANY_ROWS = 100_000
CHUNK_ROWS = 5_000
CLIENT_ID, SECRET = "app", "bench"
# MSAL asks for these three with every refresh, and a provider refuses what was not granted.
SCOPE = "openid profile offline_access read"
LIFETIME_SECONDS = 3600  # of its tokens
# A third of that: cron comes often enough, and there is nothing to warn of.
QUIET = {"REFRESH_INTERVAL": "1200"}
PROCESSOR_TICKS = os.sysconf("SC_CLK_TCK")


def many_rows(share: float = 1.0, least: int = 1) -> int:
    """How many rows to measure with, a share of BENCH_ROWS: fewer make a quick look possible."""
    return max(least, round(int(os.environ.get("BENCH_ROWS", MANY_ROWS)) * share))


@dataclass(frozen=True)
class Provider:
    """A token endpoint in a process of its own, and the refresh tokens that it granted."""

    url: str
    tokens: list[str]

    def take(self, count: int) -> list[str]:
        """So many tokens that nobody has had yet: each may be sent once."""
        taken, self.tokens[:count] = self.tokens[:count], []
        assert len(taken) == count
        return taken


@contextmanager
def provider(folder: Path, count: int, latency: float = 0.0) -> Iterator[Provider]:
    """Start the fake with so many grants."""
    grants = folder / "grants.json"
    entry = {"provider": "acme", "client_id": CLIENT_ID, "client_secret": SECRET, "scope": SCOPE}
    grants.write_text(json.dumps([{**entry, "location_id": f"location {number}"} for number in range(count)]))
    command = [sys.executable, "-m", "tests.world.oauth", "--grants", str(grants), "--latency", str(latency)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        line: dict[str, Any] = json.loads(server.stdout.readline())
        try:
            yield Provider(line["token_urls"]["acme"], [grant["refresh_token"] for grant in line["grants"]])
        finally:
            server.stdin.close()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the project: a sync in memory would cost nothing."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        yield Path(folder)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A server of the bench's own."""
    with contextlib.closing(PostgresServer()) as server:
        yield server


def installation(home: Path, token_url: str, lifetime: int = LIFETIME_SECONDS, **settings: str) -> Program:
    """The program for this provider, whose tokens live so many seconds; on SQLite unless the settings say more."""
    home.mkdir()
    (home / "own.toml").write_text(f'[acme]\ntoken_url = "{token_url}"\nlifetime = {lifetime}\n')
    return Program(home, {"PROVIDERS_FILE": str(home / "own.toml"), "LOG_LEVEL": "WARNING", **QUIET, **settings})


def address_of(program: Program) -> str:
    """Where the program stores, as SQLAlchemy has it."""
    return mapped(program.settings.get("DATABASE_URL", f"sqlite:///{program.home}/state/tokens.sqlite3"))


def fill(program: Program, url: str, tokens: Sequence[str]) -> None:
    """A due row for each token."""
    origin = "/".join(url.split("/")[:3])
    keyring = program.keyring
    with contextlib.closing(DatabaseStore(address_of(program), SystemClock())) as store:
        for start in range(0, len(tokens), CHUNK_ROWS):
            rows = []
            for number, token in enumerate(tokens[start : start + CHUNK_ROWS], start):
                location = f"location {number}"
                cells = {"encrypted_secret": SECRET, "encrypted_refresh": token}
                sealed = {name: keyring.seal(text, Context(name, location, origin)) for name, text in cells.items()}
                rows.append({"location_id": location, "client_id": CLIENT_ID, "provider": "acme", **sealed})
            with store._engine.begin() as connection:
                connection.execute(sa.insert(CREDENTIALS), rows)


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds from start to end, seconds of the processors, and what it said."""

    wall: float
    processor: float
    said: str


def cost(command: Sequence[str], environment: dict[str, str] | None = None, stdin: str = "") -> Cost:
    """Run a process to its end, its imports included."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=given, stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        with process:
            assert process.stdout is not None
            said = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, said)


def cost_of_run(program: Program, script: str = "peak") -> Cost:
    """Of one run as cron does it; it says its peak memory in bytes."""
    environment = program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
    return cost([sys.executable, f"bench/{script}.py"], environment)


class ServerProcessor:
    """The processor time of a PostgreSQL server: of itself and of the sessions that have ended."""

    def __init__(self, server: PostgresServer, address: str) -> None:
        self._server, self._address = server, address
        with contextlib.closing(server.connect(address)) as shell:
            [file] = shell.execute("SELECT pg_read_file('postmaster.pid') AS file").fetchall()
        self._stat = Path(f"/proc/{file['file'].split()[0]}/stat")

    def seconds(self) -> float:
        """So far, in steps of a hundredth; waits until no session is left but that in which databases are made."""
        query = (
            "SELECT count(*) AS open FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname <> 'postgres'"
        )
        with contextlib.closing(self._server.connect(self._address)) as shell:
            while shell.execute(query).fetchall()[0]["open"]:
                time.sleep(0.01)
        time.sleep(0.05)  # until the postmaster has waited for it
        fields = self._stat.read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / PROCESSOR_TICKS
