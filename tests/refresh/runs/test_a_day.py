"""A day of hourly runs over all providers at once, with a day's worth of mishaps from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from providers import Catalog
from tests.conftest import World
from tests.refresh.runs.books import AirtableBooks, Books, PostgresBooks
from tests.refresh.runs.faults_world import table_of
from tests.world.clock import START
from tests.world.oauth import faults
from tests.world.oauth.answered import FAKES
from tests.world.oauth.faults import Call
from tests.world.postgres import PostgresServer

pytestmark = pytest.mark.long


HOUR = 3600
SEED = 20260301
ROWS = 492  # and more where there are many providers, beside those of the second app

# Tokens that live through the hour between two runs must never be out; of the others all that can be asked for is
# that they are new after each run: those of Exact Online (10 minutes) and Keycloak (5) live shorter than any sensible
# cron interval.
REFRESHED = {slug for slug, provider in Catalog().summaries.items() if provider.grant != "none"}
LIFETIMES = {slug: fake.lifetime for slug, fake in FAKES.items() if slug in REFRESHED}
LONG_LIVED = {slug for slug, lifetime in LIFETIMES.items() if lifetime > HOUR}
HOUR_LONG = [slug for slug, lifetime in LIFETIMES.items() if HOUR / 2 <= lifetime <= HOUR]
MANY = {"gohighlevel": 134, "github-app": 88, "slack": 100, "gitlab": 24, "salesforce": 20}
FEW = max(2, math.ceil((ROWS - sum(MANY.values())) / (len(LIFETIMES) - len(MANY))))  # of each other provider
SECOND_APP, SECOND_APP_ROWS = "app-gitlab-two", 8

LOSSY = ("microsoft", "xero", "atlassian", "gohighlevel")  # a repeat brings a pair there, at once at least
OUTAGE, THROTTLED, WRONG_SECRET = (6, 7), (10, 11, 12), (14, 15, 16)  # hours


@dataclass
class Customer:
    """One row of the table and what happened to its grant."""

    location: str
    provider: str
    client_id: str
    is_dead: bool = False


class Day:
    """The table, the customers, and the mishaps of each hour."""

    def __init__(self, world: World, books: Books) -> None:
        self.world = world
        self.books = books
        self.random = random.Random(SEED)
        world.oauth.add_client("gitlab", SECOND_APP, "gitlab secret")
        self.customers = list(self._onboarded())
        self.start = world.clock.now()
        books.open()
        self.scripts: dict[str, Any] = {}  # by name, each with its hits
        self.hour = 0

    def _onboarded(self) -> Iterator[Customer]:
        """Everybody logged in at some time before the day begins, none so long ago that the token is due."""
        plan = [(provider, "") for provider in LIFETIMES for _ in range(MANY.get(provider, FEW))]
        plan += [("gitlab", SECOND_APP)] * SECOND_APP_ROWS
        ages = [self.random.uniform(0.0, 0.55) * min(LIFETIMES[provider], HOUR * 24) for provider, _ in plan]
        now = max(ages)
        for age, number in sorted(((age, number) for number, age in enumerate(ages)), reverse=True):
            self.world.clock.advance(now - age)
            now = age
            provider, client_id = plan[number]
            location = f"{provider} {number}"
            facts = {"rotates": number % 2 == 0} if provider == "salesforce" else {}
            cells = self.world.consented(provider, location, client_id, **facts)
            self.books.add(cells, note=f"ask for {number}")
            yield Customer(location, provider, client_id)
        self.world.clock.advance(now)

    # What goes wrong

    def begin_hour(self, hour: int) -> None:
        """Set up what will go wrong in this hour's run."""
        self.hour = hour
        oauth = self.world.oauth
        self._window("outage", hour, OUTAGE, lambda: oauth.fail(faults.status(503), provider="slack", times=math.inf))
        if hour in THROTTLED:
            retry_after = 1800 if hour == THROTTLED[-1] else 25  # the longer one is left to the next run
            self.scripts[f"throttled {hour}"] = oauth.fail(
                faults.too_many_requests(retry_after), provider="github-app", times=3
            )
        if hour in (WRONG_SECRET[0], WRONG_SECRET[-1] + 1):
            secret = "changed at GitLab" if hour == WRONG_SECRET[0] else "gitlab secret"
            oauth.add_client("gitlab", SECOND_APP, secret)
        if hour == 0:
            for provider in LOSSY:  # each token is lost at most once: a second loss no grace would outlast
                self.scripts[f"lost at {provider}"] = oauth.fail_at_random(
                    {faults.acted_then_dropped(): 0.1},
                    seed=SEED,
                    provider=provider,
                    when=self._may_be_lost,
                )
        if self.random.random() < 0.5:
            self.books.trouble(self.random)

    def _may_be_lost(self, call: Call) -> bool:
        """Once, of a live grant; not in an outage: one host stands for all, and none is asked while it is down."""
        if self.hour in OUTAGE or call.times_sent > 1:
            return False
        return self.world.oauth.family(str(call.refresh_token)).revoked_at is None

    def _window(self, name: str, hour: int, hours: tuple[int, ...], begin: Callable[[], Any]) -> None:
        if hour == hours[0]:
            self.scripts[name] = begin()
        if hour == hours[-1] + 1:
            self.scripts[name].stop()

    def between(self, hour: int) -> None:
        """Some customers remove the app or withdraw their consent."""
        for customer in self.random.sample(self.customers, 2 if hour % 2 else 1):
            if not customer.is_dead:
                self.world.oauth.revoke(customer.location)
                customer.is_dead = True

    # What has to hold

    def assert_fresh(self, hour: int, since: float) -> None:
        """After a run: every healthy row holds the newest tokens, and they work."""
        troubled = {*(("slack", hour) for hour in OUTAGE), *(("github-app", hour) for hour in THROTTLED)}
        table = self.books.cells()
        for customer in self.healthy(hour):
            cells = table[customer.location]
            token = self.world.open_refresh(customer.location, cells["encrypted_refresh"])
            assert token == self.world.oauth.current(customer.location), customer
            access = self.world.oauth.access_tokens[self.access(customer, cells)]
            # A run that waits for somebody may last longer than Keycloak's five minutes.
            assert self.world.oauth.is_live(access.value) or access.issued_at >= since, customer
            if (customer.provider, hour) not in troubled:
                assert not cells.get("last_error"), customer

    def assert_alive(self, hour: int) -> None:
        """Right before a run: no token is out that could have lived through the hour."""
        table = self.books.cells()
        for customer in self.healthy(hour):
            if customer.provider in LONG_LIVED:
                assert self.world.oauth.is_live(self.access(customer, table[customer.location])), customer

    def access(self, customer: Customer, cells: Mapping[str, Any]) -> str:
        """The access token in a row, sealed there or not."""
        return self.world.open_access(customer.location, cells["last_access_token"])

    def healthy(self, hour: int) -> list[Customer]:
        """Those nothing is wrong with: a refused app's tokens run out, and nobody can help it."""
        is_refused = WRONG_SECRET[0] <= hour <= WRONG_SECRET[-1]
        return [one for one in self.customers if not one.is_dead and not (one.client_id == SECOND_APP and is_refused)]

    def assert_only_dead_rows_were_flagged(self) -> None:
        """And every dead row that was tried is flagged."""
        flags = [change for change in self.books.changes() if change.column == "status"]
        for change in flags:
            grant = self.world.oauth.family(change.location)
            assert change.after == "reauthorize"
            assert grant.revoked_at is not None
            assert grant.revoked_at <= change.at.timestamp()
        flagged = {change.location for change in flags}
        for customer in self.customers:
            grant = self.world.oauth.family(customer.location)
            sent_at = [at for token in grant.refresh_tokens for at in token.sent_at]
            was_tried = grant.revoked_at is not None and max(sent_at, default=0.0) > grant.revoked_at
            assert (customer.location in flagged) == was_tried, customer
        assert len(flagged) >= 10

    def assert_table_is_the_peoples(self) -> None:
        """Nothing was written but the program's own columns, and no row came or went."""
        dead = {one.location for one in self.customers if one.is_dead}
        refused = {one.location for one in self.customers if one.client_id == SECOND_APP} - dead
        for change in self.books.changes():
            assert change.column in self.books.program_columns
            assert change.location not in refused or change.column not in ("status", "last_error", "failure_count")
        assert set(self.books.cells()) == {customer.location for customer in self.customers}

    def assert_nothing_was_sent_twice_where_that_is_forbidden(self) -> None:
        """No token was sent after its successor was issued, but to ask for a lost answer where that is safe."""
        replayed = self.world.oauth.replayed()
        assert {token.provider for token in replayed} == set(LOSSY)
        assert all(token.replays == 1 for token in replayed)
        in_outage = [token.times_sent for token in self.world.oauth.tokens.values() if token.provider == "slack"]
        assert max(in_outage) <= 4  # twice in its first run, once in the second, once after it
        assert len(replayed) == sum(self.scripts[f"lost at {provider}"].hits for provider in LOSSY)

    def assert_quickbooks_has_changed_its_tokens(self) -> None:
        """Once in the day, and the rows hold the new ones."""
        for customer in self.customers:
            if customer.provider == "quickbooks" and not customer.is_dead:
                assert [token.number for token in self.world.oauth.family(customer.location).refresh_tokens] == [1, 2]


@pytest.fixture(params=["airtable", "postgres"])
def day(every_provider: World, request: pytest.FixtureRequest) -> Day:
    if request.param == "airtable":
        return Day(every_provider, AirtableBooks(request.getfixturevalue("airtable_world")))
    server: PostgresServer = request.getfixturevalue("postgres")
    return Day(every_provider, PostgresBooks(request.getfixturevalue("postgres_world"), server))


@pytest.mark.parametrize("day", ["airtable"], indirect=True)
def test_the_day_holds_every_provider_that_refreshes_and_five_hundred_rows(day: Day) -> None:
    assert {customer.provider for customer in day.customers} == REFRESHED
    assert len(day.customers) >= 500
    assert set(MANY) <= LONG_LIVED


def test_a_day_of_mishaps_costs_no_token_and_blames_nobody_for_another(day: Day) -> None:
    """Outage, throttling, withdrawn consents, a changed secret, lost answers, the table's own troubles."""
    world, clock = day.world, day.world.clock
    for hour in range(25):
        day.begin_hour(hour)
        since = clock.timestamp()
        run = world.program.run("--json")
        assert run.code in (0, 1), run.err
        refused = [row["location_id"] for row in run.json()["results"] if row["outcome"] == "operator"]
        assert bool(refused) == (hour in WRONG_SECRET), (hour, refused)
        day.books.settle()
        day.assert_fresh(hour, since)
        day.between(hour)
        passed = (clock.now() - day.start).total_seconds()
        assert passed < HOUR * (hour + 1)
        clock.advance(HOUR * (hour + 1) - passed)
        day.assert_alive(hour)
    day.assert_only_dead_rows_were_flagged()
    day.assert_table_is_the_peoples()
    day.assert_nothing_was_sent_twice_where_that_is_forbidden()
    day.assert_quickbooks_has_changed_its_tokens()
    assert world.oauth.violations == []
    assert all(script.hits for script in day.scripts.values())
    day.books.assert_were_troubled()
    # Whose consent was withdrawn while an answer was lost: that is remembered until somebody logs in again.
    dead = {customer.location for customer in day.customers if customer.is_dead}
    assert {entry["location_id"] for entry in world.journalled()} <= dead


@pytest.mark.parametrize(("store", "each"), [("airtable", 3), ("postgres", 1)])
def test_tokens_of_half_an_hour_are_never_out_where_cron_runs_every_ten_minutes(
    every_provider: World, request: pytest.FixtureRequest, store: str, each: int
) -> None:
    """What the hour between runs cannot give. Exact Online and Keycloak stay out of reach of any interval."""
    world, rows = every_provider, table_of(store, request)
    world.program.settings |= {"REFRESH_INTERVAL": "600", "TOKEN_EXPIRY_BUFFER": "300"}
    names = [(slug, f"{slug} {number}") for slug in HOUR_LONG for number in range(each)]
    for slug, location in names:
        rows.put(world.consented(slug, location))
    for turn in range(1, 13):
        run = world.program.run("--json")
        assert run.code == 0, run.err
        world.clock.advance(START.timestamp() + turn * 600 - world.clock.timestamp())
        access = rows.access_of_all()
        assert all(world.oauth.is_live(access[location]) for _, location in names)
    assert world.oauth.replayed() == []
    assert world.oauth.violations == []
