"""`onboard-link`: a link for a row that is there, which is shown once and found by its token."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

import crypto
from tests import exits
from tests.commands.test_cli import assert_reported, onboarded
from tests.conftest import World
from tests.world.clock import START
from tests.world.program import Result
from token_refresh.access.links import Link, Links
from token_refresh.settings import load
from token_refresh.wiring import assemble, service_database

PUBLIC_URL = "https://tokens.example"


@pytest.fixture(params=["world", "postgres_world", "airtable_world"])
def any_world(request: pytest.FixtureRequest) -> World:
    """The program on each store, with a public address."""
    made: World = request.getfixturevalue(request.param)
    made.program.settings["PUBLIC_URL"] = f"{PUBLIC_URL}/"
    return made


@pytest.fixture
def served(world: World) -> World:
    """The program on the embedded database, with a public address."""
    world.program.settings["PUBLIC_URL"] = PUBLIC_URL
    return world


def found(world: World, result: Result) -> Link | None:
    """The link that was printed, as the service finds it."""
    url = urlsplit(result.out.strip())
    assert (f"{url.scheme}://{url.netloc}", url.path) == (PUBLIC_URL, "/connect")
    [token] = parse_qs(url.query)["link"]
    assert token not in result.err
    settings = load(world.program.settings, crypto.parse_key)
    installation = assemble(settings, world.clock, lambda _: None, lambda _what, _action: None, "test")
    with closing(service_database(installation)) as database:
        return Links(database, world.clock).find(token)


def test_a_link_is_for_the_row_of_a_location_for_a_week(any_world: World) -> None:
    onboarded(any_world, "loc1", provider="google")
    result = any_world.program.run("onboard-link", " loc1 ", "--provider", "google")
    assert result.code == 0
    link = found(any_world, result)
    assert link is not None
    assert (link.location_id, link.provider) == ("loc1", "google")
    assert timedelta(0) <= link.expires_at - (START + timedelta(days=7)) < timedelta(minutes=1)  # Airtable has a pace


def test_a_link_ends_when_its_row_is_deleted(served: World) -> None:
    """SQLite gives the number of the last row to the next one, which may be another customer's."""
    onboarded(served, "loc1", provider="google")
    result = served.program.run("onboard-link", "loc1")
    assert served.program.run("delete", "loc1", "--yes").code == 0
    assert found(served, result) is None


def test_the_row_may_be_named_by_its_id(served: World) -> None:
    onboarded(served, "loc1", provider="google")
    whole = served.program.run("onboard-link", "loc1", "--client", "1", "--expires", "90s", "--json").json()
    assert whole.pop("url").startswith(f"{PUBLIC_URL}/connect?link=")
    assert whole == {
        "client_id": "1",
        "location_id": "loc1",
        "provider": "google",
        "expires_at": "2026-03-01T12:01:30.000Z",
    }
    assert_reported(served.program.run("onboard-link", "loc1", "--client", "2"), exits.FAILED, "no row of that id")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], exits.FAILED, "there is no row of 'nowhere'"),
        (["loc1", "--provider", "acme"], exits.FAILED, "there is no row of 'loc1' and acme"),
        (["loc1", "--expires", "week"], exits.USAGE, "a lifetime cannot be used"),
        (["loc1", "--expires", "31d"], exits.USAGE, "1 second to 30 days"),
    ],
)
def test_what_no_link_can_be_for_says_why(served: World, words: list[str], code: int, said: str) -> None:
    onboarded(served, "loc1", provider="google")
    assert_reported(served.program.run("onboard-link", *words), code, said)


def test_without_a_public_address_a_link_would_lead_nowhere(world: World) -> None:
    onboarded(world, "loc1", provider="google")
    assert_reported(world.program.run("onboard-link", "loc1"), exits.USAGE, "PUBLIC_URL is not set", "https://")


def test_that_the_row_has_another_redirect_uri_is_said(served: World) -> None:
    onboarded(served, "loc1", provider="google")
    result = served.program.run("onboard-link", "loc1")
    assert f"Set the row's redirect URI to {PUBLIC_URL}/auth/callback" in result.err


def test_a_provider_without_a_login_gets_no_link(served: World) -> None:
    onboarded(served, "loc1")
    assert_reported(served.program.run("onboard-link", "loc1"), exits.USAGE, "nobody can log in at acme")
