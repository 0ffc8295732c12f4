"""`make bench`: prints each figure as a ratio, with the bound that it should keep."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crypto import Context
from tests.world.airtable import AirtableServer
from tests.world.oauth import OAuthServer
from tests.world.program import ROOT, Program

IMPORTS = "import pyairtable, cryptography.hazmat.primitives.ciphers.aead"
ROUNDS = 5
ROWS = 60
PROVIDER_LATENCY_SECONDS = 0.3
AIRTABLE_LATENCY_SECONDS = 0.04


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    ratio: float
    bound: str
    detail: str


@dataclass(frozen=True)
class Bench:
    """A configured program on the fake Airtable."""

    program: Program
    airtable: AirtableServer
    oauth: OAuthServer

    def add_rows(self, count: int, expiry: str | None = None) -> dict[str, dict[str, str]]:
        """Fill the table; returns the secrets in plain text by location, as a token request."""
        table = self.airtable.table("APISecrets")
        plain = {}
        for number in range(count):
            location = f"location {number}"
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

    def refresh(self) -> None:
        """One run as cron does it."""
        self.call([sys.executable, "token_manager.py"])

    def call(self, command: list[str], stdin: str = "") -> None:
        """Run a process with the program's settings."""
        environment = self.program.environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""})
        subprocess.run(command, cwd=ROOT, env=environment, input=stdin, text=True, check=True, capture_output=True)


@contextmanager
def bench() -> Iterator[Bench]:
    """Fakes, an empty table, and the program."""
    with (
        tempfile.TemporaryDirectory() as folder,
        AirtableServer(latency_seconds=AIRTABLE_LATENCY_SECONDS) as airtable,
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
        yield Bench(Program(Path(folder), settings), airtable, oauth)


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


def against_plain_loop() -> Figure:
    """A run with much to do, beside the loop that people write first."""
    with bench() as one:
        plain = one.add_rows(ROWS)
        script = [sys.executable, "bench/plain_loop.py"]
        loop = wall_seconds(lambda: one.call(script, stdin=json.dumps(plain)))
    with bench() as one:
        one.add_rows(ROWS)
        ours = wall_seconds(one.refresh)
        limited = one.airtable.answers[429]
    return Figure(
        f"plain loop / a run, {ROWS} rows due (wall)",
        loop / ours,
        "at least 8",
        f"{loop:.1f} s / {ours:.1f} s, {limited} refused",
    )


def main() -> None:
    """Measure and print."""
    figures = [idle_run(), against_plain_loop()]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for figure in figures:
        print(f"{figure.ratio:7.2f}  (bound: {figure.bound})  {figure.name}: {figure.detail}")


if __name__ == "__main__":
    main()
