"""What the pages on backup, moving and upgrading promise, brought about by the pages' own commands."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import exits
from tests.conftest import World
from tests.journal.test_earlier_state import at_airtable, embedded
from tests.world.airtable import AirtableServer
from tests.world.program import ROOT, Program, Result

CLIENTS = (("acme", "loc-1"), ("google", "loc-2"), ("gohighlevel", "loc-3"))
PREFIX = ".venv/bin/python token_manager.py"


def commands_of(page: str) -> Iterator[list[str]]:
    """The words of each command of `token_manager.py` on the page, in order."""
    text = (ROOT / "docs" / page).read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith(PREFIX):
                yield shlex.split(line.removeprefix(PREFIX))


def run(program: Program, words: list[str]) -> Result:
    """As the shell would start it: `~` is the home folder."""
    return program.run(*(word.replace("~", str(program.home), 1) if word[:2] == "~/" else word for word in words))


def with_clients(world: World) -> World:
    """Three clients, each refreshed once since it was added."""
    lines = [world.csv_line(provider, location) for provider, location in CLIENTS]
    assert world.program.onboard("--from-csv", world.program.csv(*lines)).code == 0
    world.clock.advance(7200)
    assert world.program.run().code == 0
    return world


def elsewhere(world: World, folder: Path) -> Program:
    """The same settings on another machine, whose state folder is another one."""
    folder.mkdir()
    folders = {"STATE_DIR": str(folder / "state"), "STATE_DIR_SPARE": str(folder / "spare")}
    made = Program(folder, world.program.settings | folders, world.clock, world.program.planted)
    made.in_clear = world.program.in_clear
    return made


def states(program: Program) -> dict[str, str]:
    return {row["location_id"]: row["state"] for row in program.run("status", "--json").json()["rows"]}


def all_valid() -> dict[str, str]:
    return {location: "valid" for _, location in CLIENTS}


def refreshes_all(world: World, program: Program) -> bool:
    """Whether every client is refreshed, by tokens of which none was used before."""
    refreshed = program.run("refresh", "--all", "--json")
    outcomes = {location: "refreshed" for _, location in CLIENTS}
    return (refreshed.code, refreshed.outcomes(), world.oauth.replayed()) == (0, outcomes, [])


def test_a_backup_is_restored_into_an_empty_folder_by_the_commands_of_its_page(world: World, tmp_path: Path) -> None:
    """The disk with the state folder, and the SQLite file in it, is gone; key and export are left."""
    with_clients(world)
    export, verify, plan, restore, *_ = commands_of("backup.md")
    assert run(world.program, export).code == 0
    assert run(world.program, verify).code == 0
    shutil.rmtree(world.program.settings["STATE_DIR"])
    restored = elsewhere(world, tmp_path / "new disk")
    shutil.copy(world.program.home / "clients.json", restored.home)
    assert "created" in run(restored, plan).said
    assert states(restored) == {}  # it only said what it would do
    assert run(restored, restore).code == 0
    assert states(restored) == all_valid()
    assert refreshes_all(world, restored)


@pytest.mark.long
def test_a_lost_machine_is_replaced_at_airtable_by_an_import_and_one_takeover(
    airtable_world: World, tmp_path: Path
) -> None:
    """The table is empty, too, and the rows of the export name the machine that is gone."""
    world = with_clients(airtable_world)
    export, _, _, restore, *_ = commands_of("backup.md")
    assert run(world.program, export).code == 0
    restored = elsewhere(world, tmp_path / "new disk")
    shutil.copy(world.program.home / "clients.json", restored.home)
    restored.settings["AIRTABLE_TABLE_NAME"] = "Restored"
    assert restored.run("setup").code == 0
    assert run(restored, restore).code == 0
    refused = restored.run("refresh")  # access tokens are in no export of Airtable's, so all rows are due
    assert (refused.code, "another installation refreshes this table" in refused.err) == (exits.USAGE, True)
    assert restored.run("refresh", "--takeover").code == 0
    assert states(restored) == all_valid()
    assert refreshes_all(world, restored)


@pytest.mark.long
def test_a_new_server_notices_that_the_first_one_may_still_be_on(airtable_world: World, tmp_path: Path) -> None:
    """By the page, but nobody has stopped the first one; each of the two notices the other."""
    world = with_clients(airtable_world)
    waits, takeover, *looks = commands_of("move.md")
    assert run(world.program, waits).code == 0
    second = elsewhere(world, tmp_path / "second")
    shutil.copytree(world.program.settings["STATE_DIR"], second.settings["STATE_DIR"])
    world.clock.advance(7200)

    refused = second.run("--json")
    assert refused.code == exits.USAGE
    assert "was copied or restored, or is used on two machines" in refused.err
    assert run(second, takeover).code == 0
    first = world.program.run("--all")
    assert first.code == exits.USAGE
    assert "another installation refreshes this table" in first.err
    assert [run(second, words).code for words in looks] == [0, 0]
    assert refreshes_all(world, second)


def test_a_move_with_the_first_server_off_keeps_every_client(world: World, tmp_path: Path) -> None:
    """With SQLite the table moves along, in the state folder."""
    with_clients(world)
    waits, takeover, *looks = commands_of("move.md")
    assert run(world.program, waits).code == 0
    second = elsewhere(world, tmp_path / "second")
    shutil.move(world.program.settings["STATE_DIR"], second.settings["STATE_DIR"])
    assert run(second, takeover).code == 0
    assert [run(second, words).code for words in looks] == [0, 0]
    assert states(second) == all_valid()
    assert refreshes_all(world, second)


@pytest.mark.parametrize("store", ["airtable", pytest.param("postgresql", marks=pytest.mark.long)])
def test_the_table_is_changed_by_the_commands_of_its_page(
    world: World, store: str, request: pytest.FixtureRequest
) -> None:
    with_clients(world)
    waits, export, *imports = commands_of("change-table.md")
    assert run(world.program, waits).code == 0
    assert run(world.program, export).code == 0
    if store == "airtable":
        airtable: AirtableServer = request.getfixturevalue("airtable")
        airtable.credentials_table()
        world.program.settings |= {
            "AIRTABLE_API_KEY": airtable.token,
            "AIRTABLE_BASE_ID": airtable.base_id,
            "AIRTABLE_ENDPOINT_URL": airtable.url,
        }
    else:
        request.getfixturevalue("postgres_world")
    Path(world.program.settings["STATE_DIR"], "tokens.sqlite3").rename(world.program.home / "tokens.sqlite3")
    assert [run(world.program, words).code for words in imports] == [0] * 5
    assert states(world.program) == all_valid()
    assert refreshes_all(world, world.program)


@pytest.mark.parametrize("store", ["embedded", "airtable"])
def test_an_upgrade_from_the_first_version_takes_over_what_it_left(store: str, request: pytest.FixtureRequest) -> None:
    """From files that 0.1.0 wrote: a state folder with answers that wait, used tokens and, with SQLite, the table."""
    if store == "embedded":
        earlier = embedded(request.getfixturevalue("world"))
    else:
        world = request.getfixturevalue("airtable_world")
        earlier = at_airtable(world, world.airtable.url, "APISecrets")
    program = earlier.world.program
    program.settings["HTTPS_PROXY_URL"] = "http://127.0.0.1:9"  # where nothing listens: no request leaves this machine
    version, export, doctor, refresh, recover, status = commands_of("upgrade.md")
    assert run(program, version).out == "token-refresh 0.2.0\n"
    assert run(program, export).code == 0
    run(program, doctor)
    run(program, refresh)  # its rows fail, for their provider cannot be reached; what waited is stored
    assert not earlier.folder.exists()
    assert earlier.stored("answered") == "newer-token-answered"
    listed = run(program, [*recover, "--json"]).json()["entries"]
    assert {"lost", "superseded"} <= {entry["location_id"] for entry in listed}
    assert run(program, status).code == 0
