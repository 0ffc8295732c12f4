"""A HighLevel agency and its locations: listed, added, and given other tokens where theirs are dead or lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from providers.base import Answer, RawAnswer, Verdict
from providers.registry import read_catalog
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import TABLES, AirtableRows, Rows, SqliteRows, entries, table_of
from tests.refresh.runs.test_faults_inside import OtherStore, on, run_context_of
from tests.refresh.runs.test_faults_inside import run as run_once
from tests.world.airtable import faults as airtable_faults
from tests.world.http import Request, Response
from tests.world.oauth import faults
from tests.world.program import Result
from token_refresh.base.errors import Kind
from token_refresh.base.events import NoticeCode, Outcome
from token_refresh.base.files import AGENCIES_FILE
from token_refresh.base.program import ONBOARD_CLIENT
from token_refresh.clients.agencies import minting
from token_refresh.clients.credential import NewCredential
from token_refresh.clients.installs import AgencyCalls, add_location, fresh_agency
from token_refresh.clients.login.redemption import completed
from token_refresh.refresh.jobs import Held, Job
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import StoreUnavailableError

COMPANY = "comp-1"
MANY = 50
PAGE = 100  # as many locations as a page of HighLevel's holds

pytestmark = pytest.mark.by_turns("rows")


@pytest.fixture(params=sorted(TABLES))
def rows(request: pytest.FixtureRequest) -> Rows:
    """A table with the row of an agency, in each kind of store."""
    made = table_of(request.param, request)
    return with_agency(made)


@pytest.fixture
def table(world: World) -> Rows:
    """The same in SQLite."""
    return with_agency(SqliteRows(world))


def with_agency(rows: Rows) -> Rows:
    rows.world.program.settings |= {"LOG_FORMAT": "json", "CONCURRENCY": "4"}
    cells = rows.world.consented("gohighlevel", COMPANY, user_type="Company", company_id=COMPANY)
    rows.put(cells | {"provider_params": json.dumps({"user_type": "Company"})})
    return rows


def agency(rows: Rows, *flags: str) -> Result:
    return rows.world.program.onboard("--locations", COMPANY, *flags, "--json")


def states(result: Result) -> dict[str, str]:
    return {one["location_id"]: one["state"] for one in result.json()["locations"]}


def names(count: int) -> list[str]:
    return [f"loc-{number:04}" for number in range(count)]


def asked(world: World, ending: str) -> list[Request]:
    return [request for request in world.oauth.requests if request.path.endswith(ending)]


def added(rows: Rows, *locations: str) -> None:
    """Locations whose rows were made from the agency; by now they are due."""
    rows.world.oauth.agencies.install(COMPANY, *locations)
    assert agency(rows, "--all").code == 0
    later(rows, hours=20)
    rows.world.oauth.requests.clear()


def later(rows: Rows, **length: float) -> None:
    rows.world.clock.advance(timedelta(**length).total_seconds())


def run(rows: Rows) -> Result:
    return rows.world.program.run("--json")


def result_of(result: Result, location: str) -> dict[str, Any]:
    [found] = [one for one in result.json()["results"] if one["location_id"] == location]
    return dict(found)


# The login


def test_the_login_of_an_agency_makes_a_row_of_its_own(world: World) -> None:
    provider = next(one for one in read_catalog() if one.slug == "gohighlevel")
    draft = NewCredential("", "gohighlevel", "app-1", "secret", "")
    content = {"access_token": "access-1-long-enough", "refresh_token": "refresh-1-long-enough", "expires_in": 86399}
    answer = {**content, "userType": "Company", "companyId": COMPANY, "approvedLocations": ["loc-1"]}
    raw = RawAnswer(200, {"content-type": "application/json"}, json.dumps(answer).encode(), world.clock.now(), True)
    entered, _ = completed(provider, draft, raw)
    assert (entered.location_id, json.loads(entered.provider_params)["user_type"]) == (COMPANY, "Company")


# Listing and adding


def test_without_all_the_locations_are_only_listed(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1", "loc-2")
    result = agency(table)
    assert (result.code, states(result)) == (0, {"loc-1": "new", "loc-2": "new"})
    assert asked(table.world, "locationToken") == []
    assert set(table.world.rows()) == {COMPANY}


@pytest.mark.long
def test_every_location_of_an_agency_gets_a_row_with_tokens_of_its_own(rows: Rows) -> None:
    world, fake = rows.world, rows.world.oauth.agencies
    fake.install(COMPANY, *names(MANY))
    fake.max_page = 20  # below what is asked for
    fake.uninstall(COMPANY, "loc-0007")
    fake.inactive.add("loc-0011")
    result = agency(rows, "--all")
    assert result.code == 1
    found = states(result)
    assert found.pop("loc-0011") == "failed"
    assert sorted(found) == [name for name in names(MANY) if name not in ("loc-0007", "loc-0011")]
    assert set(found.values()) == {"added"}
    assert "Location is not active" in result.err
    for name in ("loc-0000", "loc-0049"):
        assert rows.is_current(name)
        assert (
            json.loads(rows.row(name).provider_params).items() >= {"user_type": "Location", "company": COMPANY}.items()
        )
    assert len(asked(world, "installedLocations")) == 4  # of 20, 20, 9 and none
    assert len(asked(world, "locationToken")) == MANY - 1
    assert world.oauth.violations == []
    assert entries(world) == []
    fake.inactive.clear()
    fake.install(COMPANY, "loc-later")
    again = agency(rows, "--all")
    assert again.code == 0
    assert [name for name, state in states(again).items() if state == "added"] == ["loc-0011", "loc-later"]
    assert len(asked(world, "locationToken")) == MANY + 1


@pytest.mark.long
@pytest.mark.parametrize("rows", ["sqlite"], indirect=True)  # half a minute each; the other tests are for all stores
def test_two_thousand_locations_are_added_and_kept_within_the_limit_of_calls(rows: Rows) -> None:
    """One has lost the app, one is inactive, one gets the app later, and the pair of one dies."""
    world, fake = rows.world, rows.world.oauth.agencies

    def calls() -> tuple[int, int]:
        """The pages that were listed, and the pairs that were asked for; none met the limit."""
        counts = len(asked(world, "installedLocations")), len(asked(world, "locationToken"))
        world.oauth.requests.clear()
        return counts

    fake.install(COMPANY, *names(2000))
    fake.uninstall(COMPANY, "loc-0007")
    fake.inactive.add("loc-0011")
    result = agency(rows, "--all")
    found = states(result)
    assert (result.code, found.pop("loc-0011"), "loc-0007" in found) == (1, "failed", False)
    assert (set(found.values()), len(found)) == ({"added"}, 1998)
    assert calls() == (2000 // PAGE + 1, 1999)  # the last page is empty
    fake.inactive.clear()
    fake.install(COMPANY, "loc-later")
    again = agency(rows, "--all")
    assert again.code == 0
    assert [name for name, state in states(again).items() if state == "added"] == ["loc-0011", "loc-later"]
    assert calls() == (2000 // PAGE + 1, 2)
    world.oauth.revoke("loc-0042")
    later(rows, hours=20)
    run = world.program.run("--json", "--location", "loc-0042")
    assert run.outcomes() == {"loc-0042": "refreshed"}
    assert calls() == (0, 1)
    assert all(rows.is_current(name) for name in ("loc-0000", "loc-0011", "loc-0042", "loc-1999", "loc-later"))
    assert (world.oauth.violations, entries(world)) == ([], [])


def test_one_location_is_added_and_one_without_the_app_is_named(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1", "loc-2")
    result = agency(table, "--location", "loc-2", "--location", "elsewhere")
    assert (result.code, states(result)) == (1, {"loc-1": "new", "loc-2": "added", "elsewhere": "failed"})


def test_the_limit_of_calls_is_obeyed_where_others_have_used_it_up(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, *names(3))
    table.world.oauth.agencies._calls.extend([table.world.clock.timestamp()] * 98)
    assert agency(table, "--all").code == 0
    assert len(asked(table.world, "installedLocations")) + len(asked(table.world, "locationToken")) == 6  # one again


def test_an_agency_whose_token_is_nearly_out_is_refreshed_first(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1")
    later(table, hours=23, minutes=50)
    assert agency(table, "--all").code == 0
    asked_for = [request.path.rpartition("/")[2] for request in table.world.oauth.requests]
    assert asked_for == ["token", "installedLocations", "installedLocations", "locationToken"]


def test_a_location_that_is_there_already_stays_as_it_is(table: Rows) -> None:
    added(table, "loc-1")
    before = table.row("loc-1")
    result = agency(table, "--location", "loc-1")
    assert (result.code, states(result), result.err) == (0, {"loc-1": "in_table"}, "")
    assert (table.row("loc-1"), asked(table.world, "locationToken")) == (before, [])


def test_people_see_the_locations_as_a_table_and_what_adds_them(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1", "loc-2")
    result = table.world.program.onboard("--locations", COMPANY)
    assert [line.split()[0] for line in result.out.splitlines()] == ["LOCATION", "loc-1", "loc-2"]
    assert f"without a row: 2 of 2; to add all: {ONBOARD_CLIENT} --locations {COMPANY} --all" in result.err


def test_a_location_whose_row_is_not_stored_is_not_counted_as_added(airtable_world: World) -> None:
    rows, airtable = with_agency(AirtableRows(airtable_world)), airtable_world.airtable
    assert airtable is not None
    airtable_world.oauth.agencies.install(COMPANY, "loc-1")
    airtable.inject(airtable_faults.unprocessable(message="no such luck"), kind="create", times=None)
    result = agency(rows, "--all")
    assert (result.code, states(result)) == (1, {"loc-1": "failed"})
    assert "loc-1 was not added: " in result.err
    airtable.faults.clear()
    assert run(rows).code == 0
    assert rows.is_current("loc-1")


def test_of_an_agency_whose_grant_is_dead_nothing_is_listed(table: Rows) -> None:
    later(table, hours=25)
    table.world.oauth.revoke(COMPANY)
    result = agency(table)
    assert result.code == 1
    assert f"--authorize --provider gohighlevel --location {COMPANY}" in result.err or "log in" in result.err.lower()


def test_of_an_agency_whose_tokens_do_not_open_nothing_is_listed(table: Rows) -> None:
    table.edit(COMPANY, encrypted_refresh=table.world.seal("another", "encrypted_refresh", "pasted"))
    result = agency(table)
    assert (result.code, "encrypted_refresh was changed, or belongs to another row" in result.err) == (2, True)
    assert table.world.oauth.requests == []


def test_a_list_in_a_form_that_is_not_known_adds_nothing(table: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Response.of_json(200, {"locations": [{"name": "without an id"}]})
    monkeypatch.setattr(table.world.oauth.agencies, "list_installed", lambda _: page)
    result = agency(table, "--all")
    assert (result.code, f"the locations of {COMPANY} cannot be listed: " in result.err) == (1, True)
    assert asked(table.world, "locationToken") == []


def test_a_pair_in_a_form_that_is_not_known_is_kept_and_its_location_not_added(table: Rows) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1")
    table.world.oauth.fail(faults.raw(b'{"tokens": []}'))
    result = agency(table, "--all")
    assert (result.code, states(result)) == (1, {"loc-1": "failed"})
    assert "loc-1 was not added: the agency got no tokens for it: " in result.err
    assert [(entry.location_id, entry.step) for entry in entries(table.world)] == [("loc-1", "superseded")]
    assert states(agency(table, "--all")) == {"loc-1": "added"}


def test_a_row_that_is_no_agencys_lists_nothing(table: Rows) -> None:
    table.put(table.world.consented("gohighlevel", "loc-1"))
    result = table.world.program.onboard("--locations", "loc-1")
    assert (result.code, "is no agency's" in result.err) == (1, True)


@pytest.mark.parametrize(
    "flags",
    [("--all",), ("--location", "loc-1"), ("--locations", COMPANY, "--all", "--location", "loc-1"),
     ("--locations", COMPANY, "--authorize")],
)  # fmt: skip
def test_flags_that_do_not_fit_are_refused(table: Rows, flags: tuple[str, ...]) -> None:
    assert table.world.program.onboard(*flags).code == 2


# In a run


def test_a_location_whose_pair_is_dead_gets_another_in_the_same_run(rows: Rows) -> None:
    added(rows, "loc-1", "loc-2", "loc-3")
    world = rows.world
    world.oauth.revoke("loc-2")
    world.oauth.revoke("loc-3")
    calls = len(world.airtable.http.requests) if world.airtable is not None else 0
    result = run(rows)
    assert result.code == 0
    assert result.outcomes() == dict.fromkeys((COMPANY, "loc-1", "loc-2", "loc-3"), "refreshed")
    assert all(rows.is_current(name) for name in ("loc-1", "loc-2", "loc-3"))
    assert rows.row("loc-2").status in ("", "active")
    assert len(asked(world, "locationToken")) == 2
    assert entries(world) == []
    if world.airtable is not None:
        usual = len(world.airtable.http.requests) - calls
        later(rows, hours=20)
        calls = len(world.airtable.http.requests)
        run(rows)
        more = usual - (len(world.airtable.http.requests) - calls)
        assert more == 2  # the agency's row is read once for both, and theirs are written once more


def test_where_nothing_is_dead_no_agency_is_asked(rows: Rows) -> None:
    added(rows, "loc-1")
    later(rows, minutes=1)
    assert run(rows).code == 0
    assert asked(rows.world, "locationToken") == []


def test_a_location_whose_answer_was_lost_gets_another_pair_in_the_same_run(rows: Rows) -> None:
    added(rows, "loc-1")
    rows.world.oauth.fail(faults.acted_then_dropped(), token="loc-1", times=2)
    result = run(rows)
    assert result.outcomes() == {COMPANY: "refreshed", "loc-1": "refreshed"}
    assert rows.is_current("loc-1")
    assert entries(rows.world) == []


def test_a_location_without_a_refresh_token_lives_by_its_agency(rows: Rows) -> None:
    rows.world.oauth.agencies.without_refresh_token = True
    added(rows, "loc-1")
    for _ in range(2):
        assert run(rows).outcomes() == {COMPANY: "refreshed", "loc-1": "refreshed"}
        assert rows.world.oauth.is_live(rows.access("loc-1"))
        later(rows, hours=20)


def test_a_location_that_lost_the_app_needs_it_again_and_then_follows_by_itself(rows: Rows) -> None:
    added(rows, "loc-1")
    rows.world.oauth.agencies.uninstall(COMPANY, "loc-1")
    rows.world.oauth.revoke("loc-1")
    rows.world.oauth.family("loc-1").uninstalled = False  # answers like a dead token
    result = run(rows)
    assert (result.code, result.outcomes()["loc-1"]) == (1, "reauthorize")
    assert "Install the app" in result_of(result, "loc-1")["action"]
    rows.world.oauth.agencies.install(COMPANY, "loc-1")
    later(rows, hours=25)
    assert run(rows).outcomes()["loc-1"] == "refreshed"
    assert rows.is_current("loc-1")


def test_where_the_agency_is_dead_too_it_is_named(rows: Rows) -> None:
    added(rows, "loc-1")
    later(rows, hours=5)
    rows.world.oauth.revoke("loc-1")
    rows.world.oauth.revoke(COMPANY)
    result = run(rows)
    found = result_of(result, "loc-1")
    assert (result.code, found["outcome"]) == (1, "reauthorize")
    assert f"its agency {COMPANY} is dead, too" in found["error"]
    assert f"--location {COMPANY}" in found["action"]
    assert asked(rows.world, "locationToken") == []


def test_where_the_agency_cannot_be_refreshed_for_now_the_location_waits(rows: Rows) -> None:
    added(rows, "loc-1")
    later(rows, hours=5)
    rows.world.oauth.revoke("loc-1")
    script = rows.world.oauth.fail(faults.status(503), token=COMPANY, times=9)
    result = run(rows)
    assert result.outcomes()["loc-1"] == "transient"
    assert script.hits
    rows.world.oauth.behave()
    later(rows, minutes=10)
    assert run(rows).outcomes() == {COMPANY: "refreshed", "loc-1": "refreshed"}


def test_where_the_agencys_row_is_gone_the_location_needs_a_login(rows: Rows) -> None:
    added(rows, "loc-1")
    rows.world.oauth.revoke("loc-1")
    rows.remove(COMPANY)
    result = run(rows)
    found = result_of(result, "loc-1")
    assert (result.code, found["outcome"]) == (1, "reauthorize")
    assert f"its agency {COMPANY}: there is no row of {COMPANY!r}" in found["error"]
    assert f"--location {COMPANY}" in found["action"]


@pytest.mark.parametrize("origin", ["", "https://another.example"])
def test_only_an_agency_at_the_host_of_the_location_is_asked(table: Rows, origin: str) -> None:
    """Its access token would go where the location's row wants."""
    added(table, "loc-1")
    with run_context_of(table) as context:
        job = context.job_factory.job(table.row("loc-1"))
        assert isinstance(job, Job)
        job = replace(job, endpoint=replace(job.endpoint, origin=origin or job.endpoint.origin))
        dead = Answer(Verdict.DEAD_GRANT, error="invalid_grant")
        held: list[Held] = [(job, dead, dead.verdict, None, None)]
        [jobs] = minting(context, held)
    left = [one[1].error for one in held]
    assert left == ([f"invalid_grant; its agency {COMPANY} is at another host"] if origin else [])
    assert [one.row.location_id for one in jobs] == ([] if origin else ["loc-1"])


class WithoutAgency(OtherStore):
    """A store that does not find an agency's row for now."""

    def find(self, location_id: str) -> Any:
        """See `Store.find`."""
        if location_id == COMPANY:
            raise StoreUnavailableError("the store is away", "Wait.")
        return self.usual.find(location_id)


def test_where_the_agencys_row_cannot_be_read_for_now_the_next_run_asks_it(table: Rows) -> None:
    added(table, "loc-1")
    table.world.oauth.revoke("loc-1")
    report = run_once(table, lambda context: on(context, WithoutAgency(context.store.store)))
    results = {one.location_id: one for one in report.results}
    assert (results[COMPANY].outcome, results["loc-1"].outcome) == (Outcome.REFRESHED, Outcome.TRANSIENT)
    assert f"the row of its agency {COMPANY} cannot be read: the store is away" in (results["loc-1"].error or "")
    assert asked(table.world, "installedLocations") == []
    assert run(table).outcomes() == {"loc-1": "refreshed"}
    assert asked(table.world, "installedLocations") != []  # nor was the daily look noted


@pytest.mark.parametrize("point", [Point.KEPT, Point.WRITE, Point.WRITTEN])
def test_a_run_that_is_killed_around_a_minted_pair_loses_nothing(table: Rows, point: Point) -> None:
    added(table, "loc-1")
    assert table.world.program.run("--all", "--location", COMPANY).code == 0
    table.world.oauth.revoke("loc-1")
    struck(table.world, point, Fate.KILL)  # `KEPT`: when it is known that the pair is dead
    minted = len(asked(table.world, "locationToken"))
    assert minted == (0 if point is Point.KEPT else 1)
    later(table, minutes=5)
    result = run(table)
    assert result.code == 0
    assert result.json()["waiting"] == []
    assert table.is_current("loc-1")
    assert table.world.oauth.is_live(table.access("loc-1"))
    assert entries(table.world) == []
    assert len(asked(table.world, "locationToken")) == 1


@pytest.mark.parametrize("point", [Point.KEPT, Point.WRITE, Point.WRITTEN])
def test_a_location_that_is_cut_off_while_it_is_added_is_saved_by_the_next_run(table: Rows, point: Point) -> None:
    table.world.oauth.agencies.install(COMPANY, "loc-1")

    def add(context: RunContext) -> list[Kind]:
        add_location(context, fresh_agency(context, COMPANY), "loc-1", AgencyCalls(context.clock))
        return []

    struck(table.world, point, Fate.KILL, add)
    later(table, minutes=5)
    run(table)
    assert table.is_current("loc-1")
    assert json.loads(table.row("loc-1").provider_params)["company"] == COMPANY
    assert entries(table.world) == []
    assert len(asked(table.world, "locationToken")) == 1


# Once a day


def test_new_and_removed_installs_are_reported_once(rows: Rows) -> None:
    added(rows, "loc-1", "loc-2")
    fake = rows.world.oauth.agencies
    run(rows)
    later(rows, hours=17)
    run(rows)
    fake.install(COMPANY, "loc-3")
    fake.uninstall(COMPANY, "loc-2")
    later(rows, hours=8)
    [notice] = [line for line in run(rows).lines() if line.get("code") == NoticeCode.INSTALLS_CHANGED]
    assert "have the app now: loc-3, and lost it: loc-2" in notice["message"]
    for _ in range(3):
        later(rows, hours=13)
        assert NoticeCode.INSTALLS_CHANGED not in run(rows).codes()


def test_an_agency_that_was_never_listed_is_reported_once(rows: Rows) -> None:
    rows.world.oauth.agencies.install(COMPANY, "loc-1")
    later(rows, hours=17)
    assert NoticeCode.INSTALLS_CHANGED not in run(rows).codes()
    later(rows, minutes=5)
    assert NoticeCode.INSTALLS_CHANGED in run(rows).codes()
    later(rows, hours=17)
    assert NoticeCode.INSTALLS_CHANGED not in run(rows).codes()


def test_an_agency_whose_row_is_gone_is_not_looked_at_any_more(table: Rows) -> None:
    added(table, "loc-1")
    [file] = (table.world.program.home / "state").glob(f"*/{AGENCIES_FILE}")
    assert list(json.loads(file.read_text())) == [COMPANY]
    table.remove(COMPANY)
    assert NoticeCode.INSTALLS_CHANGED not in run(table).codes()
    assert (json.loads(file.read_text()), asked(table.world, "installedLocations")) == ({}, [])


def test_beside_a_row_that_cannot_be_used_an_agency_is_looked_at_all_the_same(table: Rows) -> None:
    table.put(table.world.consented("gohighlevel", "odd") | {"provider_params": '{"user_type": "Company"'})
    table.world.oauth.agencies.install(COMPANY, "loc-1")
    later(table, hours=20)
    assert run(table).outcomes() == {COMPANY: "refreshed", "odd": "operator"}
    later(table, minutes=5)
    assert NoticeCode.INSTALLS_CHANGED in run(table).codes()


def test_a_dry_run_asks_no_agency(table: Rows) -> None:
    later(table, hours=17)
    assert table.world.program.run("--dry-run").code == 0
    assert table.world.oauth.requests == []


def test_where_an_agency_cannot_be_asked_the_run_goes_on(table: Rows) -> None:
    added(table, "loc-1")
    table.world.oauth.agencies.installed.clear()
    table.world.oauth.agencies._calls.extend([table.world.clock.timestamp() + 9999] * 100)
    assert run(table).outcomes() == {COMPANY: "refreshed", "loc-1": "refreshed"}
