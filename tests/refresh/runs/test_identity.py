"""One installation, one store: found again however it is addressed, and never taken for another one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import crypto
from tests import exits
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import (
    AirtableRows,
    PostgresRows,
    Rows,
    SqliteRows,
    entries,
    refuse_answers,
    spare_files,
    table_of,
)
from tests.refresh.runs.test_claims import ELSEWHERE, EVERYONE, claim
from tests.refresh.runs.test_faults import outage, run, sent
from tests.refresh.runs.test_faults_inside import run_context_of
from tests.refresh.runs.test_which_token_counts import assert_next_run_refreshes
from tests.stores.places import claimed
from tests.world.airtable import faults as airtable_faults
from tests.world.airtable import templates
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.program import Program
from token_refresh.journal.entries import Journal
from token_refresh.journal.installation import FILE, InstallationFile
from token_refresh.journal.lock import run_lock
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.stores.base import Claimant
from token_refresh.stores.database import DatabaseStore

HOUR = timedelta(hours=1)

KEYS = crypto.Keyring(bytes(range(32)))  # what an installation is does not hang on them


@pytest.fixture(params=["sqlite", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    return table_of(request.param, request)


@pytest.fixture
def table(airtable_world: World) -> AirtableRows:
    return AirtableRows(airtable_world)


def state(world: World) -> Path:
    return Path(world.program.settings["STATE_DIR"])


def well(table: AirtableRows) -> None:
    assert table.world.airtable is not None
    table.world.airtable.faults.clear()


def waiting(table: AirtableRows, provider: str = "acme") -> None:
    """A row whose new tokens wait in the journal."""
    table.add(provider, "loc")
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    well(table)


def by_id(world: World) -> None:
    world.program.settings["AIRTABLE_TABLE_NAME"] = world.table.id


def slash(world: World) -> None:
    world.program.settings["AIRTABLE_ENDPOINT_URL"] += "/"


def renamed(world: World) -> None:
    world.table.name = "Clients"
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Clients"


def moved(world: World) -> None:
    """On one disk; to another it is a copy."""
    folder = state(world).rename(world.program.home / "elsewhere")
    world.program.settings["STATE_DIR"] = str(folder)


ADDRESSES = [by_id, slash, renamed, moved]


@pytest.mark.parametrize("address", ADDRESSES)
def test_under_another_address_what_waits_is_stored(table: AirtableRows, address: Callable[[World], None]) -> None:
    waiting(table)
    address(table.world)
    assert run(table).code == exits.DONE
    assert table.is_current("loc")
    assert sent(table.world) == 1
    assert entries(table.world) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_under_another_address_a_spent_token_is_known(table: AirtableRows, address: Callable[[World], None]) -> None:
    table.add("acme", "loc")
    before = table.row("loc").encrypted_refresh
    assert run(table).code == exits.DONE
    table.edit("loc", encrypted_refresh=before, access_token_expiry=None)
    address(table.world)
    result = run(table)
    assert "older than the last refresh" in result.err
    assert sent(table.world) == 1


@pytest.mark.parametrize("address", [by_id, slash, renamed])
def test_under_another_address_the_run_that_is_active_is_known(
    table: AirtableRows, address: Callable[[World], None]
) -> None:
    table.add("acme", "loc")
    assert run(table).code == exits.DONE
    [folder] = {path.parent for path in state(table.world).glob("*/run.lock")}
    with run_lock(folder, table.world.clock):
        address(table.world)
        assert run(table, "--all").code == exits.BUSY


def test_an_onboarding_that_was_cut_off_is_finished_under_the_table_s_id(table: AirtableRows) -> None:
    world = table.world
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme-until-used", "entered")))
    world.clock.advance(91)
    by_id(world)
    run(table)
    assert table.is_current("entered")
    assert entries(world) == []


def test_a_base_that_was_restored_under_a_new_id_sends_no_spent_token(table: AirtableRows) -> None:
    world = table.world
    table.add("acme", "loc")
    snapshot = world.table.cells(world.table.find(locationId="loc")[0])
    assert run(table).code == exits.DONE
    assert world.airtable is not None
    base = world.airtable.create_base("restored")
    restored = world.airtable.create_table("APISecrets", templates.credentials(), base.id)
    restored.add(snapshot)
    world.program.settings["AIRTABLE_BASE_ID"] = base.id
    result = run(table)
    assert (result.code, sent(world)) == (exits.FAILED, 1)
    assert "older than the last refresh" in result.err


def restored_base(table: AirtableRows, *, keeps_record_ids: bool = True) -> None:
    """The base as it is now, under a new id; the program goes on with that one."""
    world = table.world
    assert world.airtable is not None
    base = world.airtable.restore_snapshot(keeps_record_ids=keeps_record_ids)
    world.program.settings["AIRTABLE_BASE_ID"] = base.id
    world.table = base.table(world.table.name)


@pytest.mark.parametrize("keeps_record_ids", [True, False])
def test_what_waits_for_a_base_is_stored_in_the_one_it_was_restored_to(
    table: AirtableRows, keeps_record_ids: bool
) -> None:
    waiting(table)
    restored_base(table, keeps_record_ids=keeps_record_ids)
    result = run(table)
    assert (result.code, sent(table.world)) == (exits.FAILED, 1)
    assert "recover --replay" in result.err
    assert table.world.program.run("recover", "--replay").code == exits.DONE
    assert (table.is_current("loc"), sent(table.world)) == (True, 1)
    assert run(table, "--all").code == exits.DONE
    assert table.is_current("loc")


def test_a_token_that_a_run_on_the_base_before_spends_between_two_looks_at_its_journal_is_not_sent(
    table: AirtableRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then an entry says that the token is used up, from then on what is spent."""
    waiting(table)
    [file] = table.world.program.home.rglob("journal-1.sqlite3")
    restored_base(table)
    looks: list[str] = []

    def ended_behind(name: str) -> Callable[..., Any]:
        look = getattr(Journal, name)

        def act(*args: Any) -> Any:
            found = look(*args)
            if not looks:
                with closing(sqlite3.connect(file)) as other, other:
                    other.execute("INSERT INTO spent SELECT token, location_id, provider, sent_at FROM entries")
                    other.execute("DELETE FROM entries")
            looks.append(name)
            return found

        return act

    for name in ("entries_elsewhere", "spent"):
        monkeypatch.setattr(Journal, name, ended_behind(name))
    assert run(table).code == exits.FAILED
    assert (sent(table.world), set(looks)) == (1, {"entries_elsewhere", "spent"})


@pytest.mark.parametrize("ahead", [0, 120])
def test_an_answer_that_was_lost_is_known_in_the_base_that_was_restored(table: AirtableRows, ahead: int) -> None:
    """To send its token again before the last minute could revoke the grant; the row may be `ahead` with its times."""
    world = table.world
    world.program.settings["REFRESH_INTERVAL"] = "600"
    last_refreshed = world.clock.now() + timedelta(seconds=ahead)
    table.add("acme-family", "loc", world.clock.now() + HOUR, last_refreshed=last_refreshed)
    world.oauth.fail(faults.reset())
    assert run(table, "--all").code == exits.FAILED
    restored_base(table)
    world.clock.advance(600)
    run(table, "--all")
    assert sent(world) == 1
    world.clock.advance(HOUR.total_seconds())
    assert run(table).code == exits.DONE
    assert table.is_current("loc")


def lost_before_a_restore(table: AirtableRows, provider: str) -> None:
    """The provider acted, its answer was lost, and the base has another id since then."""
    table.add(provider, "loc")
    table.world.oauth.fail(faults.acted_then_dropped(), times=9)
    assert run(table).code == exits.FAILED
    table.world.oauth.behave()
    restored_base(table)


def test_a_login_that_a_lost_answer_costs_is_explained_by_it_where_the_base_was_restored_and_a_run_killed(
    table: AirtableRows,
) -> None:
    lost_before_a_restore(table, "acme")
    world = table.world
    world.clock.advance(HOUR.total_seconds())
    struck(world, Point.KEPT, Fate.KILL)
    world.clock.advance(HOUR.total_seconds())
    [result] = run(table).json()["results"]
    assert result["outcome"] == "reauthorize"
    assert result["error"].startswith(f"the answer was lost on {START:%Y-%m-%d %H:%M} UTC")


def test_a_request_of_a_clock_that_was_ahead_is_waited_for_once_where_the_base_was_restored_since(
    table: AirtableRows,
) -> None:
    world = table.world
    world.clock.advance(timedelta(days=3).total_seconds())
    lost_before_a_restore(table, "acme-until-used")
    world.clock.set_back(timedelta(days=3).total_seconds())
    for _ in range(2):
        assert run(table).json()["results"] == []
        world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")


def test_a_token_that_is_never_replaced_is_sent_although_an_answer_waits_for_the_base_before_the_restore(
    table: AirtableRows,
) -> None:
    waiting(table, "acme-never")
    restored_base(table, keeps_record_ids=False)
    run(table)
    table.world.clock.advance(HOUR.total_seconds())
    assert run(table).outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")


def test_a_dry_run_notes_nothing_of_a_base_that_was_restored(table: AirtableRows) -> None:
    lost_before_a_restore(table, "acme-until-used")
    before = table.world.journalled()
    run(table, "--dry-run")
    assert table.world.journalled() == before
    run(table)
    assert len(table.world.journalled()) > len(before)


def at_base(table: AirtableRows, base_id: str) -> None:
    """The program goes on with this base."""
    world = table.world
    assert world.airtable is not None
    world.program.settings["AIRTABLE_BASE_ID"] = base_id
    world.table = world.airtable.workspace.bases[base_id].table(world.table.name)


@pytest.mark.parametrize("provider", ["acme", "acme-family"])
def test_an_answer_that_the_base_before_gets_after_the_restored_one_noted_the_loss_is_not_hidden_by_that_note(
    table: AirtableRows, provider: str
) -> None:
    """Both are in use, and the first one's answer waits in its journal: to send the token again costs the grant."""
    world, first = table.world, table.world.program.settings["AIRTABLE_BASE_ID"]
    table.add(provider, "loc")
    world.oauth.fail(faults.reset(), times=9)
    run(table)
    world.oauth.behave()
    restored_base(table)
    restored = world.program.settings["AIRTABLE_BASE_ID"]
    run(table)  # it waits: the request may be under way
    at_base(table, first)
    world.clock.advance(HOUR.total_seconds())
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    well(table)
    at_base(table, restored)
    world.clock.advance(HOUR.total_seconds())
    before = sent(world)
    assert "recover --replay" in run(table).err
    assert sent(world) == before
    assert world.program.run("recover", "--replay").code == exits.DONE
    assert table.is_current("loc")


@pytest.mark.parametrize("is_there_twice", [False, True])
def test_an_answer_in_the_spare_folder_is_stored_in_the_base_that_was_restored(
    table: AirtableRows, monkeypatch: pytest.MonkeyPatch, is_there_twice: bool
) -> None:
    """Twice as where somebody copied the folder's files."""
    world = table.world
    table.add("acme-family", "loc")
    outage(table, airtable_faults.status(503))
    with monkeypatch.context() as patch:
        refuse_answers(patch)
        run(table)
    well(table)
    [file] = spare_files(world)
    if is_there_twice:
        kind, at, uid, _ = file.name.rsplit("-", 3)
        file.with_name(f"{kind}-{at}-{uid}-{0:08x}.sealed").write_bytes(file.read_bytes())
    restored_base(table)
    world.clock.advance(HOUR.total_seconds())
    assert "recover --replay" in run(table).err
    assert world.program.run("recover", "--replay").code == exits.DONE
    assert (table.is_current("loc"), sent(world)) == (True, 1)


def test_a_row_of_a_restored_base_whose_provider_was_down_before_is_refreshed(table: AirtableRows) -> None:
    """What the journal keeps is the page of an outage, and no token."""
    table.add("acme", "loc")
    table.world.oauth.fail(faults.status(503), times=99)
    run(table)
    table.world.oauth.behave()
    restored_base(table)
    table.world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}


def a_sample_before_a_restore(table: AirtableRows) -> None:
    """The row holds one, which the provider was asked about in vain."""
    table.add("acme", "loc")
    table.world.oauth.fail(faults.raw(b'{"refresh_token": "sample-refresh"}'))
    table.world.oauth.fail(faults.status(503), times=99, token="sample-refresh")
    run(table)
    table.world.oauth.behave()


def test_a_sample_in_a_base_that_was_restored_gives_way_to_the_token_before(table: AirtableRows) -> None:
    a_sample_before_a_restore(table)
    restored_base(table)
    for outcome in ("unknown", "refreshed"):
        table.world.clock.advance(100)
        assert run(table).outcomes() == {"loc": outcome}
    assert table.is_current("loc")


def test_a_kept_refusal_of_a_sample_is_not_the_end_of_a_row_in_a_base_that_was_restored(table: AirtableRows) -> None:
    a_sample_before_a_restore(table)
    table.world.clock.advance(100)
    struck(table.world, Point.KEPT, Fate.KILL)
    restored_base(table)
    table.world.program.run("recover", "--replay")
    table.world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")


@pytest.mark.parametrize("was_kept", [False, True])
def test_what_the_base_before_a_restore_knows_of_a_token_that_stays_is_over_with_the_next_refresh(
    table: AirtableRows, was_kept: bool
) -> None:
    world = table.world
    file = Path(world.program.settings["PROVIDERS_FILE"])
    never, sometimes = ("never", "safe"), ("sometimes", "last_minute")
    old, new = (f'rotates = "{rotates}"\nreplay = "{replay}"' for rotates, replay in (never, sometimes))
    file.write_text(file.read_text().replace(old, new))
    world.program.settings["REFRESH_INTERVAL"] = "600"
    if was_kept:
        waiting(table, "acme-never")
        restored_base(table)
        assert world.program.run("recover", "--replay").code == exits.DONE
    else:
        lost_before_a_restore(table, "acme-never")
    world.clock.advance(2 * HOUR.total_seconds())
    assert run(table).outcomes() == {"loc": "refreshed"}
    world.clock.advance(2400)
    assert run(table).outcomes() == {"loc": "refreshed"}


@pytest.mark.parametrize("status", [400, 429])
def test_a_refusal_that_the_base_before_a_restore_kept_is_over_with_a_replay(table: AirtableRows, status: int) -> None:
    """It brought no token: the one that was sent goes out again."""
    table.add("acme", "loc")
    table.world.oauth.fail(faults.status(status))
    struck(table.world, Point.KEPT, Fate.KILL)
    restored_base(table)
    assert "recover --replay" in run(table).err
    assert table.world.program.run("recover", "--replay").code == exits.DONE
    table.world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}


def test_an_answer_of_the_base_before_a_restore_that_somebody_gives_up_is_over(table: AirtableRows) -> None:
    table.add("acme", "loc")
    table.world.oauth.fail(faults.raw(b'{"tokens": []}'))
    run(table)
    restored_base(table)
    program = table.world.program
    program.run("recover", "--replay")
    assert program.run("recover", "--discard", "loc", "--yes").code == exits.DONE
    table.world.clock.advance(100)
    assert run(table).outcomes() == {"loc": "refreshed"}


def test_what_the_base_before_a_restore_kept_of_a_token_that_stays_is_stored_once_where_no_column_has_the_time(
    table: AirtableRows,
) -> None:
    world = table.world
    file = Path(world.program.settings["PROVIDERS_FILE"])
    file.write_text(file.read_text().replace('rotates = "never"', 'rotates = "sometimes"'))
    waiting(table, "acme-never")
    restored_base(table)
    world.table.remove_column("last_refreshed")
    assert world.program.run("recover", "--replay").code == exits.DONE
    world.clock.advance(2 * HOUR.total_seconds())
    assert run(table).outcomes() == {"loc": "refreshed"}


def test_what_the_base_before_a_restore_kept_counts_where_the_row_was_refreshed_by_a_clock_that_was_ahead(
    table: AirtableRows,
) -> None:
    """To send the token again could revoke the one that waits."""
    world = table.world
    file = Path(world.program.settings["PROVIDERS_FILE"])
    never, sometimes = ("never", "safe"), ("sometimes", "last_minute")
    old, new = (f'rotates = "{rotates}"\nreplay = "{replay}"' for rotates, replay in (never, sometimes))
    file.write_text(file.read_text().replace(old, new))
    table.add("acme-never", "loc", last_refreshed=world.clock.now() + 2 * HOUR)
    outage(table, airtable_faults.status(503))
    assert run(table).code == exits.STORE
    well(table)
    restored_base(table)
    world.clock.advance(100)
    assert "recover --replay" in run(table).err
    assert sent(world) == 1


def test_two_tables_of_one_base_wait_for_each_other_and_leave_each_other_s_tokens_alone(table: AirtableRows) -> None:
    world = table.world
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "entered")))
    waiting(table)
    world.clock.advance(91)
    assert world.airtable is not None
    other = world.airtable.credentials_table("Second")
    other.add(world.cells("acme", "other"))
    world.program.settings["AIRTABLE_TABLE_NAME"] = "Second"
    result = run(table)
    assert result.outcomes() == {"other": "refreshed"}
    assert result.err.count("belongs to the table APISecrets") == 2
    assert sorted(entry.step for entry in entries(world)) == ["answered", "lost"]
    assert other.find(locationId="entered") == []
    world.program.settings["AIRTABLE_TABLE_NAME"] = "APISecrets"
    assert run(table).outcomes()["loc"] == "refreshed"
    assert table.is_current("loc")


def test_a_renamed_table_that_the_program_cannot_recognise_is_for_a_person_to_name(
    table: AirtableRows,
) -> None:
    """Without the right to see the schema an onboarding of another name may be another table's."""
    world = table.world
    assert world.airtable is not None
    world.airtable.add_token("pat-no-schema", scopes=("data.records:read", "data.records:write"))
    world.program.settings["AIRTABLE_API_KEY"] = "pat-no-schema"
    world.oauth.fail(faults.reset(), times=2)
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme-until-used", "entered")))
    world.clock.advance(91)
    renamed(world)
    assert "recover --replay" in run(table).err
    assert [entry.step for entry in entries(world)] == ["lost"]
    world.program.run("recover", "--replay")
    assert table.is_current("entered")


ENDPOINTS = st.sampled_from(["{url}", "{url}/"])
NAMES = st.sampled_from(["APISecrets", "{id}"])


@pytest.mark.long
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ENDPOINTS, NAMES), min_size=2, max_size=4))
def test_in_whatever_spelling_a_table_has_one_folder_and_one_memory(
    table: AirtableRows, spellings: list[tuple[str, str]]
) -> None:
    world = table.world
    assert world.airtable is not None
    location = f"loc {len(world.table.records())}"
    table.add("acme", location)
    spent: list[str] = []
    for endpoint, name in spellings:
        world.program.settings["AIRTABLE_ENDPOINT_URL"] = endpoint.format(url=world.airtable.url)
        world.program.settings["AIRTABLE_TABLE_NAME"] = name.format(id=world.table.id)
        for cell in spent:
            now = table.row(location).encrypted_refresh
            table.edit(location, encrypted_refresh=cell, access_token_expiry=None)
            before = sent(world)
            assert "older than the last refresh" in run(table, "--location", location, "--all").err
            assert sent(world) == before
            table.edit(location, encrypted_refresh=now)
        spent.append(table.row(location).encrypted_refresh)
        assert run(table, "--location", location, "--all").outcomes()[location] == "refreshed"
    assert len(list(state(world).glob("*/journal-*.sqlite3"))) == 1


# A database


def test_a_database_that_was_moved_is_the_same_one(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    before = rows.row("loc").encrypted_refresh
    assert run(rows).code == exits.DONE
    rows.edit("loc", encrypted_refresh=before, access_token_expiry=None)
    home = world.program.home
    (state(world) / "tokens.sqlite3").rename(home / "moved.sqlite3")
    world.program.settings["DATABASE_URL"] = f"sqlite:///{home / 'moved.sqlite3'}"
    assert "older than the last refresh" in run(rows).err
    assert sent(world) == 1


def test_the_same_database_by_two_addresses_has_one_id(postgres_world: World) -> None:
    plain = postgres_world.program.settings["DATABASE_URL"]
    rows = PostgresRows(postgres_world)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    sign = "&" if "?" in plain else "?"
    postgres_world.program.settings["DATABASE_URL"] = f"{plain}{sign}application_name=other"
    assert run(rows, "--all").code == exits.DONE
    assert len(list(state(postgres_world).glob("*/journal-*.sqlite3"))) == 1


def test_an_answer_outlives_the_take_over_of_two_journals_that_note_one_loss(world: World) -> None:
    """A process noted what another one of this host had lost, as the row was put back without its claim."""
    rows = SqliteRows(world)
    cells = world.cells("acme", "loc") | {"access_token_expiry": None}
    rows.put(cells)
    world.oauth.fail(faults.reset(), times=9)
    with run_context_of(rows) as context:
        Refresher(context).run(Scope())
        world.oauth.behave()
        rows.remove("loc")
        rows.put(cells)
        world.clock.advance(100)
        struck(world, Point.KEPT, Fate.KILL)
    world.clock.advance(100)
    assert run(rows).outcomes() == {"loc": "refreshed"}
    assert rows.is_current("loc")


# The key


def test_a_rotation_is_not_done_while_the_journal_of_the_base_before_needs_the_old_key(table: AirtableRows) -> None:
    """Whoever took the key away then could not open the answer any more that the restored base waits for."""
    waiting(table)
    restored_base(table)
    program = table.world.program
    program.settings["ENCRYPTION_KEY_FALLBACKS"] = program.settings["ENCRYPTION_KEY"]
    program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    first = program.run("rotate-key")
    assert first.code == exits.FAILED
    assert "or of this one before a restore, keep answers that only key" in first.err
    assert "done: " not in first.err.replace("not done: ", "")
    table.world.clock.advance(100)
    assert program.run("recover", "--replay").code == exits.DONE
    assert program.run("rotate-key").code == exits.DONE
    del program.settings["ENCRYPTION_KEY_FALLBACKS"]
    assert run(table, "--all").outcomes() == {"loc": "refreshed"}
    assert table.is_current("loc")


@pytest.mark.parametrize("what", ["the page of an outage", "the answer of a row that is gone"])
def test_a_rotation_ends_when_the_folder_of_a_base_that_is_gone_is_deleted(table: AirtableRows, what: str) -> None:
    world, program = table.world, table.world.program
    if what == "the page of an outage":
        table.add("acme", "loc")
        world.oauth.fail(faults.status(503), times=99)
        run(table)
        world.oauth.behave()
    else:
        waiting(table)
        world.table.remove(world.table.find(locationId="loc")[0])
        table.add("acme", "other")
    before = set((program.home / "state").iterdir())
    restored_base(table)
    world.clock.advance(100)
    assert run(table).code == exits.DONE
    program.settings["ENCRYPTION_KEY_FALLBACKS"] = program.settings["ENCRYPTION_KEY"]
    program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    rotated = program.run("rotate-key")
    assert rotated.code == exits.FAILED
    assert "delete the folder in STATE_DIR" in rotated.err
    [folder] = [path for path in before if any(path.glob("journal*"))]
    shutil.rmtree(folder)
    assert program.run("rotate-key").code == exits.DONE
    del program.settings["ENCRYPTION_KEY_FALLBACKS"]
    assert program.run("verify").code == exits.DONE


def test_rotation_forgets_no_spent_token(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc")
    before = rows.stored("loc")
    assert run(rows).code == exits.DONE
    program = world.program
    program.settings["ENCRYPTION_KEY_FALLBACKS"] = program.settings["ENCRYPTION_KEY"]
    program.settings["ENCRYPTION_KEY"] = crypto.generate_key()
    assert program.run("rotate-key").code == exits.DONE
    del program.settings["ENCRYPTION_KEY_FALLBACKS"]
    cell = world.seal("loc", "encrypted_refresh", before)
    rows.edit("loc", encrypted_refresh=cell, access_token_expiry=None)
    result = run(rows)
    assert "older than the last refresh" in result.err
    assert sent(world) == 1


# Another installation


def copied(program: Program) -> Program:
    """The program on another machine, with a copy of the state folder."""
    folder = program.home / "copy"
    shutil.copytree(program.settings["STATE_DIR"], folder)
    return replace(program, settings=program.settings | {"STATE_DIR": str(folder)})


def shared(rows: Rows) -> None:
    """A database that does not lie in the state folder."""
    if isinstance(rows, SqliteRows):
        file = rows.world.program.home / "shared.sqlite3"
        rows.world.program.settings["DATABASE_URL"] = f"sqlite:///{file}"
        rows.address = lambda: f"sqlite:///{file}"  # type: ignore[method-assign]


def test_a_copied_state_folder_refreshes_nothing_until_somebody_takes_over(rows: Rows) -> None:
    shared(rows)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    other = copied(rows.world.program)
    for _ in range(2):
        result = other.run("--all")
        assert result.code == exits.USAGE
        assert "copied or restored" in result.err
        assert "--takeover" in result.err
    assert sent(rows.world) == 1
    rows.world.clock.advance(60)
    assert other.run("--takeover", "--all").code == exits.DONE
    assert other.run("--all").code == exits.DONE
    assert sent(rows.world) == 3


def test_a_copied_state_folder_stores_the_answers_it_holds(table: AirtableRows) -> None:
    waiting(table)
    other = copied(table.world.program)
    result = other.run("--json")
    assert result.code == exits.USAGE
    assert table.is_current("loc")
    assert run(table).code == exits.DONE  # the original finds it done, and no twin
    assert entries(table.world) == []
    assert sent(table.world) == 1


def test_a_copied_state_folder_leaves_an_unproven_token_to_the_original_which_knows_the_one_before(rows: Rows) -> None:
    shared(rows)
    rows.add("acme", "loc")
    world, first = rows.world, rows.stored("loc")
    world.oauth.fail(faults.raw(b'{"refresh_token": "sample-refresh"}'), token=first)
    struck(world, Point.KEPT, Fate.KILL)
    assert copied(world.program).run("--json").code == exits.USAGE
    assert rows.stored("loc") == first
    assert run(rows).outcomes() == {"loc": "unknown"}  # it has tried the sample, and put the token before back
    assert rows.stored("loc") == first
    assert_next_run_refreshes(rows)


def test_a_copied_state_folder_leaves_an_onboarding_that_was_cut_off_to_the_original(rows: Rows) -> None:
    """Both would send the entered token."""
    shared(rows)
    world = rows.world
    world.oauth.fail(faults.reset())
    world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme-family", "loc")))
    asked = len(world.oauth.requests)
    other = copied(world.program)
    world.clock.advance(91)
    for command in ((), ("recover", "--replay")):
        assert "its onboarding waits in the journal: the state folder" in other.run(*command).err
    assert len(world.oauth.requests) == asked
    assert run(rows).code == exits.DONE
    assert rows.is_current("loc")


def test_the_first_machine_finds_out_by_the_table_that_another_one_goes_on(table: AirtableRows) -> None:
    table.add("acme", "loc")
    assert run(table).code == exits.DONE
    other = copied(table.world.program)
    table.world.clock.advance(60)
    assert other.run("--takeover", "--all").code == exits.DONE
    result = run(table, "--all")
    assert result.code == exits.USAGE
    assert "another installation refreshes this table" in result.err
    assert sent(table.world) == 2


def cloned(program: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The whole machine, disk and all: nothing in the folder tells the clone from the original."""
    other = copied(program)
    clone, original = Path(other.settings["STATE_DIR"]), Path(program.settings["STATE_DIR"])
    with closing(sqlite3.connect(clone / FILE)) as database, database:
        mark = InstallationFile(clone)._mark()
        database.execute("UPDATE identity SET mark = ?", (mark,))
    assert InstallationFile(original).begin("x", START, KEYS, takes_over=False).is_copy is False
    return other


def test_clones_of_a_machine_find_each_other_by_the_numbers_of_their_runs(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(rows)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    other = cloned(rows.world.program, monkeypatch)
    rows.world.clock.advance(60)
    assert other.run("--all").code == exits.DONE  # nobody can know yet
    for _ in range(2):
        result = run(rows, "--all")
        assert result.code == exits.USAGE
        assert "--takeover" in result.err
    assert sent(rows.world) == 2
    rows.world.clock.advance(60)
    assert run(rows, "--takeover", "--all").code == exits.DONE
    assert run(rows, "--all").code == exits.DONE


def test_a_clone_s_claims_are_not_stolen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SqliteRows(world)
    shared(rows)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    identity = InstallationFile(state(world)).begin("x", START, KEYS, takes_over=False)
    twin = Claimant(identity.id, 1, "run", identity.number + 1, "host")
    with closing(DatabaseStore(rows.address(), world.clock)) as store:
        assert claimed(store, EVERYONE, twin)
    result = run(rows, "--all")
    assert result.code == exits.USAGE
    assert "a copy of this installation is at work" in result.err
    assert sent(world) == 1


def test_who_takes_over_beside_a_clone_s_claims_goes_on_under_an_id_of_its_own(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    assert run(rows).code == exits.DONE
    identity = InstallationFile(state(world)).begin("x", START, KEYS, takes_over=False)
    twin = Claimant(identity.id, 1, "run", identity.number + 1, "host")
    with closing(DatabaseStore(rows.address(), world.clock)) as store:
        assert claimed(store, EVERYONE, twin)
    world.clock.advance(1)
    assert run(rows, "--all", "--takeover").outcomes() == {"loc": "refreshed"}
    assert InstallationFile(state(world)).begin("x", START, KEYS, takes_over=False).id != identity.id


def test_a_container_whose_name_is_new_at_each_start_goes_on_with_its_claims(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    for name in ("container-1", "container-2"):
        monkeypatch.setattr(os, "uname", lambda name=name: SimpleNamespace(nodename=name))
        world.oauth.fail(faults.reset(), times=2)
        assert run(rows, "--all").code == exits.FAILED
        world.clock.advance(91)
    assert run(rows, "--all").json()["results"] != []  # the claim that the dead one kept is ours


def test_on_airtable_a_new_host_name_is_no_other_host(table: AirtableRows, monkeypatch: pytest.MonkeyPatch) -> None:
    table.add("acme", "loc")
    for name in ("container-1", "container-2"):
        monkeypatch.setattr(os, "uname", lambda name=name: SimpleNamespace(nodename=name))
        assert run(table, "--all").code == exits.DONE
        assert table.row("loc").refreshed_by.startswith(f"{name}-")


def test_a_takeover_that_finds_nothing_to_refresh_counts_all_the_same(table: AirtableRows) -> None:
    table.add("acme", "loc", START + timedelta(days=9))
    table.edit("loc", refreshed_by="elsewhere-1234", last_refreshed=START)
    assert run(table, "--all").code == exits.USAGE
    table.world.clock.advance(1)
    assert run(table, "--takeover").json()["results"] == []
    assert run(table, "--all").outcomes() == {"loc": "refreshed"}


def test_a_dry_run_is_no_takeover(table: AirtableRows) -> None:
    table.add("acme", "loc")
    table.edit("loc", refreshed_by="elsewhere-1234", last_refreshed=START)
    assert run(table, "--takeover", "--dry-run").code == exits.DONE
    assert run(table).code == exits.USAGE


def test_in_a_database_a_takeover_counts_for_claims_of_before(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc", START + timedelta(days=9))
    claim(world, ELSEWHERE, "loc")
    world.clock.advance(1)
    assert run(rows, "--takeover").json()["results"] == []
    assert run(rows, "--all").outcomes() == {"loc": "refreshed"}


def test_a_lost_state_folder_is_named_as_a_reason(table: AirtableRows) -> None:
    table.add("acme", "loc")
    assert run(table).code == exits.DONE
    state(table.world).rename(table.world.program.home / "lost")
    result = run(table, "--all")
    assert result.code == exits.USAGE
    assert f"another installation refreshes this table: {os.uname().nodename}-" in result.err
    assert "UTC; perhaps STATE_DIR was lost or moved. Put the" in result.err
    assert "Put the earlier folder back, or set STATE_DIR to it: it may hold new tokens." in result.err
    state(table.world).rename(table.world.program.home / "empty")
    (table.world.program.home / "lost").rename(state(table.world))
    assert run(table, "--all").outcomes() == {"loc": "refreshed"}


def test_a_lost_state_folder_is_named_where_its_claims_stay_in_a_database(world: World) -> None:
    rows = SqliteRows(world)
    rows.add("acme", "loc")
    claim(world, replace(ELSEWHERE, host=os.uname().nodename), "loc")
    world.clock.advance(121)
    result = run(rows)
    assert result.code == exits.FAILED
    assert "claimed it and has not finished with it; perhaps STATE_DIR was lost or moved" in result.err
    assert "Put that folder back, or set STATE_DIR to it. If it is gone for ever, run here once: " in result.err
