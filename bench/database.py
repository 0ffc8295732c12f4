"""How fast and how large a run on the embedded database is, beside a bare loop that stores nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.figure import Figure
from clock import SystemClock
from crypto import Context
from stores.database import CREDENTIALS, DatabaseStore
from tests.world.program import ROOT, Program

FEW_ROWS = 1_000
MANY_ROWS = 100_000
ROW_BYTES = 3 * 1024  # what a due row may cost in memory
CHUNK_ROWS = 5_000
CLIENT_ID, SECRET = "app", "bench"


def many_rows() -> int:
    """How many rows to measure with; BENCH_ROWS makes a quick look possible."""
    return int(os.environ.get("BENCH_ROWS", MANY_ROWS))


@dataclass(frozen=True)
class Provider:
    """A token endpoint in a process of its own, and the refresh tokens that it granted."""

    url: str
    tokens: list[str]


@contextmanager
def provider(folder: Path, count: int) -> Iterator[Provider]:
    """Start the fake with so many grants."""
    grants = folder / "grants.json"
    entry = {"provider": "acme", "client_id": CLIENT_ID, "client_secret": SECRET}
    grants.write_text(json.dumps([{**entry, "location_id": f"location {number}"} for number in range(count)]))
    command = [sys.executable, "-m", "tests.world.oauth", "--grants", str(grants)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        line: dict[str, Any] = json.loads(server.stdout.readline())
        try:
            yield Provider(line["token_urls"]["acme"], [grant["refresh_token"] for grant in line["grants"]])
        finally:
            server.stdin.close()


def throughput(count: int) -> list[Figure]:
    """Rate against the bare loop, and memory against a run of a thousand rows."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder, provider(Path(folder), 2 * count + FEW_ROWS) as granted:
        few, _ = run(Path(folder) / "few", granted.url, granted.tokens[:FEW_ROWS])
        bare = bare_seconds(granted.url, granted.tokens[FEW_ROWS : FEW_ROWS + count])
        many, seconds = run(Path(folder) / "many", granted.url, granted.tokens[FEW_ROWS + count :])
    allowed = 1.5 * few + ROW_BYTES * count
    return [
        Figure(
            f"rate on SQLite, {count} rows / bare loop", bare / seconds, "at least 0.7",
            f"{count / seconds:.0f} / {count / bare:.0f} refreshes a second; ours are durable",
        ),
        Figure("its memory / (1.5 x that of 1,000 rows + 3 KiB a row)", many / allowed, "1", f"{many / 2**20:.0f} MiB"),
    ]  # fmt: skip


def bare_seconds(url: str, tokens: list[str]) -> float:
    """How long the bare loop takes."""
    forms = [
        {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID, "client_secret": SECRET}
        for token in tokens
    ]
    work = json.dumps({"url": url, "forms": forms})
    done = subprocess.run(
        [sys.executable, "bench/bare_loop.py"], cwd=ROOT, input=work, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def run(home: Path, url: str, tokens: list[str]) -> tuple[float, float]:
    """One run over these rows: its peak memory in bytes, and its seconds from start to end."""
    home.mkdir()
    (home / "own.toml").write_text(f'[acme]\ntoken_url = "{url}"\n')
    program = Program(home, {"PROVIDERS_FILE": str(home / "own.toml"), "LOG_LEVEL": "WARNING"})
    fill(program, url, tokens)
    environment = program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "bench/peak.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout), time.perf_counter() - start


def fill(program: Program, url: str, tokens: list[str]) -> None:
    """A database with a due row for each token."""
    origin = "/".join(url.split("/")[:3])
    keyring = program.keyring
    with contextlib.closing(DatabaseStore(f"sqlite:///{program.home}/state/tokens.sqlite3", SystemClock())) as store:
        for start in range(0, len(tokens), CHUNK_ROWS):
            rows = []
            for number, token in enumerate(tokens[start : start + CHUNK_ROWS], start):
                location = f"location {number}"
                cells = {"encrypted_secret": SECRET, "encrypted_refresh": token}
                sealed = {name: keyring.seal(text, Context(name, location, origin)) for name, text in cells.items()}
                rows.append({"location_id": location, "client_id": CLIENT_ID, "provider": "acme", **sealed})
            with store._engine.begin() as connection:
                connection.execute(sa.insert(CREDENTIALS), rows)
