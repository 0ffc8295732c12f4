"""What is known of all rows at the end of a run, in each kind of store, and what finding it out costs."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import crypto
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows, table_of
from tests.world.clock import START
from tests.world.oauth import faults
from token_refresh.base.clock import iso
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.commands import prepare
from token_refresh.diagnosis.row_memory import FILE
from token_refresh.notifiers.facts import Look, end_step
from token_refresh.notifiers.summary import Code, Facts, Item
from token_refresh.refresh.run import Refresher
from token_refresh.refresh.run_context import Scope
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_run_context, remembered_failures

pytestmark = pytest.mark.by_turns("rows")

HOUR = timedelta(hours=1)
DUE = Scope()


@pytest.fixture(params=["sqlite", "postgres", "airtable"])
def rows(request: pytest.FixtureRequest) -> Rows:
    return table_of(request.param, request)


@pytest.fixture
def airtable_rows(airtable_world: World) -> AirtableRows:
    return AirtableRows(airtable_world)


@pytest.fixture
def sqlite_rows(world: World) -> SqliteRows:
    return SqliteRows(world)


def facts_of(rows: Rows, *, wants_all: bool = True, scope: Scope = DUE) -> tuple[Facts, int]:
    """What is known after a run, and how many calls to the store that took."""
    installation = prepare(rows.world.program.settings, rows.world.clock, Console())
    remember = partial(remembered_failures, installation)
    look = Look(installation.catalog, remember, None, wants_all=wants_all, is_scheduled=not scope.is_by_hand)
    with open_run_context(installation) as context:
        run = Refresher(context).run(scope)
        before = context.store.store.calls
        facts = look.facts(context, run)
        return facts, context.store.store.calls - before


def codes(facts: Facts) -> dict[str, str]:
    return {item.location_id: item.code for item in facts.items if item.location_id}


def item_of(facts: Facts, code: Code) -> Item:
    [found] = [item for item in facts.items if item.code == code]
    return found


def test_each_row_counts_in_one_state_and_who_needs_a_person_is_named(rows: Rows) -> None:
    world, soon = rows.world, START + timedelta(minutes=10)
    for name in ("well", "dead", "refused", "over"):
        rows.add("acme", name, soon)
    rows.add("acme", "unreadable", soon, encrypted_refresh="pasted")
    rows.add("acme", "off", soon, status="disabled")
    rows.add("acme", "waits", encrypted_refresh="")
    rows.edit("over", access_token_expiry=iso(START - HOUR) if isinstance(rows, AirtableRows) else START - HOUR)
    world.oauth.revoke("dead")
    world.oauth.fail(faults.refused("invalid_scope"), token="refused")
    world.oauth.fail(faults.status(503), token="over", times=9)
    facts, _ = facts_of(rows)
    assert codes(facts) == {
        "dead": Code.LOGIN_NEEDED,
        "refused": Code.NEEDS_FIXING,
        "unreadable": Code.UNREADABLE_CELL,
        "over": Code.FAILING,
    }
    assert facts.tokens == {
        ("acme", "valid"): 1,
        ("acme", "login_needed"): 1,
        ("acme", "failing"): 2,
        ("acme", "expired"): 1,
        ("acme", "disabled"): 1,
    }
    assert facts.next_expiry == {"acme": START - HOUR}
    assert facts.unreadable_cells == 1
    assert facts.first_end == START - HOUR
    refused = item_of(facts, Code.NEEDS_FIXING)
    assert (refused.location_id, refused.provider, refused.step) == ("refused", "acme", 1)
    assert "invalid_scope" in refused.message
    assert refused.action


def test_who_must_log_in_again_is_named_with_the_whole_command(rows: Rows) -> None:
    rows.add("gohighlevel", "loc", START + timedelta(minutes=10))
    rows.world.oauth.revoke("loc")
    action = item_of(facts_of(rows)[0], Code.LOGIN_NEEDED).action
    assert action.endswith(f" {ONBOARD_CLIENT} --authorize --provider gohighlevel --location loc")


def test_who_recovers_is_no_longer_named(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "loc", START + timedelta(minutes=10))
    world.oauth.fail(faults.refused("invalid_scope"), times=9)
    for wants_all in (True, False):
        assert codes(facts_of(rows, wants_all=wants_all)[0]) == {"loc": Code.NEEDS_FIXING}
    world.oauth.behave()
    for wants_all in (True, False):
        assert facts_of(rows, wants_all=wants_all)[0].items == []


def test_the_first_failed_run_of_a_row_is_too_early_to_say_where_its_token_outlives_the_next(rows: Rows) -> None:
    rows.world.program.settings["REFRESH_INTERVAL"] = "900"
    for name, minutes in (("long", 30), ("short", 14)):
        rows.add("acme", name, START + timedelta(minutes=minutes))
    rows.world.oauth.fail(faults.status(503), times=99)
    facts, _ = facts_of(rows)
    assert {item.location_id: (item.code, item.step) for item in facts.items} == {
        "long": (Code.FAILING, 0),
        "short": (Code.FAILING, 1),
    }
    assert facts.first_end == START + timedelta(minutes=14)
    rows.world.clock.advance(600)
    assert {item.step for item in facts_of(rows)[0].items} == {1}


@pytest.mark.parametrize("wants_all", [True, False])
def test_who_logs_in_again_is_no_longer_named_by_a_run_that_finds_nothing_due(rows: Rows, wants_all: bool) -> None:
    world = rows.world
    rows.add("acme", "loc", START + timedelta(minutes=10))
    world.oauth.revoke("loc")
    for _ in range(2):
        assert codes(facts_of(rows, wants_all=wants_all)[0]) == {"loc": Code.LOGIN_NEEDED}
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc")), "--replace").code == 0
    assert facts_of(rows, wants_all=wants_all)[0].items == []


# What it costs


def test_where_nobody_wants_to_know_of_all_rows_airtable_is_not_called(airtable_rows: AirtableRows) -> None:
    airtable_rows.add("acme", "loc", START + timedelta(minutes=10))
    airtable_rows.world.oauth.revoke("loc")
    for _ in range(3):
        facts, calls = facts_of(airtable_rows, wants_all=False)
        assert (codes(facts), calls, facts.tokens) == ({"loc": Code.LOGIN_NEEDED}, 0, {})
        airtable_rows.world.clock.advance(86_400)


def test_all_rows_are_listed_once_a_day_and_between_two_listings_the_runs_are_followed(
    airtable_rows: AirtableRows,
) -> None:
    world = airtable_rows.world
    airtable_rows.add("acme", "soon", START + timedelta(minutes=10))
    airtable_rows.add("acme", "later", START + timedelta(hours=3))
    airtable_rows.add("google", "much later", START + timedelta(hours=9))
    facts, calls = facts_of(airtable_rows)
    assert calls == 1
    assert facts.tokens == {("acme", "valid"): 2, ("google", "valid"): 1}
    world.clock.advance(8000)
    world.oauth.fail(faults.refused("invalid_scope"), token="later")
    facts, calls = facts_of(airtable_rows)
    assert calls == 0
    assert facts.tokens == {("acme", "valid"): 1, ("acme", "failing"): 1, ("google", "valid"): 1}
    assert facts.next_expiry == {"acme": START + 3 * HOUR, "google": START + 9 * HOUR}
    airtable_rows.remove("much later")
    world.clock.advance(86_400)
    facts, calls = facts_of(airtable_rows)
    assert calls == 1
    assert ("google", "valid") not in facts.tokens


def test_a_run_that_a_person_starts_lists_nothing(airtable_rows: AirtableRows) -> None:
    airtable_rows.add("acme", "loc")
    assert facts_of(airtable_rows, scope=Scope(everything=True))[1] == 0


def test_a_row_that_was_fixed_or_deleted_at_airtable_is_not_named_for_ever(airtable_rows: AirtableRows) -> None:
    world = airtable_rows.world
    for name in ("fixed", "deleted"):
        airtable_rows.add("acme", name, START + timedelta(minutes=10))
    world.oauth.fail(faults.refused("invalid_scope"), times=2)
    assert set(codes(facts_of(airtable_rows, wants_all=False)[0])) == {"fixed", "deleted"}
    airtable_rows.remove("deleted")
    assert facts_of(airtable_rows, wants_all=False)[0].items == []


def test_a_row_with_a_dead_grant_that_is_deleted_at_airtable_is_named_for_a_day_at_most(
    airtable_rows: AirtableRows,
) -> None:
    for name in ("dead", "deleted"):
        airtable_rows.add("acme", name, START + timedelta(minutes=10))
        airtable_rows.world.oauth.revoke(name)
    assert set(codes(facts_of(airtable_rows, wants_all=False)[0])) == {"dead", "deleted"}
    airtable_rows.remove("deleted")
    airtable_rows.world.clock.advance(86_400)
    facts, calls = facts_of(airtable_rows, wants_all=False)
    assert (set(codes(facts)), calls) == ({"dead"}, 0)


def test_of_a_row_that_is_kept_no_text_stays_into_which_somebody_may_have_pasted_a_secret(
    airtable_rows: AirtableRows,
) -> None:
    world = airtable_rows.world
    pasted = "a-refresh-token-that-somebody-pasted"
    columns = ("encrypted_refresh", "provider_params", "provider", "last_access_token")
    for column in columns:
        airtable_rows.add("acme", column, START + 9 * HOUR)
        airtable_rows.edit(column, **{column: pasted})
    airtable_rows.add("acme", "sealed", START + 9 * HOUR, encrypted_refresh=f"sealed:v1:{pasted}")
    facts_of(airtable_rows)
    [file] = Path(world.program.settings["STATE_DIR"]).glob(f"*/{FILE}")
    kept = {row["locationId"]: row for row in json.loads(file.read_text())["rows"]}
    assert kept.keys() == {*columns, "sealed"}
    assert (kept["encrypted_refresh"]["encrypted_refresh"], len(kept["sealed"]["encrypted_secret"])) == ("-", 26)
    assert pasted[:12] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"rows": 3}', b'{"rows": [3]}', b'{"rows": [{"failure_count": "x"}]}']
)
def test_a_file_that_is_damaged_is_found_out_again(airtable_rows: AirtableRows, content: bytes) -> None:
    airtable_rows.add("acme", "loc", START + 9 * HOUR)
    facts_of(airtable_rows)
    [file] = Path(airtable_rows.world.program.settings["STATE_DIR"]).glob(f"*/{FILE}")
    file.write_bytes(content)
    facts, calls = facts_of(airtable_rows)
    assert (facts.tokens, calls) == ({("acme", "valid"): 1}, 1)


# What a database's index does not show


def test_a_row_of_a_refused_client_counts_as_failing_although_it_is_not_marked(sqlite_rows: SqliteRows) -> None:
    sqlite_rows.add("acme", "loc", START + timedelta(minutes=10))
    sqlite_rows.world.oauth.fail(faults.wrong_secret(), times=9)
    facts, _ = facts_of(sqlite_rows)
    assert codes(facts) == {"loc": Code.NEEDS_FIXING}
    assert facts.tokens == {("acme", "failing"): 1}
    assert sqlite_rows.row("loc").last_error == ""


def test_a_row_of_a_refused_client_that_was_disabled_counts_as_disabled_alone(sqlite_rows: SqliteRows) -> None:
    sqlite_rows.add("acme", "loc", START + timedelta(minutes=10))
    sqlite_rows.world.oauth.fail(faults.wrong_secret(), times=9)
    facts_of(sqlite_rows)
    sqlite_rows.edit("loc", status="disabled")
    facts, _ = facts_of(sqlite_rows)
    assert (codes(facts), facts.tokens) == ({}, {("acme", "disabled"): 1})


def test_a_row_of_a_refused_client_is_named_also_by_a_run_that_does_not_try_it(sqlite_rows: SqliteRows) -> None:
    sqlite_rows.add("acme", "loc", START + timedelta(minutes=10))
    sqlite_rows.world.oauth.fail(faults.wrong_secret(), times=9)
    facts_of(sqlite_rows)
    sqlite_rows.world.oauth.behave()
    sqlite_rows.add("acme", "other")
    facts, _ = facts_of(sqlite_rows, scope=Scope(locations=("other",)))
    assert codes(facts) == {"loc": Code.FAILING}
    assert facts.tokens == {("acme", "failing"): 1, ("acme", "valid"): 1}
    assert facts_of(sqlite_rows)[0].items == []


def test_what_ends_for_good_is_looked_for_once_a_day_and_named_until_then(rows: Rows) -> None:
    end = START + timedelta(days=20)
    rows.add("acme-never", "loc", START + 9 * HOUR, refresh_token_expiry=end)
    for _ in range(2):
        facts, _ = facts_of(rows)
        [ending] = facts.items
        assert (ending.code, ending.part, ending.ends) == (Code.ENDING, "refresh_token", iso(end))
        assert (ending.step, facts.first_end) == (end_step(end, rows.world.clock.now()), None)
        assert ending.action
        rows.world.clock.advance(600)
    assert facts_of(rows, wants_all=False)[0].items == []


# Keys


def test_cells_under_an_older_key_and_under_one_that_is_gone_are_counted(rows: Rows) -> None:
    world = rows.world
    rows.add("acme", "first", START + 9 * HOUR)
    older = world.program.settings["ENCRYPTION_KEY"]
    facts_of(rows, wants_all=False)  # makes the installation, whose file is sealed with the key
    settings = world.program.settings
    settings |= {"ENCRYPTION_KEY": crypto.generate_key(), "ENCRYPTION_KEY_FALLBACKS": older}
    facts, _ = facts_of(rows)
    assert item_of(facts, Code.ROTATION_UNFINISHED).message == "1 row is still encrypted with an older key"
    assert facts.unreadable_cells == 0


def test_cells_under_a_key_that_is_gone_are_counted_before_they_are_due(rows: Rows) -> None:
    context = crypto.Context("encrypted_secret", "loc", rows.world.oauth.url)
    foreign = crypto.Keyring(crypto.parse_key(crypto.generate_key())).seal("secret of a client", context)
    rows.add("acme", "loc", START + 9 * HOUR, encrypted_secret=foreign)
    facts, _ = facts_of(rows)
    assert (facts.unreadable_cells, facts.items) == (1, [])


def test_what_waits_in_the_journal_is_counted_by_step(sqlite_rows: SqliteRows) -> None:
    world = sqlite_rows.world
    sqlite_rows.add("acme", "loc")
    world.oauth.fail(faults.cut(), times=9)
    facts, _ = facts_of(sqlite_rows)
    assert facts.journal_entries == {"lost": 1}
    assert Code.JOURNAL_WAITING not in {item.code for item in facts.items}


def test_tokens_that_wait_in_the_journal_for_more_than_a_day_are_named(sqlite_rows: SqliteRows) -> None:
    world = sqlite_rows.world
    sqlite_rows.add("acme", "loc")
    world.oauth.fail(faults.raw(b'{"response": {"data": {"access_token": "12345678"}}}'))
    for hours, is_named in ((24, False), (1, True)):
        facts_of(sqlite_rows)
        world.clock.advance(hours * 3600)
        facts, _ = facts_of(sqlite_rows)
        assert facts.journal_entries == {"unread": 1}
        assert (Code.JOURNAL_WAITING in {item.code for item in facts.items}) == is_named


def test_an_end_gets_nearer_in_three_steps() -> None:
    steps = {days: end_step(START + timedelta(days=days), START) for days in (31, 30, 8, 7, 2, 1, 0)}
    assert steps == {31: 0, 30: 1, 8: 1, 7: 2, 2: 2, 1: 3, 0: 3}
