"""A small installation for one round of chaos: a table, its providers, and what the oracle may look at."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from crypto import Context, Keyring, SealedCellError, parse_key
from tests.callers import revocable
from tests.chaos.clock import SharedClock
from tests.conftest import World, providers_file
from tests.refresh.runs.faults_world import AirtableRows, DatabaseRows, PostgresRows, Rows, SqliteRows
from tests.world.airtable import AirtableServer
from tests.world.clock import FakeClock
from tests.world.oauth import DIALECTS, OAuthServer
from tests.world.postgres import PostgresServer, plain
from tests.world.program import Program
from token_refresh.stores.base import Row, make_row
from token_refresh.stores.database import DatabaseStore

KINDS = ("acme", "acme-family", "acme-grace", "acme-until-used", "acme-never")
STORES = ("sqlite", "airtable", "postgres")
GRACE_SECONDS = 1800  # longer than the 90 s that a dead run's request is waited for, else a grace is none
CLOCK_FILE = "clock"
MACHINES = "machines"  # holds the state folder of each


class ChaosProgram(Program):
    """See `Program`. What it sealed is opened here with every key that it ever had."""

    @property
    def keyring(self) -> Keyring:
        """See `Program.keyring`; no state folder is touched for it."""
        now, *before = [*map(parse_key, (self.settings["ENCRYPTION_KEY"], *self.settings.get(KEYS, "").split()))]
        return Keyring(now, before)


KEYS = "KEYS_BEFORE"  # not a setting of the program's, which passes over it


class FileRows(SqliteRows):
    """See `SqliteRows`: outside the state folder, so that several machines can share it."""

    def address(self) -> str:
        """See `DatabaseRows.address`."""
        return self.world.program.settings["DATABASE_URL"]


@contextmanager
def installation(store: str, folder: Path, clock: FakeClock, **settings: str) -> Iterator[Rows]:
    """An empty table of this kind, its services, and the program."""
    with ExitStack() as stack:
        dialects = [replace(one, grace_seconds=GRACE_SECONDS) if one.name == "acme-grace" else one for one in DIALECTS]
        oauth = stack.enter_context(OAuthServer(dialects, clock=clock.timestamp))
        own = folder / "providers.toml"
        own.write_text(providers_file(oauth))
        state = folder / MACHINES / "1"
        state.mkdir(mode=0o700, parents=True)
        program = ChaosProgram(folder, {"PROVIDERS_FILE": str(own), "STATE_DIR": str(state), **settings}, clock)
        world = World(clock, oauth, program)
        for kind in KINDS:
            world.add_client(kind)
            revocable(world, provider=kind)
        if store == "sqlite":
            program.settings["DATABASE_URL"] = f"sqlite:///{folder / 'tokens.sqlite3'}"
            yield FileRows(world)
            return
        if store == "postgres":
            address = server().database()
            stack.callback(server().drop, address)
            program.settings["DATABASE_URL"] = plain(address)
            yield PostgresRows(world)
            return
        airtable = stack.enter_context(AirtableServer(clock=clock.monotonic, now=clock.now))
        world.airtable, world.table = airtable, airtable.credentials_table()
        program.settings |= {
            "AIRTABLE_API_KEY": airtable.token,
            "AIRTABLE_BASE_ID": airtable.base_id,
            "AIRTABLE_ENDPOINT_URL": airtable.url,
        }
        yield AirtableRows(world)


@functools.cache
def server() -> PostgresServer:
    """The one for all rounds of this process; it stops with it."""
    made = PostgresServer()
    atexit.register(made.close)
    return made


def wait_for_sessions(rows: Rows) -> None:
    """Until the server has noticed that the processes have ended: what they sent last is done or undone then."""
    if not isinstance(rows, PostgresRows):
        return
    with closing(server().connect(rows.address())) as shell:
        others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while shell.execute(others).fetchall():
            time.sleep(0.001)


def end_sessions(rows: Rows) -> None:
    """A server that somebody restarts: every session on the database ends, and what was not committed is undone."""
    if isinstance(rows, PostgresRows):
        server().cut(rows.address())


def shared_clock(folder: Path) -> closing[SharedClock]:
    """A clock for the processes of one installation."""
    return closing(SharedClock(folder / CLOCK_FILE))


def state_folder(rows: Rows) -> Path:
    """The STATE_DIR of the machine that is in use."""
    return Path(rows.world.program.settings["STATE_DIR"])


def all_rows(rows: Rows) -> list[Row]:
    """Every row of the table as it is now."""
    if isinstance(rows, AirtableRows):
        return [make_row(record["id"], record["fields"].get) for record in rows.world.table.records()]
    assert isinstance(rows, DatabaseRows)
    with closing(DatabaseStore(rows.address(), rows.world.clock)) as store:
        return list(store.rows())


def journalled(rows: Rows, machine: str = "*") -> tuple[set[str], list[str]]:
    """The refresh tokens in the answers that the state folders hold durably, and every text in their journals.

    Reads copies: to open the files themselves would recover them, which is the next run's part.

    Args:
        rows: the table.
        machine: the name of one state folder; by default all count, and the spare folder.
    """
    tokens: set[str] = set()
    home = rows.world.program.home
    texts = [path.read_text().strip() for path in home.glob("spare/*.sealed")] if machine == "*" else []
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(sorted(home.glob(f"{MACHINES}/{machine}/*/journal*.sqlite3"))):
            copy = Path(scratch) / f"{number}.sqlite3"
            for suffix in ("", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            texts += _texts(copy)
    for text in filter(lambda text: text.startswith("sealed:"), texts):
        for cell in text.split():  # an entry keeps all its answers
            tokens |= refresh_tokens_in(rows.world, cell)
    return tokens, texts


def _texts(path: Path) -> list[str]:
    """Every text in a database, whatever its tables are; none while it is being made."""
    with closing(sqlite3.connect(path)) as database:
        try:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = [row for name in tables for row in database.execute(f'SELECT * FROM "{name}"')]
        except sqlite3.DatabaseError:
            return []
    return [cell for row in found for cell in row if isinstance(cell, str)]


def refresh_tokens_in(world: World, cell: str) -> set[str]:
    """The refresh tokens in a sealed answer or onboarding, if the cell is one, in whatever form it came."""
    issued = tuple(world.oauth.tokens)
    for location in filter(None, {grant.location_id for grant in map(world.oauth.family, issued)}):
        with contextlib.suppress(SealedCellError):
            content = json.loads(world.program.keyring.open(cell, Context("answer", location, world.oauth.url)))
            if entered := content.get("refresh_token"):  # of an onboarding
                return {entered}
            with contextlib.suppress(KeyError, ValueError):
                body = base64.b64decode(content["body"])
                text = body.decode(json.detect_encoding(body), "replace")
                return {token for token in issued if token in text}
    return set()
