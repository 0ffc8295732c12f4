"""A client secret in the settings goes to no host that a row names, by whatever way: counted there, and read there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crypto import Context
from tests.callers import manager_of
from tests.conftest import World
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import Rows, SqliteRows, entries
from tests.world.clock import START, FakeClock
from tests.world.oauth import OAuthServer, faults
from token_refresh.base.events import NoticeCode
from token_refresh.clients.admission import Admission, Terms
from token_refresh.clients.credential import NewCredential
from token_refresh.library import MisconfiguredError
from token_refresh.refresh.run_context import RunContext

SECRET = "the secret of our own app"
TOKEN = "a-refresh-token-that-the-customer-knows"
ERROR = (
    "it has no client secret of its own, and HOSTED_CLIENT_SECRET is not sent to {url}, which its provider_params name"
)
ACTION = "python onboard_client.py. Or fix the host: set HOSTED_TOKEN_URL"


@pytest.fixture
def rows(world: World) -> Rows:
    return SqliteRows(world)


@pytest.fixture
def customer(clock: FakeClock) -> Iterator[OAuthServer]:
    """A customer's own server, which an operator has allowed for this customer's secrets, not for ours."""
    with OAuthServer(clock=clock.timestamp) as server:
        server.add_client("acme", "our-app", SECRET)
        yield server


@pytest.fixture(autouse=True)
def settings(rows: Rows, customer: OAuthServer) -> None:
    """A provider whose host a row may name, and our app at its usual host, which is the fake's."""
    program = rows.world.program
    with Path(program.settings["PROVIDERS_FILE"]).open("a") as file:
        base = "http://{instance}/acme"
        file.write(
            f'[hosted]\ntoken_url = "{base}/token"\nrevoke_url = "{base}/revoke"\n'
            f'introspect_url = "{base}/introspect"\nplaceholders = {{ instance = "{host_of(rows.world.oauth)}" }}\n'
        )
    program.settings |= {
        "HOSTED_CLIENT_ID": "our-app",
        "HOSTED_CLIENT_SECRET": SECRET,
        "ALLOWED_PRIVATE_HOSTS": f"127.0.0.1, {host_of(customer)}",
    }
    rows.world.oauth.add_client("acme", "our-app", SECRET)


def host_of(server: OAuthServer) -> str:
    return server.url.partition("://")[2]


def at(server: OAuthServer) -> str:
    """The `provider_params` of a row of this server."""
    return json.dumps({"instance": host_of(server)})


def emptied(rows: Rows, customer: OAuthServer, **cells: Any) -> str:
    """A customer's row at their own server, whose client cells somebody has emptied; returns its refresh token."""
    token = customer.grant("acme", "our-app", location_id="loc")
    access = customer.current_access(token)
    rows.world.program.in_clear.add(access)
    rows.put(
        {
            "locationId": "loc",
            "provider": "hosted",
            "provider_params": at(customer),
            "encrypted_refresh": sealed(rows, "encrypted_refresh", token, customer),
            "last_access_token": access,
            "access_token_expiry": START + timedelta(days=1),
        }
        | cells
    )
    return token


def sealed(rows: Rows, column: str, text: str, server: OAuthServer) -> str:
    return rows.world.program.keyring.seal(text, Context(column, "loc", server.url))


VERBS = (
    ["refresh", "--all"], ["get", "loc", "--min-valid", "9999999"], ["doctor"], ["doctor", "--online"],
    ["revoke", "loc", "--yes"], ["verify"], ["rotate-key"],
)  # fmt: skip


@pytest.mark.parametrize("client_id", ["", "our-app"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb[:2]))
def test_a_row_of_another_host_without_a_secret_of_its_own_makes_no_verb_send_ours(
    rows: Rows, customer: OAuthServer, verb: list[str], client_id: str
) -> None:
    emptied(rows, customer, client_id=client_id)
    rows.world.program.run(*verb)
    assert customer.requests == []


EDITS: tuple[dict[str, str], ...] = (
    {"client_id": ""},
    {"client_id": "our-app", "encrypted_secret": ""},
    {"encrypted_secret": "", "client_id": ""},
    {"provider_params": ""},
    {"provider_params": "", "encrypted_secret": "", "client_id": ""},
    {"provider": "acme"},
    {"provider": "acme", "provider_params": "", "encrypted_secret": "", "client_id": ""},
    {"provider": "Hosted", "encrypted_secret": "", "client_id": ""},
    {"provider": "", "provider_params": "", "encrypted_secret": "", "client_id": ""},
)


@pytest.mark.by_turns("edit")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: " ".join(edit))
def test_whichever_cells_of_a_customer_s_row_are_changed_neither_secret_reaches_the_other_s_host(
    rows: Rows, customer: OAuthServer, edit: dict[str, str]
) -> None:
    """Our secret stays away from their host, and their token from our provider's."""
    customer.add_client("acme", "their-app", "their own secret")
    own = sealed(rows, "encrypted_secret", "their own secret", customer)
    token = emptied(rows, customer, client_id="their-app", encrypted_secret=own)
    rows.edit("loc", **edit)
    for verb in VERBS:
        rows.world.program.run(*verb)
    sent = {name: b"".join(one.body for one in server.requests) for name, server in servers(rows, customer)}
    assert SECRET.replace(" ", "+").encode() not in sent["theirs"]
    assert token.encode() not in sent["ours"]
    assert b"their+own+secret" not in sent["ours"]


def servers(rows: Rows, customer: OAuthServer) -> tuple[tuple[str, OAuthServer], tuple[str, OAuthServer]]:
    return ("theirs", customer), ("ours", rows.world.oauth)


def test_the_row_says_what_to_do(rows: Rows, customer: OAuthServer) -> None:
    emptied(rows, customer)
    run = rows.world.program.run("--all", "--json")
    assert run.code == 1
    [result] = run.json()["results"]
    assert (result["outcome"], result["error"]) == ("operator", ERROR.format(url=customer.url))
    assert ACTION in result["action"]
    assert rows.row("loc").last_error == result["error"]
    for verb in (["get", "loc", "--min-valid", "9999999"], ["revoke", "loc", "--yes"]):
        assert ACTION in rows.world.program.run(*verb).err, verb
    findings = rows.world.program.run("doctor", "--json").json()["findings"]
    [bad] = [one for one in findings if one["part"] == "cells" and one["state"] == "bad"]
    assert ACTION in bad["action"]


def test_a_host_that_the_settings_name_gets_their_secret(rows: Rows, customer: OAuthServer) -> None:
    emptied(rows, customer)
    rows.world.program.settings["HOSTED_TOKEN_URL"] = customer.token_url("acme")
    assert rows.world.program.run("--all", "--json").outcomes() == {"loc": "refreshed"}
    assert dict(customer.requests[-1].form())["client_secret"] == SECRET


def test_an_address_in_the_settings_whose_host_the_row_completes_is_the_row_s(
    rows: Rows, customer: OAuthServer
) -> None:
    keyring, origin = rows.world.program.keyring, customer.url.replace("http:", "https:")
    emptied(rows, customer, encrypted_refresh=keyring.seal(TOKEN, Context("encrypted_refresh", "loc", origin)))
    rows.world.program.settings["HOSTED_TOKEN_URL"] = "https://{instance}/acme/token"
    [result] = rows.world.program.run("--all", "--json").json()["results"]
    assert (result["outcome"], result["error"]) == ("operator", ERROR.format(url=origin))


def test_the_usual_host_gets_it_where_the_row_names_none(rows: Rows) -> None:
    """A placeholder of the host has a default: it is the catalogue's."""
    world = rows.world
    token = world.oauth.grant("acme", "our-app", location_id="loc")
    cell = sealed(rows, "encrypted_refresh", token, world.oauth)
    rows.put({"locationId": "loc", "provider": "hosted", "encrypted_refresh": cell, "provider_params": ""})
    assert world.program.run("--json").outcomes() == {"loc": "refreshed"}


def test_a_secret_of_the_row_s_own_goes_to_its_host_as_before(rows: Rows, customer: OAuthServer) -> None:
    """Also with our client id, which is no secret, and an app of its own that has none."""
    customer.add_client("acme", "our-app", "their own secret")
    emptied(rows, customer, encrypted_secret=sealed(rows, "encrypted_secret", "their own secret", customer))
    assert rows.world.program.run("--all", "--json").outcomes() == {"loc": "refreshed"}
    rows.edit("loc", client_id="their-app", encrypted_secret="")
    rows.world.program.run("--all")
    assert [dict(request.form()).get("client_secret") for request in customer.requests] == ["their own secret", None]


# Onboarding


@pytest.mark.parametrize("flags", [[], ["--no-check"]])
@pytest.mark.parametrize("client_id", ["", "our-app"])
def test_a_line_of_another_host_without_a_secret_is_not_saved(
    rows: Rows, customer: OAuthServer, client_id: str, flags: list[str]
) -> None:
    program = rows.world.program
    token = customer.grant("acme", "our-app", location_id="loc")
    cell = '"' + at(customer).replace('"', '""') + '"'
    path = program.csv(("loc", "hosted", client_id, "", token, cell), params=True)
    result = program.onboard("--from-csv", path, "--allow-host", host_of(customer), *flags)
    assert result.code == 1
    assert ERROR.format(url=customer.url) in result.err
    assert ACTION in result.err
    assert (customer.requests, rows.world.program.run("status", "--json").json()["rows"]) == ([], [])


def test_a_login_of_another_host_without_a_secret_is_not_stored(rows: Rows, customer: OAuthServer) -> None:
    manager = manager_of(rows.world)
    with pytest.raises(MisconfiguredError, match="HOSTED_CLIENT_SECRET is not sent to") as raised:
        manager.store_tokens(
            "loc",
            "hosted",
            refresh_token=TOKEN,
            access_token="an access token",
            expires_in=60,
            provider_params={"instance": host_of(customer)},
            allow_hosts=[host_of(customer)],
        )
    assert ACTION in raised.value.action
    assert (manager.list_tokens(), rows.world.journalled(), customer.requests) == ([], [], [])


@pytest.mark.parametrize("has_row", [False, True])
def test_an_onboarding_that_was_cut_off_is_not_taken_up_with_our_secret(
    rows: Rows, customer: OAuthServer, has_row: bool
) -> None:
    """Begun without a secret, before the settings had one for its client."""
    world = rows.world
    ours = world.program.settings.pop("HOSTED_CLIENT_SECRET")
    token = customer.grant("acme", "our-app", location_id="loc")
    customer.fail(faults.reset(), times=2)
    if has_row:
        rows.put({"locationId": "loc", "provider": "hosted", "provider_params": at(customer)})
    cell = '"' + at(customer).replace('"', '""') + '"'
    path = world.program.csv(("loc", "hosted", "our-app", "", token, cell), params=True)
    assert world.program.onboard("--from-csv", path, "--allow-host", host_of(customer)).code == 1
    assert [entry.step for entry in entries(world)] == ["lost"]
    world.program.settings["HOSTED_CLIENT_SECRET"] = ours
    asked = len(customer.requests)
    world.clock.advance(100)
    world.program.settings["LOG_FORMAT"] = "json"
    result = world.program.run()
    assert len(customer.requests) == asked
    [notice] = [line for line in result.lines() if line.get("code") == NoticeCode.ONBOARDING_ABANDONED]
    assert notice["message"].startswith("loc: its onboarding was given up: " + ERROR.format(url=customer.url))
    assert notice["message"].endswith("what was entered is kept, encrypted, in the journal")
    assert notice["action"].startswith("Enter the client's own secret")
    assert [entry.step for entry in entries(world)] == ["superseded"]
    assert "given up" not in world.program.run().err


def test_an_onboarding_whose_answer_was_kept_is_stored_although_our_secret_may_not_be_sent_there(
    rows: Rows, customer: OAuthServer
) -> None:
    """Nothing is sent any more."""
    world = rows.world
    ours = world.program.settings.pop("HOSTED_CLIENT_SECRET")
    pair = {"access_token": "a-newer-access-token", "refresh_token": "a-newer-refresh-token", "expires_in": 3600}
    customer.fail(faults.raw(json.dumps(pair).encode()))
    entered = NewCredential("loc", "hosted", "our-app", "", TOKEN, at(customer))

    def bring(context: RunContext) -> tuple[()]:
        Admission(context).admit(entered, Terms(hosts=[host_of(customer)]))
        return ()

    struck(world, Point.KEPT, Fate.KILL, bring)
    world.program.settings["HOSTED_CLIENT_SECRET"] = ours
    assert len(customer.requests) == 1
    world.program.run()
    cell = rows.row("loc").encrypted_refresh
    stored = world.program.keyring.open(cell, Context("encrypted_refresh", "loc", customer.url))
    assert (stored, entries(world), len(customer.requests)) == ("a-newer-refresh-token", [], 1)
