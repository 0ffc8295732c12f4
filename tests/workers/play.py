"""Eight workers on three hosts: two are killed, one stands still, the server is restarted; then all is looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.chaos.stage import refuse_torn
from tests.conftest import World, providers_file
from tests.workers import child
from tests.world.oauth import OAuthServer
from tests.world.oauth.faults import Act, Call, Fault
from tests.world.postgres import PostgresServer, plain
from tests.world.program import Program

KINDS = ("acme", "acme-family")  # refresh tokens that may be sent once
HOSTS = {"a": 4, "b": 3, "c": 1}
STILL_SECONDS = child.EXCHANGE_SECONDS + 2
AHEAD_SECONDS = 1200.0  # how far the clock of the host that stood still has gone on
WAIT_SECONDS = 300.0
TOLD = "the answer was lost on"
# What happens when so many of the rows' tokens have arrived at the providers.
KILL_A, STOP_C, KILL_B, RESTART, GO_ON = 0.15, 0.25, 0.4, 0.55, 0.8


@dataclass
class Figures:
    """What was done and found."""

    rows: int
    seconds: float = 0.0
    fresh: int = 0
    killed: int = 0
    window: int = 0  # requests of killed workers that were out when they died
    lost: int = 0  # of these the ones whose provider had committed
    sent_twice: int = 0
    codes: list[int | None] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Stage:
    """The table, the providers and the hosts."""

    def __init__(self, server: PostgresServer, folder: Path, forks: ForkServerContext, rows: int) -> None:
        self.server = server
        self.folder = folder
        self.forks = forks
        self.oauth = OAuthServer()
        self.address = server.database()
        self.figures = Figures(rows)
        self.claimed = max(10, min(500, rows // 40))
        self.window: set[str] = set()
        self._arrived = 0
        self._changed = threading.Condition()
        own = folder / "providers.toml"
        own.write_text(providers_file(self.oauth))
        settings = {"PROVIDERS_FILE": str(own), "DATABASE_URL": plain(self.address), "LOG_LEVEL": "INFO"}
        self.program = Program(folder, settings)
        self.world = World(None, self.oauth, self.program)  # type: ignore[arg-type]
        self.oauth.fail(Fault("count", self._count), times=float("inf"))

    def __enter__(self) -> Stage:
        self.oauth.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.oauth.__exit__(None, None, None)
        self.server.drop(self.address)

    def fill(self) -> None:
        """As many rows as are wanted, all of them due."""
        for kind in KINDS:
            self.world.add_client(kind)
        names = ("locationId", "provider", "client_id", "encrypted_secret", "encrypted_refresh")
        made = (self.world.cells(KINDS[n % len(KINDS)], f"loc{n}") for n in range(self.figures.rows))
        statement = (
            "INSERT INTO credentials (location_id, provider, client_id, encrypted_secret, encrypted_refresh)"
            " VALUES (%s, %s, %s, %s, %s)"
        )
        with closing(self.server.connect(self.address)) as shell, shell.cursor() as cursor:
            cursor.executemany(statement, ([cells[name] for name in names] for cells in made))

    def start(self, host: str) -> BaseProcess:
        """A worker of a host."""
        return child.start(
            self.forks, self.program.settings | {"STATE_DIR": str(self.folder / host)},
            self.clock(host)._file, self.folder / f"{host}.log", self.claimed,
        )  # fmt: skip

    def clock(self, host: str) -> child.OffsetClock:
        """A host's own."""
        return child.OffsetClock(self.folder / f"{host}.clock")

    def wait_for(self, share: float, workers: list[BaseProcess]) -> None:
        """Until this share of the rows has been at its provider, or nobody works any more."""
        deadline = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while self._arrived < share * self.figures.rows and time.monotonic() < deadline:
                self._changed.wait(0.2)
                if all(worker.exitcode is not None for worker in workers):
                    return

    def kill(self, worker: BaseProcess, host: str) -> None:
        """And look at what it had out."""
        slots = self._open_slots(worker)
        worker.kill()
        worker.join()
        self.figures.killed += 1
        self.window |= {location for slot in slots for location in self._sent(host, slot)}

    def rows(self) -> list[dict[str, Any]]:
        """The table."""
        with closing(self.server.connect(self.address)) as shell:
            return shell.execute("SELECT * FROM credentials ORDER BY id").fetchall()

    def _open_slots(self, worker: BaseProcess) -> set[Path]:
        """The journals that a process has open."""
        assert worker.pid is not None
        found: set[Path] = set()
        for link in Path(f"/proc/{worker.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = link.readlink()
                if target.name.startswith("journal-") and target.suffix == ".sqlite3":
                    found.add(target)
        return found

    def _sent(self, host: str, journal: Path) -> list[str]:
        """The locations whose request was out, read from a copy: the file itself is for the next process."""
        copy = self.folder / f"copy-{host}.sqlite3"
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{journal}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as database:
            return [name for (name,) in database.execute("SELECT location_id FROM entries WHERE step = 'sent'")]

    def _count(self, call: Call, act: Act) -> Any:
        refuse_torn(call.request)
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
        return act()


def play(server: PostgresServer, folder: Path, forks: ForkServerContext, rows: int) -> Figures:
    """From a table that is all due to one that is all fresh."""
    with Stage(server, folder, forks, rows) as stage:
        stage.fill()
        began = time.monotonic()
        workers = {host: [stage.start(host) for _ in range(count)] for host, count in HOSTS.items()}
        everyone = [worker for some in workers.values() for worker in some]
        _disturb(stage, workers, lambda share: stage.wait_for(share, everyone))
        for worker in everyone:
            worker.join(WAIT_SECONDS)
        stage.figures.codes = [worker.exitcode for worker in everyone]
        _finish(stage)
        stage.figures.seconds = time.monotonic() - began
        _judge(stage)
        return stage.figures


def _disturb(stage: Stage, workers: dict[str, list[BaseProcess]], reached: Callable[[float], None]) -> None:
    [still] = workers["c"]
    assert still.pid is not None
    reached(KILL_A)
    stage.kill(workers["a"][0], "a")
    reached(STOP_C)
    os.kill(still.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    reached(KILL_B)
    stage.kill(workers["b"][0], "b")
    reached(RESTART)
    stage.server.restart()
    reached(GO_ON)
    time.sleep(max(0.0, stopped + STILL_SECONDS - time.monotonic()))
    stage.clock("c").advance(AHEAD_SECONDS)
    os.kill(still.pid, signal.SIGCONT)


def _finish(stage: Stage) -> None:
    """The next runs of each host, an exchange's limit later: what the dead have left is finished by their own."""
    for _ in range(2):
        for host in HOSTS:
            stage.clock(host).advance(100)
            worker = stage.start(host)
            worker.join(WAIT_SECONDS)
            stage.figures.codes.append(worker.exitcode)


def _judge(stage: Stage) -> None:
    figures, oauth = stage.figures, stage.oauth
    now = datetime.now(UTC) + timedelta(minutes=30)
    for row in stage.rows():
        name = row["location_id"]
        token = stage.world.open_refresh(name, row["encrypted_refresh"])
        if row["status"] == "reauthorize" and name in stage.window and TOLD in row["last_error"]:
            figures.lost += 1
        elif not _is_current(oauth, token) or row["access_token_expiry"] is None or row["access_token_expiry"] < now:
            figures.violations.append(f"{name} is not fresh: {row['status']}, {row['last_error']!r}")
        else:
            figures.fresh += 1
            if row["claim_owner"] is not None:
                figures.violations.append(f"{name} is still claimed by {row['claim_owner']}")
    figures.window = len(stage.window)
    twice = {oauth.family(token.value).location_id or "" for token in oauth.sent_twice()}
    figures.sent_twice = len(twice)
    figures.violations += [f"{name} was sent twice, and no killed worker had it" for name in twice - stage.window]
    figures.violations += oauth.violations


def _is_current(oauth: OAuthServer, token: str) -> bool:
    try:
        return oauth.current(token) == token
    except LookupError:
        return False
