"""One run of the program in a process of its own, forked from a server that has imported everything.

A start from nothing costs a second, such a fork a few milliseconds: so a thousand of them can be killed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.chaos.clock import SharedClock
from token_refresh import commands as cli
from token_refresh.commands import onboard
from token_refresh.stores.database.backend import Backend
from token_refresh.stores.database.postgres import PostgresBackend

RUN = "token_manager.py"
ONBOARD = "onboard_client.py"

# What the verb imports when it is used; here that is once, before the first fork.
for _name in (
    "token_refresh.commands.refresh",
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
    forks: ForkServerContext, script: str, argv: Sequence[str], settings: dict[str, str], clock: Path, log: Path
) -> BaseProcess:
    """A process that has just begun to `RUN` or to `ONBOARD`; what it prints goes into `log`."""
    process = forks.Process(target=_run, args=(script, tuple(argv), settings, clock, log), daemon=True)
    process.start()
    return process


def _run(script: str, argv: Sequence[str], settings: dict[str, str], clock: Path, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    moved = SharedClock(clock)
    main = cli.main if script == RUN else onboard.main
    code = main(argv, settings, moved)
    sys.stdout.flush()
    sys.exit(code)
