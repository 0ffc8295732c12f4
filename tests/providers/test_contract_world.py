"""Each provider of the catalogue through the whole program, against a strict fake that knows every token's fate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from providers import Catalog
from providers.base import Answer, Credential, RawAnswer, Verdict
from tests.conftest import PARAMS, World
from tests.providers.answers import ANSWERS
from tests.refresh.runs.faults_world import SqliteRows
from tests.world.oauth import OAuthServer, faults
from tests.world.oauth.answered import FAKES, HUBSPOT_CAMEL_CASE
from tests.world.oauth.dialects import DAY_SECONDS
from tests.world.oauth.forms import refused_in
from token_refresh.net.transport import HTTPTransport

SLUGS = sorted(slug for slug, answers in ANSWERS.items() if answers.grant != "none")
ROTATING = [slug for slug in SLUGS if Catalog().get(slug).rotates != "never"]
DROPPED = faults.acted_then_dropped()
SHORT_INTERVAL = {"REFRESH_INTERVAL": "60", "TOKEN_EXPIRY_BUFFER": "30"}  # the last minute begins 90 s before expiry


# After so long, a day at least, every token that may be refreshed is due; one that is exchanged itself must still live.
RIPE_SECONDS = {
    slug: fake.lifetime * 3 // 4 if fake.grant == "exchange" else max(DAY_SECONDS, fake.lifetime)
    for slug, fake in FAKES.items()
}


class Table(SqliteRows):
    """Rows of real providers, each so long after its login that it is due."""

    def add(self, provider: str, location: str, *_: Any, age: float | None = None, **facts: Any) -> None:
        self.world.serve(provider)
        cells = self.world.consented(provider, location, **facts)
        with self._store() as store:
            store.create(cells)
        self.world.clock.advance(RIPE_SECONDS[provider] if age is None else age)

    def refresh(self, location: str = "loc") -> dict[str, Any]:
        """One run; what became of the row."""
        run = self.world.program.run("--json")
        results = {row["location_id"]: row for row in run.json()["results"]}
        return dict(results.get(location, {}))


@pytest.fixture
def table(world: World) -> Iterator[Table]:
    yield Table(world)
    assert world.oauth.violations == []


_FIRST = {(entry.rotates, entry.replay): entry.slug for entry in map(Catalog().get, reversed(SLUGS))}
# What follows from how a provider's tokens change and may be sent again, or from what tests/providers/test_contract.py
# reads in the answers of each: all but one of a kind are long.
OF_ITS_KIND = {slug: () if slug in _FIRST.values() else pytest.mark.long for slug in SLUGS}
OF_EACH_KIND = pytest.mark.parametrize("slug", [pytest.param(slug, marks=OF_ITS_KIND[slug]) for slug in SLUGS])


@OF_EACH_KIND
def test_three_refreshes_in_a_row_break_no_rule_of_the_provider(table: Table, slug: str) -> None:
    world = table.world
    table.add(slug, "loc")
    for _ in range(3):
        assert table.refresh()["outcome"] == "refreshed"
        assert table.is_current("loc")
        row = table.row("loc")
        assert row.access_token_expiry is not None
        left = (row.access_token_expiry - world.clock.now()).total_seconds()
        granted = world.oauth.access_tokens[world.oauth.current_access("loc")]
        real = granted.expires_at - world.clock.timestamp()
        assert left == (3600 if slug == "salesforce" else pytest.approx(real))  # Salesforce does not tell its lifetime
        world.clock.advance(RIPE_SECONDS[slug])
    assert world.oauth.replayed() == []


@OF_EACH_KIND
def test_a_withdrawn_grant_is_for_a_person_to_renew(table: Table, slug: str) -> None:
    table.add(slug, "loc")
    table.world.oauth.revoke("loc")
    result = table.refresh()
    assert (result["outcome"], table.row("loc").status) == ("reauthorize", "reauthorize")
    assert "log in again" in result["action"]


@pytest.mark.by_turns("wrong")
@pytest.mark.parametrize(
    ("slug", "wrong"),
    [
        pytest.param(slug, wrong, marks=OF_ITS_KIND[slug])
        for slug in SLUGS
        for wrong, unseen_by in (("secret", ("none", "anonymous")), ("client id", ("basic_secret", "anonymous")))
        if FAKES[slug].manner.auth not in unseen_by
    ],
)
def test_a_client_that_is_not_accepted_flags_no_row_and_is_reported(table: Table, slug: str, wrong: str) -> None:
    world = table.world
    for number in range(3):
        table.add(slug, f"loc-{number}", age=0)
    world.clock.advance(RIPE_SECONDS[slug])
    if wrong == "secret":
        world.add_client(slug, secret="another")
    else:
        for number in range(3):
            table.edit(f"loc-{number}", client_id="nobody")
    run = world.program.run("--json")
    assert set(run.outcomes().values()) == {"operator"}
    assert all("Correct the app's client_id and secret" in row["action"] for row in run.json()["results"])
    for number in range(3):
        row = table.row(f"loc-{number}")
        assert (row.status, row.last_error, row.failure_count) == ("active", "", 0)


@OF_EACH_KIND
def test_a_throttled_refresh_waits_as_long_as_it_was_asked_to_and_succeeds(table: Table, slug: str) -> None:
    table.add(slug, "loc")
    table.world.oauth.fail(faults.too_many_requests(20))
    assert table.refresh()["outcome"] == "refreshed"
    assert table.world.clock.slept >= 20


@OF_EACH_KIND
def test_an_outage_flags_nothing_and_the_next_run_recovers(table: Table, slug: str) -> None:
    outage = table.world.oauth.fail(faults.raw(b'{"error":"invalid_grant"}', 503), times=100)
    table.add(slug, "loc")
    result = table.refresh()
    assert result["outcome"] == ("unknown" if slug in ROTATING else "transient")
    assert table.row("loc").status == "active"
    outage.stop()
    table.world.clock.advance(3600)
    assert (table.refresh()["outcome"], table.is_current("loc")) == ("refreshed", True)
    assert table.row("loc").last_error == ""


# An answer is lost after the provider has acted: what the catalogue's `replay` allows, and what comes of it.


@OF_EACH_KIND
def test_after_a_lost_answer_the_row_recovers_or_says_that_the_answer_was_lost(table: Table, slug: str) -> None:
    table.add(slug, "loc")
    table.world.oauth.fail(DROPPED)
    when = table.world.clock.now()
    result = table.refresh()
    if ANSWERS[slug].lost_answer == "recovered":
        assert result["outcome"] == "refreshed"
        assert table.is_current("loc")
        assert table.world.oauth.is_live(table.world.oauth.current_access("loc"))
    else:
        assert result["outcome"] == "reauthorize"
        assert f"the answer was lost on {when:%Y-%m-%d %H:%M} UTC" in result["error"]
    assert len(table.world.oauth.requests) == 2  # once more, never a third time


@OF_EACH_KIND
def test_a_request_that_broke_off_before_the_provider_acted_costs_nothing(table: Table, slug: str) -> None:
    table.add(slug, "loc")
    table.world.oauth.fail(faults.reset())
    assert (table.refresh()["outcome"], table.is_current("loc")) == ("refreshed", True)
    assert table.world.oauth.replayed() == []


def test_a_salesforce_app_that_rotates_loses_the_grant_with_the_answer(table: Table) -> None:
    table.add("salesforce", "loc", rotates=True)
    table.world.oauth.fail(DROPPED)
    assert "the answer was lost" in table.refresh()["error"]


def test_between_quickbooks_changes_a_lost_answer_costs_nothing(table: Table) -> None:
    table.add("quickbooks", "loc", age=3600)
    table.world.oauth.fail(DROPPED)
    assert (table.refresh()["outcome"], table.is_current("loc")) == ("refreshed", True)


def test_keycloaks_session_outlives_a_lost_answer_until_the_last_minute(table: Table) -> None:
    """A repeat would end the session, and with it the access token that still works."""
    world = table.world
    world.program.settings |= SHORT_INTERVAL
    table.add("keycloak", "loc", age=203)  # 97 s left: due, but not nearly out
    old = world.oauth.current_access("loc")
    world.oauth.fail(DROPPED)
    assert table.refresh()["outcome"] == "unknown"
    assert len(world.oauth.requests) == 1
    assert world.oauth.is_live(old)
    world.clock.advance(5)
    assert table.refresh() == {}
    assert (len(world.oauth.requests), world.oauth.replayed()) == (1, [])
    world.clock.advance(90)
    assert "the answer was lost" in table.refresh()["error"]
    assert len(world.oauth.replayed()) == 1


def test_beyond_the_grace_an_old_token_is_refused_and_reported_as_lost(table: Table) -> None:
    """All answers of a run are lost, and the next run comes an hour later: both windows are over by then."""
    world = table.world
    for slug in ("xero", "atlassian"):
        table.add(slug, slug)
        world.oauth.fail(DROPPED, provider=slug, times=math.inf)
    assert set(world.program.run("--json").outcomes().values()) == {"unknown"}
    world.oauth.behave()
    world.clock.advance(3600)
    later = world.program.run("--json").json()["results"]
    assert {row["outcome"] for row in later} == {"reauthorize"}
    assert all("the answer was lost" in row["error"] for row in later)


def test_exact_online_is_not_asked_before_the_last_half_minute(table: Table) -> None:
    world = table.world
    table.add("exact-online", "loc", age=560)
    assert table.refresh() == {}
    assert world.oauth.requests == []
    world.clock.advance(15)
    assert table.refresh()["outcome"] == "refreshed"


def test_a_token_of_exact_online_that_looks_expired_too_early_stays_usable(table: Table) -> None:
    """The row's expiry may be wrong; the refusal costs nothing and the next run tries again."""
    world = table.world
    table.add("exact-online", "loc", age=60)
    table.edit("loc", access_token_expiry=None)
    assert (table.refresh()["outcome"], table.row("loc").status) == ("transient", "active")
    world.clock.advance(600)
    assert table.refresh()["outcome"] == "refreshed"


# What only some do


@pytest.fixture
def transport(world: World) -> Iterator[HTTPTransport]:
    made = HTTPTransport(world.clock, 1)
    yield made
    made.close()


def test_hubspots_other_spelling_is_read_as_well(transport: HTTPTransport, world: World) -> None:
    with OAuthServer([HUBSPOT_CAMEL_CASE], clock=world.clock.timestamp) as server:
        name = HUBSPOT_CAMEL_CASE.name
        server.add_client(name, "app", "secret")
        token = server.grant(name, "app", location_id="loc")
        request = Catalog().get("hubspot").refresh_request(Credential("app", "secret", token, {}))
        own = f"{server.url}/{name}/oauth/2026-03/token"
        raw = transport.post(type(request)(own, request.headers, request.body, host_is_fixed=True))
        assert isinstance(raw, RawAnswer)
        assert set(json.loads(raw.body)) == {"accessToken", "refreshToken", "expiresIn", "tokenType"}
        answer: Answer = Catalog().get("hubspot").read_answer(raw)
        assert (answer.verdict, answer.refresh_token) == (Verdict.GRANTED, token)
        assert answer.access_token == server.current_access("loc")
        assert server.violations == []


def test_gitlab_with_another_redirect_uri_than_the_logins_is_refused(table: Table) -> None:
    """GitLab says the same of a dead token, so the row asks for a login; with the right address none is needed."""
    table.add("gitlab", "loc")
    table.edit("loc", provider_params='{"redirect_uri": "https://other.example/callback"}')
    assert table.refresh()["outcome"] == "reauthorize"
    table.edit("loc", provider_params=json.dumps(PARAMS["gitlab"]), status="active")
    assert table.refresh()["outcome"] == "refreshed"


@pytest.mark.parametrize("slug", ["github-app", "gitlab", "zoom"])
def test_where_the_old_access_token_dies_the_new_one_is_in_the_row_when_the_run_ends(table: Table, slug: str) -> None:
    world = table.world
    table.add(slug, "loc", age=0)
    old = world.oauth.current_access("loc")
    assert world.program.run("--all", "--json").outcomes() == {"loc": "refreshed"}
    assert not world.oauth.is_live(old)
    assert world.program.run("get", "loc", "--min-valid", "0").out.strip() == world.oauth.current_access("loc")


def test_exact_online_is_not_asked_early_even_by_hand(table: Table) -> None:
    """It counts early refreshes as errors, so `--all` and `get` wait for the last half minute."""
    world = table.world
    table.add("exact-online", "loc", age=400)
    by_hand = world.program.run("--all", "--json")
    assert (by_hand.code, by_hand.json()["results"]) == (1, [])
    assert "only 30 s before the access token ends" in by_hand.err
    assert world.oauth.requests == []


@pytest.mark.parametrize("words", ["expired authorization code", "Token request is already being processed"])
def test_salesforce_requests_that_met_pass_also_in_answer_to_a_resend(table: Table, words: str) -> None:
    """The first answer is lost, and the second request meets the first, which is still being worked on."""
    world = table.world
    table.add("salesforce", "loc")
    world.oauth.fail(DROPPED)
    met = world.oauth.fail(refused_in("error", "invalid_grant", words), times=100)
    assert table.refresh()["outcome"] == "unknown"
    assert table.row("loc").status == "active"
    met.stop()
    world.clock.advance(3600)
    assert (table.refresh()["outcome"], table.is_current("loc")) == ("refreshed", True)


def test_a_used_token_of_a_rotating_salesforce_app_is_not_sent_again_while_its_access_token_lives(
    table: Table,
) -> None:
    world = table.world
    world.program.settings |= SHORT_INTERVAL
    table.add("salesforce", "loc", age=6100, rotates=True)  # 1100 s left: due, but not nearly out
    world.oauth.fail(DROPPED)
    assert table.refresh()["outcome"] == "unknown"
    assert len(world.oauth.requests) == 1
    assert world.oauth.replayed() == []
