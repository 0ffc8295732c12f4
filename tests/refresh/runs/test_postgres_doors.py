"""The way into a PostgreSQL across a network: TLS as DATABASE_URL asks for it, passwords, rights, and what is told."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import exits
from tests.commands.test_cli import assert_reported
from tests.conftest import World
from tests.refresh.runs.faults_world import PostgresRows, entries, kept_token, meanwhile
from tests.world.postgres import Gate, PostgresServer, name_of
from tests.world.raw import Authority, make_authority

USER, PASSWORD = "tom", "hunter2hunter2"
TLS_FIX = "Correct sslmode and sslrootcert in DATABASE_URL, or the server's certificate; docs/postgres.md says how."
LOGIN_FIX = "Correct user, password and database in DATABASE_URL, or let that user in; docs/postgres.md says how."


@pytest.fixture
def rows(postgres_world: World, postgres: PostgresServer) -> PostgresRows:
    """One due row, and users: one with a password, one who is kept out, one who may not log in."""
    rows = PostgresRows(postgres_world)
    rows.add("acme", "loc")
    postgres.admin(f"DROP ROLE IF EXISTS {USER}, barred, nologin, visitor")
    postgres.admin(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}' IN ROLE with_password")
    postgres.admin("CREATE ROLE barred LOGIN IN ROLE kept_out; CREATE ROLE nologin; CREATE ROLE visitor LOGIN")
    return rows


@dataclass
class Door:
    """A table, and the program in front of a gate to it."""

    rows: PostgresRows
    gate: Gate

    def use(self, user: str = f"{USER}:{PASSWORD}", host: str = "127.0.0.1", database: str = "", options: str = ""):
        """Set the address."""
        self.rows.world.program.settings["DATABASE_URL"] = self.address(user, host, database, options)

    def address(self, user: str, host: str = "127.0.0.1", database: str = "", options: str = "") -> str:
        return f"postgresql://{user}@{host}:{self.gate.port}/{database or self.database}?{options}"

    @property
    def database(self) -> str:
        return name_of(self.rows.address())

    def assert_refused(self, *told: str) -> None:
        """As a mistake of the configuration: at once, in one line, with the mend; and nothing is refreshed."""
        world = self.rows.world
        for verb in ("refresh", "status"):
            result = world.program.run(verb)
            assert_reported(result, exits.USAGE, *told)
            assert len(result.err.splitlines()) == 1
            assert PASSWORD not in result.said
        assert world.clock.slept == 0
        assert world.oauth.requests == []


@pytest.fixture
def door(rows: PostgresRows, postgres: PostgresServer) -> Iterator[Door]:
    """A server without TLS."""
    with postgres.gate() as gate:
        yield Door(rows, gate)


@pytest.fixture
def tls_door(rows: PostgresRows, postgres: PostgresServer, authority: Authority) -> Iterator[Door]:
    """A server with TLS, and a certificate for localhost and 127.0.0.1."""
    with postgres.gate(authority.server) as gate:
        yield Door(rows, gate)


# TLS


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_the_authority_vouches_for_is_used_under_tls(
    tls_door: Door, authority: Authority, host: str
) -> None:
    tls_door.use(host=host, options=f"sslmode=verify-full&sslrootcert={authority.bundle}")
    world = tls_door.rows.world
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert world.oauth.is_live(world.program.run("get", "loc").out.strip())
    assert tls_door.gate.handshakes >= 2


def test_a_server_of_another_authority_is_refused(tls_door: Door, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path, "another authority")
    tls_door.use(options=f"sslmode=verify-full&sslrootcert={stranger.bundle}")
    tls_door.assert_refused("certificate verify failed", TLS_FIX)


def test_an_authority_that_calls_itself_the_same_is_refused(tls_door: Door, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path)
    tls_door.use(options=f"sslmode=verify-full&sslrootcert={stranger.bundle}")
    tls_door.assert_refused("SSL error", TLS_FIX)


def test_a_certificate_for_another_host_is_refused(tls_door: Door, authority: Authority) -> None:
    tls_door.use(host="db.example", options=f"hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={authority.bundle}")
    tls_door.assert_refused('does not match host name "db.example"', TLS_FIX)


@pytest.mark.parametrize("has_one", [False, True])
def test_a_server_that_wants_another_certificate_of_its_client_is_reported(
    rows: PostgresRows, postgres: PostgresServer, authority: Authority, tmp_path: Path, has_one: bool
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(authority.bundle.with_name("server.pem").read_bytes())
    own.chmod(0o600)
    make_authority(tmp_path, "another authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with postgres.gate(context) as gate:
        door = Door(rows, gate)
        door.use(options="sslmode=require" + (f"&sslcert={own}&sslkey={own}" if has_one else ""))
        door.assert_refused("alert", TLS_FIX)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_refused_where_tls_is_asked_for(door: Door, authority: Authority, mode: str) -> None:
    door.use(options=f"sslmode={mode}&sslrootcert={authority.bundle}")
    door.assert_refused("server does not support SSL, but SSL was required", TLS_FIX)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", 'root certificate file "/nowhere/ca.pem" does not exist'),
        (f"sslmode=verify-full&sslrootcert={__file__}", "could not read root certificate file"),
        ("sslmode=verify-full&sslrootcert=system", "certificate verify failed"),
        ("sslmode=nonsense", 'invalid sslmode value: "nonsense"'),
        (f"sslmode={PASSWORD}", 'invalid sslmode value: "***"'),
        ("sslmode=require&channel_binding=require", "channel binding is required"),
        ("sslmode=require&sslcert={own}&sslkey={own}", "has group or world access"),
    ],
    ids=["no file", "no certificate", "not the system's", "no mode", "a secret", "no channel binding", "an open key"],
)
def test_options_that_cannot_be_met_are_reported(tls_door: Door, authority: Authority, options: str, told: str) -> None:
    own = authority.bundle.with_name("server.pem")
    own.chmod(0o644)
    tls_door.use(options=options.format(own=own))
    tls_door.assert_refused(told, TLS_FIX)


# Users and databases


@pytest.mark.parametrize(
    ("user", "database", "state", "told"),
    [
        (f"{USER}:wrong", "", "28P01", 'password authentication failed for user "tom"'),
        (f"{USER}:password", "", "28P01", '*** authentication failed for user "tom"'),
        (USER, "", "", "no password supplied"),
        ("nobody", "", "28000", 'role "nobody" does not exist'),
        ("barred", "", "28000", "pg_hba.conf rejects connection"),
        ("nologin", "", "28000", 'role "nologin" is not permitted to log in'),
        (f"{USER}:{PASSWORD}", "nowhere", "3D000", 'database "nowhere" does not exist'),
        ("visitor", "", "42501", "permission denied for database"),
    ],
)
def test_that_the_server_lets_nobody_in_is_reported_at_once(
    door: Door, postgres: PostgresServer, user: str, database: str, state: str, told: str
) -> None:
    postgres.admin(f"REVOKE CONNECT ON DATABASE {door.database} FROM public")
    door.use(user, database=database)
    # A secret is hidden wherever it stands, also where it is a word of ours.
    door.assert_refused(told, LOGIN_FIX.replace("password", "[…]") if user.endswith(":password") else LOGIN_FIX)
    assert f"C{state}\0".encode() in door.gate.said or not state


@pytest.mark.parametrize(
    ("password", "options", "code", "told"),
    [
        ("wrong", "", exits.USAGE, "password authentication failed"),
        (PASSWORD, "sslmode=require", exits.USAGE, "does not support SSL"),
        (PASSWORD, "port=1", exits.STORE, "connection failed"),
    ],
)
def test_so_is_an_import_from_there(
    door: Door, password: str, options: str, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", password)
    source = door.address(USER, options=options)
    result = door.rows.world.program.run("import", "--layout", "user-tokens", source)
    assert_reported(result, code, "the source cannot be read", told, "Correct its address")
    first, problem = result.err.splitlines()
    assert "first stop whatever else refreshes these clients" in first
    assert "error" in problem


def test_a_right_that_is_taken_away_during_a_run_ends_it_and_the_tokens_wait(
    door: Door, postgres: PostgresServer
) -> None:
    world = door.rows.world
    with closing(postgres.connect(door.rows.address())) as shell:
        shell.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO visitor")
        door.use("visitor")
        world.oauth.fail(meanwhile(lambda: shell.execute("REVOKE UPDATE ON credentials FROM visitor")))
        result = world.program.run("--json")
        assert (result.code, result.outcomes()) == (exits.USAGE, {"loc": "transient"})
        assert "permission denied for table" in result.err
        assert len(entries(world, "answered")) == 1
        shell.execute("GRANT UPDATE ON credentials TO visitor")
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert door.rows.is_current("loc")


def test_that_the_table_may_not_be_used_is_reported_at_once(door: Door) -> None:
    door.use("visitor")
    door.assert_refused("permission denied for table", "run: GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE")
    assert b"C42501\0" in door.gate.said


def test_a_user_with_a_password_is_let_in(door: Door) -> None:
    door.use(f"{USER}:{quote(PASSWORD)}")
    assert door.rows.world.program.run("--json").outcomes() == {"loc": "refreshed"}


def test_a_password_that_is_changed_during_a_run_ends_it_at_once_and_the_tokens_wait(
    door: Door, postgres: PostgresServer
) -> None:
    rows, world = door.rows, door.rows.world
    own = rows.address()
    door.use()

    def change() -> None:
        postgres.admin(f"ALTER ROLE {USER} PASSWORD 'another one'")
        postgres.cut(own)

    world.oauth.fail(meanwhile(change))
    result = world.program.run("--json")
    assert (result.code, result.outcomes()) == (exits.USAGE, {"loc": "transient"})
    assert LOGIN_FIX in result.err
    [entry] = entries(world, "answered")
    assert kept_token(world, entry) == world.oauth.current("loc")
    door.use(f"{USER}:another%20one")
    asked = len(world.oauth.requests)
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")
    assert len(world.oauth.requests) == asked
