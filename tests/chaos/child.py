"""One run of the program in a process of its own, forked from a server that has imported everything.

A start from nothing costs a second, such a fork a few milliseconds: so a thousand of them can be killed.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import multiprocessing
import os
import pty
import sqlite3
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.chaos.clock import SharedClock
from token_refresh import commands as cli
from token_refresh.base.clock import Clock
from token_refresh.base.errors import TokenError
from token_refresh.commands import onboard
from token_refresh.library import TokenManager
from token_refresh.stores.database.backend import Backend
from token_refresh.stores.database.postgres import PostgresBackend

RUN = "token_manager.py"
ONBOARD = "onboard_client.py"
TERMINAL = "onboard_client.py at a terminal"  # its argument: what is typed, by question
LIBRARY = "TokenManager"  # its arguments: a method, and what it is given

# What stands beside the clock's file while the journals' disk is full; its text: whether the ballast makes room.
DISK_FULL, WITHOUT_BALLAST, WITH_BALLAST = "disk-full", "although the ballast is gone", "until the ballast is gone"

# What the verbs import when they are used; here that is once, before the first fork.
for _name in (
    "token_refresh.commands.refresh",
    "token_refresh.commands.import_rows",
    "token_refresh.commands.recover",
    "token_refresh.commands.revoke",
    "token_refresh.commands.rotate_key",
    "token_refresh.clients.removal",
    "token_refresh.keys.rotation",
    "token_refresh.terminal.report",
    "token_refresh.refresh.run",
    "token_refresh.clients.admission",
    "token_refresh.journal.entries",
    "token_refresh.net.transport",
    "token_refresh.stores.database",
    "token_refresh.stores.airtable",
    "token_refresh.stores.sealed",
    "sqlalchemy.dialects.sqlite",
    "token_refresh.stores.database.sqlite",
    "token_refresh.stores.database.postgres",
    "sqlalchemy.dialects.postgresql.psycopg",
    "psycopg",
):
    importlib.import_module(_name)
PostgresBackend.clock = Backend.clock  # type: ignore[method-assign] # the server's clock is not the round's


def context() -> ForkServerContext:
    """Where the processes come from."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__])
    return made


def start(
    forks: ForkServerContext,
    script: str,
    argv: Sequence[str],
    settings: dict[str, str],
    clock: Path,
    log: Path,
    host: str = "",
) -> BaseProcess:
    """A process that has just begun one of the scripts above; what it prints goes into `log`.

    `host` is what its machine is called; by default as this one.
    """
    process = forks.Process(target=_run, args=(script, tuple(argv), settings, clock, log, host), daemon=True)
    process.start()
    return process


def _run(script: str, argv: Sequence[str], settings: dict[str, str], clock: Path, log: Path, host: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    machine = os.uname()
    named = os.uname_result((machine[0], host or machine[1], *machine[2:]))
    os.uname = lambda: named
    sqlite3.connect = partial(_connected, sqlite3.connect, clock.with_name(DISK_FULL))  # type: ignore[assignment]
    services = SharedClock(clock)
    PostgresBackend.clock = lambda self, connection: services.now()  # type: ignore[method-assign]
    code = _MAINS[script](argv, settings, SharedClock(clock, is_machines=True))
    sys.stdout.flush()
    sys.exit(code)


def _at_terminal(argv: Sequence[str], settings: dict[str, str], clock: Clock) -> int:
    """Somebody types the answers to the questions as they come."""
    os.setsid()
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSCTTY)
    shown = os.dup(2)
    os.dup2(terminal, 0)
    os.dup2(terminal, 2)
    threading.Thread(target=_type, args=(person, json.loads(argv[0]), shown), daemon=True).start()
    return onboard.main((), settings, clock)


def _type(person: int, answers: dict[str, str], shown: int) -> None:
    seen = ""
    while True:
        seen += (text := os.read(person, 4096)).decode(errors="replace")
        os.write(shown, text)
        for question, answer in answers.items():
            if question in seen:
                seen = ""
                os.write(person, f"{answer}\r".encode())


def _by_library(argv: Sequence[str], settings: dict[str, str], clock: Clock) -> int:
    method, arguments = argv
    with TokenManager.from_settings(settings, clock) as manager:
        try:
            getattr(manager, method)(**json.loads(arguments))
        except TokenError as error:
            print(f"{error}. {error.action}")
            return 1
    return 0


_MAINS: dict[str, Callable[[Sequence[str], dict[str, str], Clock], int]] = {
    RUN: cli.main,
    ONBOARD: onboard.main,
    TERMINAL: _at_terminal,
    LIBRARY: _by_library,
}


def _connected(connect: Callable[..., sqlite3.Connection], full: Path, path: Any, **options: Any) -> sqlite3.Connection:
    """As `sqlite3.connect`; a journal's connection finds its disk full while the file `full` is there."""
    name = Path(str(path))
    if not name.name.startswith("journal-"):
        return connect(path, **options)
    connection = connect(path, factory=_OnDisk, **options)
    assert isinstance(connection, _OnDisk)
    connection.full, connection.ballast = full, name.with_name("ballast")
    return connection


class _OnDisk(sqlite3.Connection):
    full: Path
    ballast: Path

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self._is_full():
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *values)

    def _is_full(self) -> bool:
        return self.full.exists() and (self.full.read_text() == WITHOUT_BALLAST or self.ballast.exists())
