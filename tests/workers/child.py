"""One worker in a process of its own, forked from a server that has imported everything."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import struct
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from token_refresh import commands as cli
from token_refresh.base.clock import SystemClock
from token_refresh.net import transport
from token_refresh.refresh import listing

for _name in (
    "token_refresh.commands.refresh",
    "token_refresh.terminal.report",
    "token_refresh.refresh.run",
    "token_refresh.clients.admission",
    "token_refresh.journal.entries",
    "token_refresh.stores.sealed",
    "token_refresh.stores.database.postgres",
    "sqlalchemy.dialects.postgresql.psycopg",
    "psycopg",
):
    importlib.import_module(_name)

EXCHANGE_SECONDS = 3.0  # short, so that a worker can be stopped for longer
_SECONDS = struct.Struct("d")


class OffsetClock(SystemClock):
    """The machine's clock, so many seconds ahead as a file says: each host has its own."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """See `Clock.now`."""
        return super().now() + timedelta(seconds=self._offset())

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return super().monotonic() + self._offset()

    def advance(self, seconds: float) -> None:
        """Let time pass on this host."""
        self._file.write_bytes(_SECONDS.pack(self._offset() + seconds))

    def _offset(self) -> float:
        return float(_SECONDS.unpack(self._file.read_bytes())[0]) if self._file.exists() else 0.0


def context() -> ForkServerContext:
    """Where the processes come from."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__])
    return made


def start(forks: ForkServerContext, settings: dict[str, str], clock: Path, log: Path, claimed: int) -> BaseProcess:
    """A worker that takes `claimed` rows at a time."""
    process = forks.Process(target=_work, args=(settings, clock, log, claimed), daemon=True)
    process.start()
    return process


def _work(settings: dict[str, str], clock: Path, log: Path, claimed: int, argv: Sequence[str] = ("--json",)) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    listing.CLAIMED_ROWS = claimed
    quick = functools.partial(transport.HTTPTransport, exchange_seconds=EXCHANGE_SECONDS)
    transport.HTTPTransport = quick  # type: ignore[assignment, misc]
    code = cli.main(argv, settings, OffsetClock(clock))
    sys.stdout.flush()
    sys.exit(code)
