"""`make bench`: prints each figure as a ratio, with the bound that it should keep."""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.catalogue import catalogue_size
from bench.database import throughput
from bench.figure import Figure
from bench.idle import idle_database, idle_operations
from bench.libraries import libraries
from bench.service import list_memory, service_on_postgres, service_on_sqlite
from bench.workers import workers
from crypto import Context
from tests.world.airtable import AirtableServer
from tests.world.airtable.limits import PER_BASE
from tests.world.oauth import OAuthServer
from tests.world.program import ROOT, Program

IMPORTS = "import pyairtable, cryptography.hazmat.primitives.ciphers.aead"
ROUNDS = 5
ROWS = 1_000
PLAIN_ROWS = 60
TABLE_ROWS = 20_000
CALLS_A_SECOND = 4
MIB = 1024 * 1024
PROVIDER_LATENCY_SECONDS = 0.3
AIRTABLE_JITTER_SECONDS = 0.04


@dataclass(frozen=True)
class JobFactory:
    """A configured program on the fake Airtable."""

    program: Program
    airtable: AirtableServer
    oauth: OAuthServer

    def add_rows(self, count: int, expiry: str | None = None, name: str = "location") -> dict[str, dict[str, str]]:
        """Fill the table; returns the secrets in plain text by location, as a token request."""
        table = self.airtable.table("APISecrets")
        plain = {}
        for number in range(count):
            location = f"{name} {number}"
            token = self.oauth.grant("gohighlevel", "app", location_id=location)
            cells = {
                "locationId": location,
                "provider": "gohighlevel",
                "client_id": "app",
                "access_token_expiry": expiry,
            }
            cells |= {
                name: self._seal(name, location, text)
                for name, text in (("encrypted_secret", "bench"), ("encrypted_refresh", token))
            }
            table.add({name: value for name, value in cells.items() if value is not None})
            plain[location] = {
                "token_url": self.oauth.token_url("gohighlevel"), "grant_type": "refresh_token", "client_id": "app",
                "client_secret": "bench", "refresh_token": token, "user_type": "Location",
            }  # fmt: skip
        return plain

    def _seal(self, column: str, location: str, text: str) -> str:
        return self.program.keyring.seal(text, Context(column, location, self.oauth.url))

    def refresh(self, code: int = 0) -> None:
        """One run as cron does it, which ends with this exit code."""
        self.call([sys.executable, "token_manager.py"], code=code)

    def peak_memory(self) -> float:
        """Bytes that one run needs at most, told by itself as it ends."""
        environment = self.program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
        command = [sys.executable, "bench/peak.py"]
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, check=True, capture_output=True)
        return float(done.stdout)

    def call(self, command: list[str], stdin: str = "", code: int = 0) -> None:
        """Run a process with the program's settings, which ends with this exit code."""
        environment = self.program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
        done = subprocess.run(command, cwd=ROOT, env=environment, input=stdin, text=True, capture_output=True)
        if done.returncode != code:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


@contextmanager
def bench(*, airtable_limits: bool = True) -> Iterator[JobFactory]:
    """Fakes, an empty table, and the program."""
    limit = PER_BASE if airtable_limits else None
    with (
        tempfile.TemporaryDirectory() as folder,
        AirtableServer(jitter_seconds=AIRTABLE_JITTER_SECONDS, requests_per_second=limit) as airtable,
        OAuthServer(latency=PROVIDER_LATENCY_SECONDS) as oauth,
    ):
        airtable.credentials_table()
        oauth.add_client("gohighlevel", "app", "bench")
        settings = {
            "AIRTABLE_API_KEY": airtable.token,
            "AIRTABLE_BASE_ID": airtable.base_id,
            "AIRTABLE_ENDPOINT_URL": airtable.url,
            "GOHIGHLEVEL_TOKEN_URL": oauth.token_url("gohighlevel"),
        }
        yield JobFactory(Program(Path(folder), settings), airtable, oauth)


def processor_seconds(act: Callable[[], None]) -> float:
    """User and system time of the processes that `act` waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    act()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wall_seconds(act: Callable[[], None]) -> float:
    """How long `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def idle_run() -> Figure:
    """A run that finds nothing due costs little more than loading the libraries."""
    with bench() as one:
        one.add_rows(200, expiry="2099-01-01T00:00:00.000Z")
        one.refresh()
        calls = len(one.airtable.requests)
        ratios = []
        for _ in range(ROUNDS):
            ours = processor_seconds(one.refresh)
            ratios.append(ours / processor_seconds(lambda: one.call([sys.executable, "-c", IMPORTS])))
        made = (len(one.airtable.requests) - calls) / ROUNDS
    return Figure(
        "idle run / importing its libraries (processor)", statistics.median(ratios), "1.3", f"{made:g} call a run"
    )


def second_run() -> Figure:
    """A run that finds another one active ends before it loads much."""
    with bench() as one:
        one.refresh()  # leaves the modules compiled, and makes the folder of the lock
        [lock] = one.program.home.rglob("run.lock")
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            ours = [processor_seconds(lambda: one.refresh(75)) for _ in range(ROUNDS)]
            bare = [processor_seconds(lambda: one.call([sys.executable, "-c", "pass"])) for _ in range(ROUNDS)]
    ended, started = statistics.median(ours), statistics.median(bare)
    return Figure(
        "run that finds another one active / bare Python (processor)", ended / started, "10",
        f"{1000 * ended:.0f} ms / {1000 * started:.0f} ms",
    )  # fmt: skip


def full_run() -> list[Figure]:
    """A thousand due rows: calls and time against what Airtable's limits allow, and against the plain loop."""
    with bench() as one:
        plain = one.add_rows(PLAIN_ROWS)
        script = [sys.executable, "bench/plain_loop.py"]
        loop = wall_seconds(lambda: one.call(script, stdin=json.dumps(plain))) / PLAIN_ROWS
    with bench() as one:
        one.add_rows(ROWS)
        ours = wall_seconds(one.refresh)
        calls = sum(one.airtable.calls.values())
        refused = one.airtable.answers[429]
    ideal = 2 * math.ceil(ROWS / 100) + math.ceil(ROWS / 10)
    pace = calls / CALLS_A_SECOND
    return [
        Figure("(calls - 3) / pages, batches, comparisons", (calls - 3) / ideal, "1.05", f"{calls}, {refused} refused"),
        Figure("a run / its calls at the configured rate (wall)", ours / pace, "1.10", f"{ours:.1f} s / {pace:.1f} s"),
        Figure(
            "plain loop / a run, per row (wall)", loop * ROWS / ours, "at least 8",
            f"{1 / loop:.1f} and {ROWS / ours:.1f} rows a second",
        ),
    ]  # fmt: skip


def table_size() -> Figure:
    """Memory grows with the rows that are due, not with the table."""
    peaks = []
    for fresh in (0, TABLE_ROWS - ROWS):
        with bench(airtable_limits=False) as one:
            one.add_rows(ROWS)
            one.add_rows(fresh, expiry="2099-01-01T00:00:00.000Z", name="fresh")
            peaks.append(one.peak_memory())
    return Figure(
        f"memory, {ROWS} due of {TABLE_ROWS} rows / of {ROWS}", peaks[1] / peaks[0], "1.2",
        f"{peaks[1] / MIB:.0f} MiB / {peaks[0] / MIB:.0f} MiB",
    )  # fmt: skip


SECTIONS: dict[str, Sequence[Callable[[], list[Figure]]]] = {
    "airtable": (lambda: [idle_run(), second_run()], full_run, lambda: [table_size()]),
    "sqlite": (throughput,),
    "idle": (idle_operations, idle_database),
    "catalogue": (catalogue_size,),
    "workers": (workers,),
    "libraries": (libraries,),
    "service": (service_on_sqlite, service_on_postgres, lambda: [list_memory()]),
}


def main() -> None:
    """Measure the sections that are named, or all, and print."""
    chosen = sys.argv[1:] or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        sys.exit(f"There is no section {', '.join(unknown)}. There are: {', '.join(SECTIONS)}.")
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, Python {sys.version.split()[0]}", flush=True)
    for figure in (figure for name in chosen for measure in SECTIONS[name] for figure in measure()):
        print(f"{figure.ratio:7.2f}  (bound: {figure.bound})  {figure.name}: {figure.detail}", flush=True)


if __name__ == "__main__":
    main()
