"""A process that meets its fate at one labelled point of a refresh, and what it leaves behind.

The seams are those that a run is made of: the connection behind the journal and the store. The fates are real where
that is cheap: SIGKILL is the kernel's, an I/O error is the kernel's refusal of any further byte (RLIMIT_FSIZE; journal,
ballast and embedded database share that disk), read-only is SQLite's own refusal (`PRAGMA query_only`). A full disk is
a connection that refuses as SQLite does, until the ballast is gone.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import gc
import os
import resource
import signal
import sqlite3
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.conftest import World
from token_refresh.base.errors import Kind
from token_refresh.commands import prepare
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import RunContext, Scope
from token_refresh.stores.base import Change
from token_refresh.stores.database import DatabaseStore
from token_refresh.terminal.console import Console
from token_refresh.terminal.guard import guarded
from token_refresh.wiring import Installation, open_run_context

PATIENCE_SECONDS = 60
LIVED = 99  # exit code of a process whose fate never came


class Point(enum.StrEnum):
    """Where a process is struck, in the order of a run."""

    REPLAY = "before the journal is replayed"
    INTENT = "before the intent is on disk"
    SENT = "after the intent, before the request leaves"
    ACTED = "after the provider acted, before its answer is on disk"
    KEPT = "after the answer is on disk, before it is read"
    WRITE = "before the store's write"
    WRITTEN = "after the store's write, before its answer"
    CONFIRMED = "after the confirmation, before the entry is cleared"
    CLEARED = "after the entry is cleared"


class Fate(enum.StrEnum):
    """What happens there."""

    KILL = "kill"
    RAISE = "raise"
    FULL = "full"
    READ_ONLY = "read-only"
    IO_ERROR = "I/O error"


# The statements of the journal: what they begin with, the point before each, the point after its commit.
_STATEMENTS = (
    ("SELECT id, uid", Point.REPLAY, None),
    ("INSERT INTO entries", Point.INTENT, Point.SENT),
    ("UPDATE entries SET step = ?, origin", Point.INTENT, Point.SENT),
    ("UPDATE entries SET step = ?, answer", Point.ACTED, Point.KEPT),
    ("UPDATE entries SET step = ? WHERE", Point.CONFIRMED, Point.CLEARED),
    ("DELETE FROM entries", Point.CONFIRMED, Point.CLEARED),
)


class Trap:
    """Waits at one point and springs once."""

    def __init__(self, point: Point, fate: Fate) -> None:
        self.point = point
        self.fate = fate
        self.is_full = False
        self.is_sprung = False

    def reach(self, point: Point | None, make_read_only: Callable[[], Any]) -> None:
        """The process comes to a point."""
        if point is not self.point or self.is_sprung:
            return
        self.is_sprung = True
        if self.fate is Fate.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.fate is Fate.RAISE:
            raise IndexError("CANARY: a message may quote what it was given")
        elif self.fate is Fate.READ_ONLY:
            make_read_only()
        elif self.fate is Fate.IO_ERROR:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        else:
            self.is_full = True

    def connect(self, path: Path, **options: Any) -> sqlite3.Connection:
        """Opens a journal's file; see `token_refresh.journal.file.Connect`."""
        self.ballast = path.with_name("ballast")
        connection = sqlite3.connect(path, factory=_Connection, **options)
        connection.trap = self
        return connection


class _Connection(sqlite3.Connection):
    trap: Trap
    after: Point | None = None

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        before, after = next(
            ((one, two) for words, one, two in _STATEMENTS if statement.startswith(words)), (None,) * 2
        )
        self.after = after or self.after
        self.trap.reach(before, lambda: sqlite3.Connection.execute(self, "PRAGMA query_only = ON"))
        if statement == "COMMIT" and self.trap.is_full and self.trap.ballast.exists():
            raise sqlite3.OperationalError("database or disk is full")
        done = super().execute(statement, *values)
        if statement == "COMMIT":
            committed, self.after = self.after, None
            self.trap.reach(committed, lambda: None)
        return done


class _Store:
    """A store with a trap on either side of its writes."""

    def __init__(self, store: Any, trap: Trap) -> None:
        self._store = store
        self._trap = trap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, changes: Sequence[Change]) -> Any:
        return self._trapped(lambda: self._store.write(changes))

    def create(self, values: Any) -> Any:
        return self._trapped(lambda: self._store.create(values))

    def _trapped(self, act: Callable[[], Any]) -> Any:
        self._trap.reach(Point.WRITE, self._make_read_only)
        done = act()
        self._trap.reach(Point.WRITTEN, lambda: None)
        return done

    def _make_read_only(self) -> None:
        assert isinstance(self._store, DatabaseStore)
        sa.event.listen(self._store._engine, "begin", lambda one: one.exec_driver_sql("PRAGMA query_only = ON"))


Act = Callable[[RunContext], Iterable[Kind]]


def refresh(context: RunContext) -> Iterable[Kind]:
    """A run of cron's."""
    return Refresher(context, print).run(Scope()).kinds()


@dataclass(frozen=True)
class End:
    """How a process ended: exit code, or the negative number of a signal; and all that it printed."""

    code: int
    said: str


def struck(world: World, point: Point, fate: Fate, act: Act = refresh, *, is_killed: bool | None = None) -> End:
    """A process that does `act` and is struck: a fork of this one, which is warm, on a copy of the test's clock.

    `is_killed`: whether it ends by SIGKILL, where that is not its fate but something that `act` does.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: those of the fake services, which it never asks
        child = os.fork()
    if not child:
        os.close(read)
        _live(world, point, fate, act, write)
    os.close(write)
    with open(read) as printed:  # noqa: PTH123 - a descriptor
        said = printed.read()
    _, status = os.waitpid(child, 0)
    end = End(os.waitstatus_to_exitcode(status), said)
    assert end.code != LIVED, f"{fate} at {point} never came\n{said}"
    assert (end.code == -signal.SIGKILL) == (fate is Fate.KILL if is_killed is None else is_killed), said
    assert "CANARY" not in said
    return end


def _live(world: World, point: Point, fate: Fate, act: Act, write: int) -> None:
    code = LIVED
    gc.disable()  # it would touch, and so copy, every page of this process
    signal.alarm(PATIENCE_SECONDS)
    out = open(write, "w", buffering=1)  # noqa: SIM115 - this process ends with it
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = _ended(world, point, fate, act)
    except BaseException:
        traceback.print_exc(file=out)
    finally:
        out.flush()
        os._exit(code)


def _ended(world: World, point: Point, fate: Fate, act: Act) -> int:
    console = Console()
    traps: list[Trap] = []

    def run() -> Iterable[Kind]:
        installation = prepare(world.program.settings, world.clock, console)
        traps.append(Trap(point, fate))
        with installation.lock(), trapped_context(installation, traps[0]) as context:
            return act(context)

    code = guarded(console, run)
    return code if traps and traps[0].is_sprung else LIVED


@contextlib.contextmanager
def trapped_context(installation: Installation, trap: Trap) -> Iterator[RunContext]:
    """What a run works with, its journal and store trapped."""
    with open_run_context(installation, trap.connect) as context:
        sealed = copy.copy(context.store)
        plain: Any = _Store(sealed.store, trap)
        sealed.store = plain
        yield context._replace(store=sealed)
