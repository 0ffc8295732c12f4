"""Many calls of one program share a few connections, and leave none behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.callers import log_in, manager_of
from tests.conftest import World
from tests.world.oauth import faults
from tests.world.postgres import PostgresServer, Shell, mapped
from token_refresh.library import TokenManager
from token_refresh.wiring import SHARED_CONNECTIONS

PATIENCE_SECONDS = 60

CALLS, THREADS = 200, 16


@pytest.fixture(params=["world", "postgres_world", "airtable_world"])
def any_world(request: pytest.FixtureRequest) -> World:
    """The program on each store."""
    made: World = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def connects() -> Iterator[list[int]]:
    """The process of each connection to a database, as it is made."""
    made: list[int] = []

    def note(*_: Any) -> None:
        made.append(os.getpid())

    sa.event.listen(sa.Engine, "connect", note)
    yield made
    sa.event.remove(sa.Engine, "connect", note)


def ask_often(manager: TokenManager, location: str) -> set[str]:
    """The tokens that many threads get."""
    with ThreadPoolExecutor(THREADS) as pool:
        return set(pool.map(lambda _: manager.get_valid_access_token(location), range(CALLS)))


@pytest.mark.parametrize("any_world", ["world", "postgres_world"], indirect=True)
def test_two_hundred_calls_share_a_few_connections_to_the_database(any_world: World, connects: list[int]) -> None:
    with manager_of(any_world) as manager:
        token = log_in(any_world, manager)
        connects.clear()
        assert ask_often(manager, "loc1") == {token}
    assert len(connects) <= SHARED_CONNECTIONS


def test_calls_to_airtable_share_a_connection(airtable_world: World) -> None:
    with manager_of(airtable_world) as manager:
        token = log_in(airtable_world, manager)
        assert airtable_world.airtable is not None
        before = airtable_world.airtable.http.connections
        assert {manager.get_valid_access_token("loc1") for _ in range(20)} == {token}
        assert airtable_world.airtable.http.connections == before


def test_a_refresh_between_two_calls_uses_the_same_connections(any_world: World, connects: list[int]) -> None:
    with manager_of(any_world) as manager:
        first = log_in(any_world, manager)
        assert manager.get_valid_access_token("loc1") == first
        known = len(connects)
        any_world.clock.advance(timedelta(hours=2).total_seconds())
        assert manager.get_valid_access_token("loc1") != first
        assert len(connects) <= max(known, SHARED_CONNECTIONS)


def sessions(shell: Shell) -> int:
    """How many sessions of the program this database has."""
    ours = "datname = current_database() AND application_name = 'token-refresh'"
    [found] = shell.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}".encode()).fetchall()
    return int(found["count"])


def is_any_left(shell: Shell) -> bool:
    """Whether a session stays. The server learns a moment later that one was closed: it has ten seconds for that."""
    for _ in range(200):
        if not sessions(shell):
            return False
        shell.execute("SELECT pg_sleep(0.05)")
    return True


def test_a_manager_that_is_closed_leaves_no_connection_and_can_be_used_again(
    postgres_world: World, postgres: PostgresServer
) -> None:
    with closing(postgres.connect(mapped(postgres_world.program.settings["DATABASE_URL"]))) as shell:
        with manager_of(postgres_world) as manager:
            token = log_in(postgres_world, manager)
            assert sessions(shell) > 0
        assert not is_any_left(shell)
        assert manager.get_valid_access_token("loc1") == token
        manager.close()
        assert not is_any_left(shell)


def test_a_call_that_is_open_while_its_manager_is_closed_leaves_no_connection(
    postgres_world: World, postgres: PostgresServer
) -> None:
    world = postgres_world
    arrived, go = threading.Event(), threading.Event()

    def hold(_: faults.Call, act: faults.Act) -> Any:
        arrived.set()
        go.wait(PATIENCE_SECONDS)
        return act()

    with closing(postgres.connect(mapped(world.program.settings["DATABASE_URL"]))) as shell:
        manager = manager_of(world)
        log_in(world, manager)
        world.clock.advance(3700)
        world.oauth.fail(faults.Fault("hold", hold))
        call = threading.Thread(target=manager.get_token, args=("loc1",))
        call.start()
        assert arrived.wait(PATIENCE_SECONDS)
        manager.close()
        go.set()
        call.join(PATIENCE_SECONDS)
        assert not is_any_left(shell)
        with manager_of(world) as another:
            assert another.get_valid_access_token("loc1") == world.oauth.current_access("loc1")
    assert len(world.oauth.requests) == 1


def test_a_database_file_that_was_replaced_is_opened_again(world: World) -> None:
    """As by a backup that somebody put back: what is written goes into the new file."""
    path = world.program.home / "state/tokens.sqlite3"
    with manager_of(world) as manager:
        log_in(world, manager, "loc1")
        manager.close()
        backup = path.read_bytes()
        log_in(world, manager, "loc2")
        path.with_name("restored").write_bytes(backup)
        path.with_name("restored").chmod(0o600)
        for name in (f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.with_name("restored").replace(path)
        assert [view.location_id for view in manager.list_tokens()] == ["loc1"]
        log_in(world, manager, "loc3")
        assert sorted(world.rows()) == ["loc1", "loc3"]


@pytest.mark.parametrize("any_world", ["world", "postgres_world"], indirect=True)
def test_a_forked_child_makes_its_own_connection(any_world: World, connects: list[int]) -> None:
    with manager_of(any_world) as manager:
        token = log_in(any_world, manager)
        forks = multiprocessing.get_context("fork")
        answers: Any = forks.Queue()

        def ask() -> None:
            connects.clear()
            answers.put((manager.get_valid_access_token("loc1"), len(connects)))

        child = forks.Process(target=ask)
        child.start()
        assert answers.get(timeout=60) == (token, 1)
        child.join(60)
        assert child.exitcode == 0
        assert manager.get_valid_access_token("loc1") == token  # ours still works
