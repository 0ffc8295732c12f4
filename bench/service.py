"""How many tokens the HTTP service hands out a second, and how long a caller waits, beside a constant route."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import requests

from bench.figure import Figure
from bench.peak import peak_of
from bench.world import (
    CLIENT_ID,
    LIFETIME_SECONDS,
    SECRET,
    cost_of_run,
    fill,
    installation,
    many_rows,
    postgres,
    scratch,
)
from bench.world import address_of as address
from tests.world.oauth import OAuthServer
from tests.world.ports import free_port
from tests.world.postgres import plain
from tests.world.program import ROOT, Program
from token_refresh.base.clock import SystemClock
from token_refresh.stores.database import CREDENTIALS, DatabaseStore

CONNECTIONS = 64
ROUNDS = 3
LEAST_ROWS = 500
TIMES = 30  # that each token is asked for in a round: about a minute for all rounds
EXPIRING = 100  # one token in so many
PROVIDER_SECONDS = 0.1
PAGE, LISTED = 1_000, 10_000  # clients
MIB = 1024 * 1024
START_SECONDS = 60.0
_SOON = timedelta(seconds=60)  # less than the 300 s that a caller wants


@dataclass(frozen=True)
class Took:
    """One round: requests a second, and the seconds that one in a hundred waits for at least."""

    rate: float
    p99: float


def service_on_sqlite() -> list[Figure]:
    """On the embedded database."""
    with scratch() as folder, constant_route() as port:
        return _figures(folder / "home", "SQLite", "at least 0.3", {}, port)


def service_on_postgres() -> list[Figure]:
    """On a server of the bench's own, on the same cores."""
    with scratch() as folder, postgres() as server, constant_route() as port:
        settings = {"DATABASE_URL": plain(server.database("template0"))}
        return _figures(folder / "home", "PostgreSQL", "at least 0.12", settings, port)


def list_memory() -> Figure:
    """A list of all clients, page by page, needs no more memory for ten thousand than for one page of them."""
    peaks = []
    for count in (PAGE, LISTED):
        with scratch() as folder:
            program = installation(folder / "home", "http://127.0.0.1:9/token", LIFETIME_SECONDS)
            fill(program, "http://127.0.0.1:9/token", [f"token {number}" for number in range(count)])
            with running(program) as (port, key, pid):
                assert sum(_pages(port, key)) == count
                peaks.append(peak_of(pid))
    return Figure(
        f"memory, a list of {LISTED} clients / of {PAGE}", peaks[1] / peaks[0], "1.2",
        f"{peaks[1] / MIB:.0f} MiB / {peaks[0] / MIB:.0f} MiB",
    )  # fmt: skip


def _pages(port: int, key: str) -> Iterator[int]:
    """How many clients are on each page of the list."""
    after: str | None = ""
    while after is not None:
        answer = requests.get(
            f"http://127.0.0.1:{port}/tokens",
            params={"limit": str(PAGE)} | ({"after": after} if after else {}),
            headers={"Authorization": f"Bearer {key}"},
            timeout=START_SECONDS,
        ).json()
        yield len(answer["tokens"])
        after = answer["next"]


def _figures(home: Path, name: str, bound: str, settings: dict[str, str], constant: int) -> list[Figure]:
    count = many_rows(0.005, LEAST_ROWS)
    with OAuthServer(latency=PROVIDER_SECONDS) as oauth:
        oauth.add_client("acme", CLIENT_ID, SECRET)
        program = installation(home, oauth.token_url("acme"), LIFETIME_SECONDS, **settings)
        tokens = [oauth.grant("acme", CLIENT_ID, location_id=f"location {number}") for number in range(count)]
        fill(program, oauth.token_url("acme"), tokens)
        cost_of_run(program)  # each has a token now
        with running(program) as (port, key, _):
            before, ours, theirs = len(oauth.requests), [], []
            for _ in range(ROUNDS):
                expire(program, count // EXPIRING)
                paths = [f"/tokens/location%20{number}" for number in range(count)] * TIMES
                theirs.append(load(constant, "", ["/constant"] * len(paths)))
                ours.append(load(port, key, paths))
            calls = (len(oauth.requests) - before) / (ROUNDS * (count // EXPIRING))
    rate, usual = median(one.rate for one in ours), median(one.rate for one in theirs)
    p99, usual_p99 = median(one.p99 for one in ours), median(one.p99 for one in theirs)
    what = f"{CONNECTIONS} connections, one token in {EXPIRING} expiring, {name}"
    return [
        Figure(f"tokens a second / a constant route, {what}", rate / usual, bound, f"{rate:.0f} / {usual:.0f}"),
        Figure(
            f"what one in a hundred waits, likewise, {name}", p99 / usual_p99, "at most 5",
            f"{p99 * 1000:.0f} / {usual_p99 * 1000:.0f} ms; the provider takes {PROVIDER_SECONDS * 1000:.0f} ms",
        ),
        Figure(f"provider calls an expiry, {name}", calls, "1", f"{TIMES} requests for each token a round"),
    ]  # fmt: skip


def load(port: int, key: str, paths: Sequence[str]) -> Took:
    """Ask for all of them, in any order, over all connections."""
    mixed = random.Random(1).sample(paths, len(paths))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    asked = {"port": port, "headers": headers, "paths": [mixed[start::CONNECTIONS] for start in range(CONNECTIONS)]}
    command = [sys.executable, "bench/load.py"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(asked), text=True, check=True, capture_output=True)
    said: dict[str, Any] = json.loads(done.stdout)
    assert set(said["statuses"]) == {"200"}, said["statuses"]
    return Took(len(paths) / said["seconds"], quantiles(said["waits"], n=100)[-1])


def expire(program: Program, count: int) -> None:
    """So many tokens end soon."""
    with contextlib.closing(DatabaseStore(address(program), SystemClock())) as store, store._engine.begin() as shell:
        chosen = random.sample(
            [row for (row,) in shell.execute(CREDENTIALS.select().with_only_columns(CREDENTIALS.c.id))], count
        )
        soon = CREDENTIALS.update().where(CREDENTIALS.c.id.in_(chosen))
        shell.execute(soon.values(access_token_expiry=datetime.now(UTC) + _SOON))


@contextmanager
def running(program: Program) -> Iterator[tuple[int, str, int]]:
    """The service as a process, its port, a key, and its number."""
    key = subprocess.run(
        [sys.executable, "token_manager.py", "api-key", "create", "bench", "--scope", "tokens", "--scope", "read"],
        cwd=ROOT, env=program.environment(), text=True, check=True, capture_output=True,
    ).stdout.strip()  # fmt: skip
    port = free_port()
    command = [sys.executable, "-m", "token_refresh.service"]
    with serving(command, port, "/ready", program.environment({"PORT": str(port)})) as pid:
        yield port, key, pid


@contextmanager
def constant_route() -> Iterator[int]:
    """The other one, and its port."""
    port = free_port()
    with serving([sys.executable, "bench/constant_route.py", str(port)], port, "/constant", None):
        yield port


@contextmanager
def serving(command: Sequence[str], port: int, path: str, environment: dict[str, str] | None) -> Iterator[int]:
    """A server, once it answers; its process."""
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            ends = time.monotonic() + START_SECONDS
            while not _answers(port, path):
                assert process.poll() is None, "it ended"
                assert time.monotonic() < ends, "it does not begin"
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()


def _answers(port: int, path: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).ok
    return False
