"""Each provider's login up to the stored row, and the end of its grant, by the whole program at the provider's fake.

What there is to show is asked of the catalogue: an entry without canned answers fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from contextlib import suppress

import pytest

from providers.base import Provider
from providers.long_lived import ShortLived
from providers.registry import read_catalog
from tests.callers import Meanwhile
from tests.clients.login.person import LoggedIn, client_of, logged_in, sent_back
from tests.conftest import PARAMS, World
from tests.providers.answers import ANSWERS, LoginAnswers
from tests.providers.test_contract_world import RIPE_SECONDS
from tests.refresh.runs.faults_world import SqliteRows
from tests.world.ports import free_port

__all__ = ["logged_in"]

CATALOG = {provider.slug: provider for provider in read_catalog()}


def each(has: Callable[[Provider], object], kind: Callable[[Provider], Hashable]) -> pytest.MarkDecorator:
    """The providers that have this; all but the first of a kind are long."""
    found = [one for one in CATALOG.values() if has(one)]
    first = {kind(one): one.slug for one in reversed(found)}
    marks = {one.slug: () if one.slug in first.values() else (pytest.mark.long,) for one in found}
    return pytest.mark.parametrize("slug", [pytest.param(slug, marks=of) for slug, of in marks.items()])


def login_kind(provider: Provider) -> Hashable:
    """What a login's own code hangs on; the rest is in the requests, which test_contract.py compares for each."""
    own = provider.login
    return type(own), isinstance(provider, ShortLived), provider.grant, provider.encoding


def revocation_kind(provider: Provider) -> Hashable:
    """The same of a revocation."""
    own = provider.revocation
    return own.auth, own.method, own.token == "both", provider.grant == "none"


def login_of(slug: str) -> LoginAnswers:
    """The canned login of a provider whose catalogue entry has an address for one."""
    login = ANSWERS[slug].login
    assert login is not None, f"{slug}: no canned login"
    return login


def at_fake(world: World, slug: str, *redirect_uris: str) -> None:
    """A login at the provider's fake, whoever opens its address agrees for `loc`.

    Parameters that a row may leave out are in the row already: not all of them are asked for.
    """
    world.serve(slug)
    world.program.settings[f"{slug.upper().replace('-', '_')}_AUTH_URL"] = world.oauth.endpoint(slug, "authorize")
    world.oauth.add_client(slug, client_of(slug), f"{slug} secret", redirect_uris)
    world.oauth.consent(slug, location_id="loc")
    if optional := {name: text for name, text in PARAMS[slug].items() if name in optional_of(slug)}:
        cells = {"locationId": "loc", "provider": slug, "provider_params": json.dumps(optional)}
        SqliteRows(world).put(cells)


def optional_of(slug: str) -> set[str]:
    """The parameters that a row may leave out."""
    return {name for name, default in CATALOG[slug].placeholders.items() if default == ""}


def entered(slug: str) -> dict[str, str]:
    """What a person answers to the questions for the row's parameters, and for scopes."""
    params = {name.capitalize(): text for name, text in PARAMS[slug].items() if name not in optional_of(slug)}
    return {**params, "Scopes": "one two"}


def free_address(host: str) -> str:
    """A redirect URI on this machine, at a port that nobody listens at."""
    return f"http://{host}:{free_port()}/callback"


def check_stored(world: World, slug: str) -> None:
    """Whether the row holds what the fake gave for `loc`, and a run goes on from there."""
    answers, table, oauth = ANSWERS[slug], SqliteRows(world), world.oauth
    row = table.row("loc")
    assert (row.provider, row.status) == (slug, "active")
    assert table.access("loc") == oauth.current_access("loc")
    assert (len(oauth.violations), world.journalled()) == (0, []), oauth.violations
    if answers.grant == "none":
        assert row.encrypted_refresh == ""
        return
    assert table.is_current("loc")
    world.clock.advance(RIPE_SECONDS[slug])
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}
    assert (table.is_current("loc"), oauth.violations) == (True, [])


@each(lambda one: one.authorize_url, login_kind)
def test_a_login_is_stored_and_refreshed_from_then_on(logged_in: LoggedIn, slug: str) -> None:
    world, login = logged_in.world, login_of(slug)
    uri = login.redirect_uri
    if CATALOG[slug].login.redirect in ("127.0.0.1", "localhost"):
        uri = free_address(CATALOG[slug].login.redirect)
    at_fake(world, slug, uri)
    result = logged_in(slug, sent_back, argv=["--redirect-uri", uri], **entered(slug))
    assert result.code == 0, result.err
    params = json.loads(world.rows()["loc"]["provider_params"] or "{}")
    if login.account and not CATALOG[slug].login.account_is_location:
        assert login.account.removesuffix(".myshopify.com") == params["account"]  # as a row names a shop
    check_stored(world, slug)


@each(lambda one: one.device_url, lambda one: one.grant)
def test_a_login_on_another_device_is_stored_and_refreshed_from_then_on(logged_in: LoggedIn, slug: str) -> None:
    def agree() -> None:
        with suppress(LookupError):  # they have, by now
            world.oauth.approve(slug)

    world = logged_in.world
    at_fake(world, slug)
    clock = world.program.clock
    world.program.clock = Meanwhile(world.clock, agree)
    result = logged_in(slug, argv=["--device"], **entered(slug))
    world.program.clock = clock
    assert result.code == 0, result.err
    check_stored(world, slug)


@each(lambda one: one.revoke_url, revocation_kind)
def test_a_revocation_ends_what_the_provider_promises_and_the_row_is_emptied(world: World, slug: str) -> None:
    told = ANSWERS[slug].revocation
    assert told is not None, f"{slug}: no canned revocation"
    world.serve(slug)
    table, oauth = SqliteRows(world), world.oauth
    cells = world.consented(slug, "loc")
    table.put(cells if ANSWERS[slug].grant != "none" else {**cells, "encrypted_refresh": ""})
    access, grant = oauth.current_access("loc"), oauth.family("loc")
    result = world.program.run("revoke", "loc", "--yes", "--json")
    assert result.code == 0, result.err
    assert result.json() == {"location_id": "loc", "provider": slug, "revoked": told.says == "revoked"}
    assert (oauth.violations, len(oauth.requests)) == ([], 2 if CATALOG[slug].revocation.token == "both" else 1)
    assert not oauth.is_live(access)
    assert grant.revoked_why == "revoked by its client" or told.says == "asked"
    row = table.row("loc")
    assert (row.status, row.encrypted_refresh, row.encrypted_secret, row.last_access_token) == ("disabled", "", "", "")
