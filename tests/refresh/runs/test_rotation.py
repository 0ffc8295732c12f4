"""A rotation that is killed at any write leaves every cell readable, and the next one comes to the end."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import crypto
from crypto import Context, Keyring
from tests.commands.test_rotate_key import assert_done, fill, rotated
from tests.commands.test_verify import new_key
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, PostgresRows, Rows
from tests.world.airtable import AirtableServer
from tests.world.http import Hangup
from tests.world.postgres import PostgresServer
from token_refresh.stores.base import Row
from token_refresh.stores.database import DatabaseStore

pytestmark = pytest.mark.long


ROWS = 500
KILLED = -signal.SIGKILL
TELLS_EACH_ROW = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE NOTICE 'UPDATE credentials'; RETURN NEW; END$$;
CREATE TRIGGER tell BEFORE UPDATE ON credentials FOR EACH ROW EXECUTE FUNCTION tell();
"""
CELLS = ("encrypted_refresh", "encrypted_secret", "last_access_token")


def both_keys(world: World) -> Keyring:
    """The new key and the one before."""
    keys = (world.program.settings["ENCRYPTION_KEY"], world.program.settings["ENCRYPTION_KEY_FALLBACKS"])
    new, old = map(crypto.parse_key, keys)
    return Keyring(new, [old])


def many_rows(world: World) -> dict[str, dict[str, str]]:
    """As many rows as an agency has, sealed; what their cells hold."""
    texts = {f"loc {number}": {column: f"{column} of {number}" for column in CELLS} for number in range(ROWS)}
    folder = Path(world.program.settings["STATE_DIR"])
    folder.mkdir(mode=0o700)
    with closing(DatabaseStore(f"sqlite:///{folder / 'tokens.sqlite3'}", world.clock)) as store:
        for location, row in texts.items():
            cells = {column: world.seal(location, column, text) for column, text in row.items()}
            store.create({"locationId": location, "provider": "acme", "client_id": "app", **cells})
    return texts


def opened(world: World, keyring: Keyring) -> dict[str, dict[str, str]]:
    """What every cell of the embedded database holds."""
    return {
        location: {column: keyring.open(row[column], Context(column, location, world.oauth.url)) for column in CELLS}
        for location, row in world.rows().items()
    }


def old_cells(world: World) -> int:
    """How many cells are still under the old key."""
    new = world.program.keyring
    return sum(new.needs_reseal(row[column]) for row in world.rows().values() for column in CELLS)


def killed_at(world: World, number: int, of: int = ROWS) -> int:
    """Rotate `of` rows in a process of its own, which is killed as its `number`-th is written; how it ended.

    The write after the last is the look at what was written.
    """
    child = os.fork()
    if child == 0:
        written = 0

        def count(said: str | None) -> None:
            nonlocal written
            written += (said or "").startswith("UPDATE credentials")
            if written == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if written == of and not statement.startswith("UPDATE"):
                count("UPDATE credentials")

        def listen(connection: Any, _: Any) -> None:
            """To each row of the many that one call writes."""
            if isinstance(connection, sqlite3.Connection):
                connection.set_trace_callback(count)
            else:
                connection.add_notice_handler(lambda notice: count(notice.message_primary))

        sa.event.listen(sa.Pool, "connect", listen)
        sa.event.listen(sa.Engine, "after_cursor_execute", look)
        code = 99
        try:
            code = world.program.run("rotate-key").code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def at_each_write(world: World) -> Iterator[Callable[[int], int]]:
    """Kills a rotation of the same old table at the given write."""
    state = Path(world.program.settings["STATE_DIR"])
    kept = state.with_name("kept")

    def act(number: int) -> int:
        if not kept.exists():
            shutil.copytree(state, kept)
        shutil.rmtree(state)
        shutil.copytree(kept, state)
        return killed_at(world, number)

    yield act
    shutil.rmtree(kept, ignore_errors=True)


def test_killed_at_any_of_five_hundred_rows_every_cell_opens(world: World, at_each_write: Callable[[int], int]) -> None:
    """A hundred rows are written at once; the first, one in the middle and the last of each are enough."""
    texts = many_rows(world)
    new_key(world)
    left = []
    for number in [*(start + nth for start in range(0, ROWS, 100) for nth in (1, 50, 100)), ROWS + 1]:
        assert at_each_write(number) == KILLED
        assert opened(world, both_keys(world)) == texts, number
        left.append(old_cells(world) // 3)
    assert left == [500, 500, 500, 400, 400, 400, 300, 300, 300, 200, 200, 200, 100, 100, 100, 0]
    assert at_each_write(ROWS) == KILLED
    result, said = rotated(world)
    assert (result.code, said["rows_resealed"]) == (0, 100)
    assert old_cells(world) == 0
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = ""
    assert world.program.run("verify").code == 0
    assert opened(world, world.program.keyring) == texts


def resealed_count(rows: Rows, tokens: dict[str, str]) -> int:
    """How many rows are under the new key; every cell opens."""
    keyring, found = both_keys(rows.world), [rows.row(location) for location in tokens]
    assert {row.location_id: opened_refresh(rows.world, keyring, row) for row in found} == tokens
    assert rows.world.program.run("verify").code == 0
    return sum(not keyring.needs_reseal(row.encrypted_refresh) for row in found)


def opened_refresh(world: World, keyring: Keyring, row: Row) -> str:
    return keyring.open(row.encrypted_refresh, Context("encrypted_refresh", row.location_id, world.oauth.url))


def test_killed_at_a_write_to_postgresql_every_cell_opens(postgres_world: World, postgres: PostgresServer) -> None:
    """At the first row, one in the middle and the last of those that are written at once, and after them."""
    rows = PostgresRows(postgres_world)
    tokens = fill(rows, 25)
    new_key(postgres_world)
    with closing(postgres.connect(rows.address())) as shell:
        shell.execute(TELLS_EACH_ROW)
    for number, anew in ((1, 0), (13, 0), (25, 0), (26, 25)):
        assert killed_at(postgres_world, number, of=25) == KILLED
        assert resealed_count(rows, tokens) == anew
    result, said = rotated(postgres_world)
    assert (result.code, said["rows_resealed"]) == (0, 0)
    assert_done(rows)


@pytest.mark.parametrize(
    ("act_first", "writes", "done"), [(False, (1, 2, 2), [0, 10, 20]), (True, (1, 1, 1), [10, 20, 25])]
)
def test_killed_at_each_write_to_airtable_every_cell_opens(
    airtable_world: World, airtable: AirtableServer, act_first: bool, writes: tuple[int, ...], done: list[int]
) -> None:
    """Before the write and after it, of which the killed process never hears."""
    airtable.requests_per_second = None
    airtable_world.program.settings["AIRTABLE_REQUESTS_PER_SECOND"] = "50"
    rows = AirtableRows(airtable_world)
    tokens = fill(rows, 25)
    new_key(airtable_world)
    for number, anew in zip(writes, done, strict=True):
        code = ended_by_airtable(airtable_world, airtable, number, signal.SIGKILL, act_first=act_first)
        assert code == KILLED
        assert resealed_count(rows, tokens) == anew
    result, said = rotated(airtable_world)
    assert (result.code, said["rows_resealed"]) == (0, 25 - done[-1])
    assert_done(rows)


@pytest.mark.parametrize(("count", "code", "left"), [(120, 4, 20), (25, 0, 0)])
def test_asked_to_stop_it_ends_after_the_rows_at_hand(
    airtable_world: World, airtable: AirtableServer, count: int, code: int, left: int
) -> None:
    airtable.requests_per_second = None
    airtable_world.program.settings["AIRTABLE_REQUESTS_PER_SECOND"] = "50"
    rows = AirtableRows(airtable_world)
    fill(rows, count)
    new_key(airtable_world)
    assert ended_by_airtable(airtable_world, airtable, 1, signal.SIGTERM, act_first=True) == code
    assert rotated(airtable_world)[1]["rows_resealed"] == left
    assert_done(rows)


def ended_by_airtable(
    world: World, airtable: AirtableServer, number: int, ending: signal.Signals, *, act_first: bool
) -> int:
    """Rotate in a process that is sent a signal at its `number`-th write; how it ended."""
    process = subprocess.Popen(
        [sys.executable, str(world.program.installed() / "token_manager.py"), "rotate-key"],
        cwd=world.program.home,
        env=world.program.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end(_request: Any, act: Any) -> Any:
        answer = act() if act_first else None
        process.send_signal(ending)
        if answer is None or ending is signal.SIGKILL:
            raise Hangup
        return answer

    airtable.inject(end, kind="update", nth=number)
    return process.wait(60)
