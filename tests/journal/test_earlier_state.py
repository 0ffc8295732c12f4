"""What version 0.1.0 left is taken over, from files that it wrote: `earlier/`, made by `earlier/build.py`."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import crypto
from crypto import Context
from tests import exits
from tests.conftest import World
from tests.world.clock import START
from token_refresh.base.fork import let_go
from token_refresh.journal.installation import EARLIER_ID_FILE
from token_refresh.journal.lock import hold, run_lock

EARLIER = Path(__file__).with_name("earlier")
KEY = bytes(range(32))
ORIGIN = "https://zoom.us"
HOST_ID = "0a1b2c3d"


class Earlier:
    """A state folder of version 0.1.0, and the table that it is of."""

    def __init__(self, world: World, address: str) -> None:
        self.world = world
        self.state = Path(world.program.settings["STATE_DIR"])
        self.state.mkdir(mode=0o700)
        (self.state / EARLIER_ID_FILE).write_text(HOST_ID)
        self.folder = self.state / hashlib.sha256(address.encode()).hexdigest()[:16]
        self.folder.mkdir(mode=0o700)
        self.journal = self.folder / "journal-1.sqlite3"
        self.load("journal.sql", self.journal)
        (self.folder / "journal-1.lock").touch(0o600)
        (self.folder / "ballast").touch(0o600)
        (self.folder / "columns.json").write_text("{}")
        world.program.settings["ENCRYPTION_KEY"] = base64.b64encode(KEY).decode()
        world.clock.advance(120)  # what was on its way is not any more

    def load(self, script: str, file: Path) -> None:
        file.touch(0o600)
        with closing(sqlite3.connect(file)) as database:
            database.executescript((EARLIER / script).read_text().replace("FOLDER8", self.folder.name[:8]))

    def cells(self, location: str) -> dict[str, Any]:
        """The row of a location."""
        if self.world.table is None:
            with closing(sqlite3.connect(self.state / "tokens.sqlite3")) as database:
                database.row_factory = sqlite3.Row
                query = "SELECT * FROM credentials WHERE location_id = ?"
                return dict(database.execute(query, (location,)).fetchone())
        found = self.world.table.find(locationId=location)
        return dict(self.world.table.cells(found[0])) if found else {}

    def stored(self, location: str) -> str:
        """The refresh token in its row."""
        cell = self.cells(location)["encrypted_refresh"]
        return self.world.program.keyring.open(cell, Context("encrypted_refresh", location, ORIGIN))


def embedded(world: World) -> Earlier:
    file = Path(world.program.settings["STATE_DIR"]) / "tokens.sqlite3"
    made = Earlier(world, f"database sqlite:///{file}")
    made.load("tokens.sql", file)
    return made


def moved(made: Earlier) -> Earlier:
    """The state folder, the database in it, lies elsewhere now."""
    made.state = made.state.rename(made.state.with_name("elsewhere"))
    made.folder = made.state / made.folder.name
    made.world.program.settings["STATE_DIR"] = str(made.state)
    return made


def at_airtable(world: World, endpoint: str, name: str) -> Earlier:
    assert world.airtable is not None
    made = Earlier(world, f"airtable {endpoint} {world.airtable.base_id} {name}")
    with closing(sqlite3.connect(":memory:")) as rows, closing(sqlite3.connect(made.journal)) as journal, journal:
        rows.row_factory = sqlite3.Row
        rows.executescript((EARLIER / "tokens.sql").read_text())
        columns = {column.name for column in world.table.columns.values()}
        for row in rows.execute("SELECT * FROM credentials").fetchall():
            cells = {name: row[name] for name in columns if name in row.keys() and row[name] not in (None, "")}  # noqa: SIM118
            record = world.table.add(cells | {"locationId": row["location_id"]})
            for table in ("entries", "failures"):
                journal.execute(f"UPDATE {table} SET row_key = ? WHERE row_key = ?", (record, str(row["id"])))
    return made


@pytest.fixture(
    params=["embedded", "embedded, moved", "airtable", "airtable by id", "airtable with a slash", "airtable, renamed"]
)
def earlier(request: pytest.FixtureRequest) -> Earlier:
    if request.param.startswith("embedded"):
        made = embedded(request.getfixturevalue("world"))
        return moved(made) if request.param == "embedded, moved" else made
    world = request.getfixturevalue("airtable_world")
    url, name = world.airtable.url, "APISecrets"
    if request.param == "airtable by id":
        name = world.table.id
    if request.param == "airtable, renamed":
        name = "Clients, as it was called"
    return at_airtable(world, f"{url}/" if request.param == "airtable with a slash" else url, name)


def steps(world: World) -> dict[str, str]:
    listed = world.program.run("recover", "--json").json()["entries"]
    return {entry["location_id"]: entry["step"] for entry in listed}


def test_every_entry_is_there_after_the_first_start_and_the_folder_is_gone(earlier: Earlier) -> None:
    assert steps(earlier.world) == {
        "sent": "sent",
        "answered": "answered",
        "lost": "lost",
        "superseded": "superseded",
        "onboarding": "answered",
    }
    assert not earlier.folder.exists()
    assert len(steps(earlier.world)) == 5


def test_the_answers_that_it_held_are_stored(earlier: Earlier) -> None:
    result = earlier.world.program.run("recover", "--replay", "--json")
    assert result.outcomes() == {"answered": "refreshed", "superseded": "refreshed"}
    for name in ("answered", "superseded", "onboarding"):
        assert earlier.stored(name) == f"newer-token-{name}"
    assert steps(earlier.world) == {"sent": "sent", "lost": "lost"}


def test_a_token_that_it_knew_as_spent_is_known_also_after_the_key_was_changed(earlier: Earlier) -> None:
    world = earlier.world
    for _ in range(2):
        said = world.program.run("--dry-run").err
        assert re.search("spent.*: this refresh token is older than the last refresh", said)
        program = world.program
        program.settings["ENCRYPTION_KEY_FALLBACKS"] = program.settings["ENCRYPTION_KEY"]
        program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
        assert program.run("rotate-key").code == exits.DONE
        del program.settings["ENCRYPTION_KEY_FALLBACKS"]


def test_lost_and_sent_tokens_keep_their_time(earlier: Earlier) -> None:
    listed = earlier.world.program.run("recover", "--json").json()["entries"]
    assert {one["started_at"] for one in listed} == {"2026-03-01T11:00:00.000Z"}


def test_a_failure_that_it_remembered_is_remembered(earlier: Earlier) -> None:
    """In a table without the columns for it."""
    if earlier.world.table is not None:
        for name in ("status", "last_error", "failure_count"):
            earlier.world.table.remove_column(name)
        earlier.world.program.run("recover")
        [row] = [
            row
            for row in earlier.world.program.run("status", "--json").json()["rows"]
            if row["location_id"] == "failed"
        ]
        assert (row["status"], row["last_error"], row["failure_count"]) == ("reauthorize", "invalid_grant", 3)


def test_its_rows_were_refreshed_by_this_installation_and_not_by_another(earlier: Earlier) -> None:
    assert earlier.world.program.run("--dry-run").code == exits.DONE


def test_its_claims_are_ours(world: World) -> None:
    made = embedded(world)
    assert "oldhost" in made.cells("claimed")["claim_owner"]
    assert world.program.run("recover").code == exits.DONE
    assert (made.cells("claimed")["claim_owner"] or f"{HOST_ID}/1/").startswith(f"{HOST_ID}/1/")  # or given up


def test_what_a_process_of_it_has_that_is_alive_is_left_alone(world: World) -> None:
    made = embedded(world)
    held = hold(made.folder / "journal-1.lock")
    assert held is not None
    assert steps(world) == {}
    assert "oldhost" in made.cells("claimed")["claim_owner"]
    let_go(held)
    assert len(steps(world)) == 5


def test_a_folder_of_it_in_which_no_row_is_known_is_left_alone(world: World) -> None:
    """It may be another store's."""
    made = embedded(world)
    other = made.state / "0123456789abcdef"
    shutil.copytree(made.folder, other)
    with closing(sqlite3.connect(other / made.journal.name)) as database, database:
        database.executescript("DELETE FROM entries; DELETE FROM failures;")
    assert len(steps(world)) == 5
    assert (made.folder.exists(), (other / made.journal.name).exists()) == (False, True)


def test_while_a_run_of_it_is_active_at_airtable_nothing_is_done(airtable_world: World) -> None:
    assert airtable_world.airtable is not None
    made = at_airtable(airtable_world, airtable_world.airtable.url, "APISecrets")
    with run_lock(made.folder, airtable_world.clock):
        assert airtable_world.program.run().code == exits.BUSY
    assert len(steps(airtable_world)) == 5


def test_a_taking_over_that_was_cut_off_is_repeated(earlier: Earlier, monkeypatch: pytest.MonkeyPatch) -> None:
    from token_refresh.journal import file

    with monkeypatch.context() as patch:
        patch.setattr(file, "_delete", lambda *_: (_ for _ in ()).throw(OSError(5, "cut off", "journal")))
        assert earlier.world.program.run("recover").code != exits.DONE
    assert len(steps(earlier.world)) == 5


@pytest.fixture(autouse=True)
def _asks_nobody(world: World) -> Iterator[None]:
    yield
    assert world.oauth.requests == []
    assert world.clock.now() >= START
