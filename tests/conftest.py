"""What the tests share: a moved clock, the two fake services, the program."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.util import LRUCache

from crypto import Context, is_sealed
from providers import Catalog, index, registry
from tests.providers.answers import ANSWERS
from tests.world.airtable import AirtableServer
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from tests.world.postgres import PostgresServer, in_memory, plain
from tests.world.program import Program
from tests.world.raw import Authority, make_authority
from token_refresh.base.clock import parse_time
from token_refresh.stores.base import IDLE_STATUSES
from token_refresh.stores.database.schema import METADATA

# How many examples a property draws: `make test-long` takes the other. A busy machine is no failure.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("long", max_examples=100, deadline=None)
settings.load_profile("quick")

# Those that the tests may use; none where the system does not say.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

# Which of several test processes this one is, from 0; empty where it is the only one.
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")

CLIENTS = {"gohighlevel": ("app-highlevel", "highlevel secret"), "google": ("app-google", "google secret")}
CATALOG = Catalog()  # which reads an entry once
# The `provider_params` of a row at its provider's fake.
PARAMS = {slug: dict(answers.row) for slug, answers in ANSWERS.items()}


def _at_another_name(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


@dataclass
class World:
    """Providers, a clock and the program, wired up."""

    clock: FakeClock
    oauth: OAuthServer
    program: Program
    airtable: AirtableServer | None = None
    table: Any = None
    elsewhere: set[str] = field(default_factory=set)

    def move(self, provider: str) -> None:
        """Give a provider of `PROVIDERS_FILE` a host of its own, before it has rows: the others share one."""
        own, url = Path(self.program.settings["PROVIDERS_FILE"]), self.oauth.token_url(provider)
        own.write_text(own.read_text().replace(f'"{url}"', f'"{_at_another_name(url)}"'))
        self.elsewhere.add(provider)

    def show_real_time(self) -> None:
        """For a program in a process of its own, on the machine's clock: the servers' `Date` is that clock's, too."""
        self.oauth._http.now = time.time
        if self.airtable is not None:
            self.airtable.http.now = time.time

    def serve(self, *providers: str) -> None:
        """Put providers of the catalogue on loopback: own paths and placeholders, only the host is another.

        A run reads the entry of each provider that the settings name, so a test names those that it needs.
        """
        for slug in providers:
            path = CATALOG.get(slug).token_url.partition("://")[2].partition("/")[2]
            self.program.settings[f"{slug.upper().replace('-', '_')}_TOKEN_URL"] = f"{self.oauth.url}/{slug}/{path}"
            self.add_client(slug)

    def add_client(self, provider: str, client_id: str = "", secret: str = "") -> None:
        """Register an app at a provider, by default the usual one."""
        usual = CLIENTS.get(provider, (f"app-{provider}", f"{provider} secret"))
        self.oauth.add_client(provider, client_id or usual[0], secret or usual[1])

    def cells(self, provider: str, location_id: str, expiry: datetime | None = None, **more: Any) -> dict[str, Any]:
        """A table row of a fresh grant, sealed as the program seals."""
        issuer = "acme" if provider == "acme-instance" else provider
        client_id, secret = CLIENTS.get(issuer, (f"app-{issuer}", f"{issuer} secret"))
        token = self.oauth.grant(issuer, client_id, location_id=location_id)
        if provider in self.elsewhere:
            self.elsewhere.add(location_id)
        cells = {
            "locationId": location_id,
            "provider": provider,
            "client_id": client_id,
            "encrypted_secret": self.seal(location_id, "encrypted_secret", secret),
            "encrypted_refresh": self.seal(location_id, "encrypted_refresh", token),
        }
        if expiry is not None:
            cells["access_token_expiry"] = expiry.isoformat().replace("+00:00", "Z")
        return cells | more

    def consented(self, provider: str, location_id: str, client_id: str = "", **facts: Any) -> dict[str, Any]:
        """A table row of a real provider's fresh grant, as onboarding leaves it: its access token lives."""
        usual, secret = CLIENTS.get(provider, (f"app-{provider}", f"{provider} secret"))
        params = PARAMS.get(provider, {})
        client_id = client_id or usual
        token = self.oauth.grant(provider, client_id, location_id=location_id, **params, **facts)
        access = self.oauth.access_tokens[self.oauth.current_access(token)]
        self.program.in_clear.add(access.value)
        return {
            "locationId": location_id,
            "provider": provider,
            "provider_params": json.dumps(params) if params else "",
            "client_id": client_id,
            "encrypted_secret": self.seal(location_id, "encrypted_secret", secret),
            "encrypted_refresh": self.seal(location_id, "encrypted_refresh", token),
            "last_access_token": access.value,
            "access_token_expiry": datetime.fromtimestamp(access.expires_at, UTC),
            "last_refreshed": datetime.fromtimestamp(access.issued_at, UTC),
        }

    def seal(self, location_id: str, column: str, text: str) -> str:
        """A cell of this program's key."""
        return self.program.keyring.seal(text, Context(column, location_id, self._origin(location_id)))

    def open_refresh(self, location_id: str, cell: str) -> str:
        """What a refresh cell holds."""
        return self.program.keyring.open(cell, Context("encrypted_refresh", location_id, self._origin(location_id)))

    def open_access(self, location_id: str, cell: str) -> str:
        """The access token in a cell, sealed there or not."""
        context = Context("last_access_token", location_id, self._origin(location_id))
        return self.program.keyring.open(cell, context) if is_sealed(cell) else cell

    def _origin(self, location_id: str) -> str:
        return _at_another_name(self.oauth.url) if location_id in self.elsewhere else self.oauth.url

    def csv_line(self, provider: str, location_id: str) -> tuple[str, str, str, str, str]:
        """A CSV line of a fresh grant."""
        client_id, secret = CLIENTS.get(provider, (f"app-{provider}", f"{provider} secret"))
        token = self.oauth.grant(provider, client_id, location_id=location_id)
        return (location_id, provider, client_id, secret, token)

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of the embedded database by location; none where it was never made."""
        return {row["location_id"]: row for row in _select(self.program.home / "state/tokens.sqlite3", "credentials")}

    def token_of(self, location_id: str) -> str:
        """The refresh token that the embedded database holds for a location."""
        return self.open_refresh(location_id, self.rows()[location_id]["encrypted_refresh"])

    def undone(self, since: datetime) -> list[str]:
        """The rows without a living access token that a run which began then could have refreshed."""
        dead = {failure["location_id"] for failure in self._remembered() if failure["status"] == "reauthorize"}
        named = [(str(row.get("location_id", row.get("locationId"))), row) for row in self._rows()]
        return [name for name, row in named if name not in dead and _is_undone(row, since)]

    def _rows(self) -> list[dict[str, Any]]:
        """The table as it is, past the program."""
        if self.airtable is not None:
            name = self.program.settings.get("AIRTABLE_TABLE_NAME", "APISecrets")
            with contextlib.suppress(KeyError):  # of another base
                base = self.program.settings.get("AIRTABLE_BASE_ID", "")
                return [record["fields"] for record in self.airtable.table(name, base).records()]
            return []
        address = self.program.settings.get("DATABASE_URL", "")
        if address.startswith("postgresql"):
            with psycopg.connect(address, row_factory=psycopg.rows.dict_row) as shell:
                return shell.execute("SELECT * FROM credentials").fetchall()
        file = address.removeprefix("sqlite:///") or f"{self.program.settings['STATE_DIR']}/tokens.sqlite3"
        return _select(Path(file), "credentials")

    def _remembered(self) -> list[dict[str, Any]]:
        """What the journals remember of rows that fail."""
        state = Path(self.program.settings["STATE_DIR"])
        paths = sorted(state.glob("*/journal*.sqlite3")) if os.access(state, os.R_OK | os.X_OK) else []
        return [failure for path in paths for failure in _select(path, "failures")]

    def journalled(self) -> list[dict[str, Any]]:
        """The unfinished entries of all journals."""
        paths = sorted((self.program.home / "state").glob("*/journal*.sqlite3"))
        return [entry for path in paths for entry in _select(path, "entries")]


def _is_undone(row: dict[str, Any], since: datetime) -> bool:
    cell, end = row.get("encrypted_refresh"), parse_time(row.get("access_token_expiry"))
    if not (isinstance(cell, str) and cell.strip()) or row.get("status") in IDLE_STATUSES or row.get("claim_owner"):
        return False
    return end is None or end <= since


def _select(path: Path, table: str) -> list[dict[str, Any]]:
    if not os.access(path, os.R_OK):  # none, or a test of another user's program
        return []
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]


def pytest_configure() -> None:
    """Let what the tests start hear Ctrl-C: what a shell runs in the background inherits that it is ignored.

    And keep their folders in memory: thousands of journals sync each of their steps, which the disk is slow to do.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if (memory := in_memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where several processes are about to compile all tests, each begins with others than its neighbours."""
    if PROCESS and session.config.args == session.config.getini("testpaths"):
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for path in sorted(Path(__file__).parent.rglob("test_*.py"))[int(PROCESS) :: count]:
            importlib.import_module(".".join(path.relative_to(Path(__file__).parents[1]).with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)  # before `-m` sorts them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make all but one of the cases long that differ only in what `by_turns` names: each in its turn is the one."""
    tests: defaultdict[str, defaultdict[tuple[Any, ...], list[pytest.Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        mark = item.get_closest_marker("by_turns")
        if mark and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            others = tuple(id(value) for name, value in item.callspec.params.items() if name not in mark.args)
            tests[item.nodeid.partition("[")[0]][others].append(item)
    for name, groups in tests.items():
        for turn, alike in enumerate(groups.values(), crc32(name.encode())):  # the same whatever is collected with it
            for item in alike[: turn % len(alike)] + alike[turn % len(alike) + 1 :]:
                item.add_marker(pytest.mark.long)


@pytest.hookimpl(tryfirst=True)  # before the fixtures start servers
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep each of several test processes on a core of its own, and its servers with it: they wait for one another.

    Long tests have all cores, for their crowds of processes.
    """
    if PROCESS and CORES:
        own = {CORES[int(PROCESS) % len(CORES)]}
        os.sched_setaffinity(0, CORES if item.get_closest_marker("long") else own)


def pytest_collection_finish() -> None:
    """Ten thousand tests and what they import stay to the end: no collection of garbage looks at them again.

    And what the tests make is looked at less often than by Python's own threshold, which takes a twentieth of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """For this test alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """SQLAlchemy compiles each statement for each engine, of which the tests open thousands that differ in nothing."""
    compile_cached = ClauseElement._compile_w_cache
    cache: LRUCache[Any, Any] = LRUCache(1000)
    first: dict[Any, Dialect] = {}  # of each kind

    def compiled(self: ClauseElement, dialect: Dialect, *, compiled_cache: Any, **options: Any) -> Any:
        alike = first.setdefault((type(dialect), dialect.server_version_info), dialect)
        return compile_cached(self, alike, compiled_cache=cache, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClauseElement, "_compile_w_cache", compiled)
        yield


@pytest.fixture(scope="session", autouse=True)
def described_once() -> Iterator[None]:
    """What makes the tables of a new SQLite file is the same for each of the thousands of files."""
    create_all = METADATA.create_all
    statements: list[str] = []

    def noted(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith("CREATE"):
            statements.append(statement)

    def made(connection: Connection) -> None:
        if statements:
            for statement in statements:
                connection.exec_driver_sql(statement)
            return
        event.listen(connection, "before_cursor_execute", noted)
        create_all(connection)
        event.remove(connection, "before_cursor_execute", noted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METADATA, "create_all", made)
        yield


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """The catalogue's own files stay as they are; thousands of runs in one process would read them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "read_index", functools.cache(index.read_index))
        patch.setattr(registry, "_read_entry", functools.cache(registry._read_entry))
        patch.setattr(registry, "_key", functools.cache(registry._key))
        yield


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the TLS servers of this test run."""
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test process."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test and the code's own waits move."""
    return FakeClock()


@pytest.fixture
def oauth(clock: FakeClock) -> Iterator[OAuthServer]:
    """The providers' token endpoints."""
    with OAuthServer(clock=clock.timestamp) as server:
        yield server


GENERIC_CLIENTS = ("acme", "acme-family", "acme-window", "acme-grace", "acme-until-used", "acme-never", "acme-basic")


def providers_file(oauth: OAuthServer) -> str:
    """A PROVIDERS_FILE for the fake's generic providers."""
    kinds = {
        "acme": ("body", "always", "once"),
        "acme-family": ("body", "always", "last_minute"),
        "acme-window": ("body", "always", "last_minute"),
        "acme-grace": ("body", "always", "safe"),
        "acme-until-used": ("body", "always", "safe"),
        "acme-never": ("body", "never", "safe"),
        "acme-basic": ("basic", "always", "once"),
        "acme-no-expiry": ("body", "always", "once"),
    }
    tables = []
    for slug, (auth, rotates, replay) in kinds.items():
        tables.append(
            f'[{slug}]\nname = "{slug}"\ntoken_url = "{oauth.token_url(slug)}"\nauth = "{auth}"\n'
            f'rotates = "{rotates}"\nreplay = "{replay}"\nlifetime = 3600\n'
            f"replay_window = {30 if slug == 'acme-window' else 0}\n"
        )
    host = oauth.token_url("acme").partition("://")[2]
    path = host.partition("/")[2]
    tables.append(
        f'[acme-instance]\nname = "Acme on your own host"\ntoken_url = "http://{{instance}}/{path}"\n'
        f'placeholders = {{ instance = "{host.partition("/")[0]}" }}\nlifetime = 3600\n'
    )
    return "\n".join(tables)


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock, oauth: OAuthServer) -> Iterator[World]:
    """The program on the embedded database, with providers that answer on loopback."""
    own = tmp_path / "providers.toml"
    own.write_text(providers_file(oauth))
    settings = {
        "GOHIGHLEVEL_TOKEN_URL": oauth.token_url("gohighlevel"),
        "GOOGLE_TOKEN_URL": oauth.token_url("google"),
        "PROVIDERS_FILE": str(own),
    }
    made = World(clock, oauth, Program(tmp_path, settings, clock))
    made.program.before_process = made.show_real_time
    made.program.undone = made.undone
    made.program.planted = lambda: [*oauth.tokens, *oauth.access_tokens, *(secret for _, secret in CLIENTS.values())]
    for provider in (*CLIENTS, *GENERIC_CLIENTS):
        made.add_client(provider)
    yield made
    made.program.assert_state_silent()


@pytest.fixture
def every_provider(world: World) -> World:
    """All providers of the catalogue on loopback."""
    world.serve(*CATALOG.summaries)
    return world


@pytest.fixture
def airtable(clock: FakeClock) -> Iterator[AirtableServer]:
    """Airtable, limits and all, on the test's clock."""
    with AirtableServer(clock=clock.monotonic, now=clock.now) as server:
        yield server


@pytest.fixture
def airtable_world(world: World, airtable: AirtableServer) -> World:
    """The program on an Airtable table with all columns."""
    world.airtable = airtable
    world.table = airtable.credentials_table()
    world.program.settings |= {
        "AIRTABLE_API_KEY": airtable.token,
        "AIRTABLE_BASE_ID": airtable.base_id,
        "AIRTABLE_ENDPOINT_URL": airtable.url,
    }
    return world


@pytest.fixture
def postgres_world(world: World, postgres: PostgresServer) -> Iterator[World]:
    """The program on a PostgreSQL database of its own."""
    address = postgres.database()
    world.program.settings["DATABASE_URL"] = plain(address)
    yield world
    postgres.drop(address)
