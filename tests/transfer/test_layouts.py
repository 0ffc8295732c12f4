"""`import --layout`: what earlier programs kept comes over re-encrypted, once, and every row of it refreshes."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet

import crypto
from tests.callers import manager_of
from tests.commands.test_import import outcomes
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, Rows, SqliteRows
from tests.transfer import sources
from tests.transfer.sources import HOUR, Earlier
from tests.world.airtable import AirtableServer
from tests.world.clock import START
from tests.world.program import ROOT, Result
from token_refresh.stores.base import Row
from token_refresh.transfer.layouts import LAYOUTS

DATABASES: list[Callable[[World], Earlier]] = [
    sources.user_tokens,
    sources.git_connections,
    sources.clients_and_tokens,
    sources.workspace_tokens,
]

TOO_DEEP = 2000 * "[" + 2000 * "]"
SCOPES = [
    ('["repo", null]', "repo"),
    ('"repo user"', "repo user"),
    ("null", None),  # what SQLAlchemy leaves of None
    ('{"repo": true}', None),
    (TOO_DEEP, TOO_DEEP),
]


def imported(earlier: Earlier, *argv: str) -> tuple[Result, dict[str, str]]:
    """What `import --json` did to each record."""
    if earlier.layout == "git-connections":
        argv = ("--redirect-uri", "https://app.example/callback", *argv)
    result = earlier.world.program.run("import", "--layout", earlier.layout, earlier.name, "--json", *argv)
    return result, outcomes(result) if result.out else {}


def reported(result: Result, location: str) -> str:
    """What the report says of one record."""
    [one] = [one for one in result.json()["results"] if one["location_id"] == location]
    return f"{one['outcome']}: {one['error']} {one['action']}"


def opened(world: World, row: Row, column: str) -> str:
    """What a cell of form v1 in this row holds; all fake providers have one origin."""
    return world.program.keyring.open(
        getattr(row, column), crypto.Context(column, row.location_id, world.oauth.url)
    )  # fmt: skip


def all_rows(rows: Rows, earlier: Earlier) -> dict[str, Row]:
    return {location: rows.row(location) for location in earlier.tokens}


def check_whole_way(earlier: Earlier, rows: Rows) -> None:
    """Plan, import, import again, refresh, import once more."""
    world = earlier.world
    planned, plan = imported(earlier)
    assert (planned.code, planned.json()["dry_run"]) == (0, True), planned.err
    assert plan == dict.fromkeys(earlier.tokens, "created")
    result, done = imported(earlier, "--yes")
    assert (result.code, done) == (0, plan)
    before = all_rows(rows, earlier)
    assert {location: opened(world, row, "encrypted_refresh") for location, row in before.items()} == earlier.tokens
    again, done = imported(earlier, "--yes")
    assert (again.code, set(done.values())) == (0, {"unchanged"})
    assert all_rows(rows, earlier) == before
    assert set(world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}
    assert all(rows.is_current(location) for location in earlier.tokens)
    assert world.program.run("status", "--json").json()["counts"] == {"valid": len(earlier.tokens)}
    fresh = all_rows(rows, earlier)
    assert all(row.access_token_expiry and row.access_token_expiry > START for row in fresh.values())
    # What the source has is older now, or the same where the provider leaves refresh tokens alone.
    late, done = imported(earlier, "--yes")
    assert (late.code, set(done.values()) <= {"kept", "unchanged"}) == (0, True)
    assert all_rows(rows, earlier) == fresh
    assert world.oauth.replayed() == []
    assert world.program.run("verify").code == 0


@pytest.mark.parametrize("make", DATABASES)
def test_what_a_database_holds_comes_over_once_and_refreshes(world: World, make: Callable[[World], Earlier]) -> None:
    earlier = make(world)
    before = earlier.file.read_bytes()
    check_whole_way(earlier, SqliteRows(world))
    assert earlier.file.read_bytes() == before
    assert list(earlier.file.parent.glob(f"{earlier.file.name}-*")) == []


@pytest.mark.parametrize("make", DATABASES)
def test_a_database_comes_over_into_airtable(airtable_world: World, make: Callable[[World], Earlier]) -> None:
    earlier = make(airtable_world)
    airtable_world.program.in_clear |= set(earlier.access.values())
    check_whole_way(earlier, AirtableRows(airtable_world))


def test_another_table_of_the_base_comes_over_once_and_refreshes(airtable_world: World) -> None:
    earlier = sources.airtable_gcm(airtable_world)
    assert airtable_world.airtable is not None
    rows = AirtableRows(airtable_world)
    check_whole_way(earlier, rows)
    assert {opened(airtable_world, row, "encrypted_secret") for row in all_rows(rows, earlier).values()} == {
        "highlevel secret"
    }
    writes = [request for request in airtable_world.airtable.requests if request.method != "GET"]
    assert not [request for request in writes if "Earlier" in request.path]


@pytest.mark.parametrize("own_key", [True, False])
def test_the_table_itself_is_re_encrypted_in_place(airtable_world: World, own_key: bool) -> None:
    world = airtable_world
    earlier = sources.airtable_gcm(world, world.program.settings.get("AIRTABLE_TABLE_NAME", "APISecrets"))
    if not own_key:  # the earlier program's key stays in force, under its own name
        world.program.settings["ENCRYPTION_KEY"] = world.program.settings.pop("IMPORT_KEY")
    rows = AirtableRows(world)
    rows.edit("loc-2", status="disabled", last_error="somebody's words")
    result, done = imported(earlier, "--yes")
    assert (result.code, set(done.values())) == (0, {"replaced"}), result.err
    after = all_rows(rows, earlier)
    assert {location: opened(world, row, "encrypted_refresh") for location, row in after.items()} == earlier.tokens
    assert {location: row.last_access_token for location, row in after.items()} == earlier.access
    assert {row.access_token_expiry for row in after.values()} == {START + HOUR}
    assert (rows.row("loc-2").status, rows.row("loc-2").last_error) == ("disabled", "somebody's words")
    assert set(imported(earlier, "--yes")[1].values()) == {"unchanged"}
    assert all_rows(rows, earlier) == after
    rows.edit("loc-2", status="active")
    assert set(world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}
    assert all(rows.is_current(location) for location in earlier.tokens)


def test_cells_that_are_sealed_already_come_over_opened_in_their_place(
    airtable_world: World, airtable: AirtableServer
) -> None:
    """A table of this program's own, older or newer; access tokens may be sealed there, too."""
    airtable_world.program.settings["SEAL_ACCESS_TOKENS"] = "on"
    table = airtable.six_column_table("Earlier")
    cells = airtable_world.cells("gohighlevel", "loc-1", START + HOUR)
    del cells["provider"]
    table.add(cells | {"last_access_token": airtable_world.seal("loc-1", "last_access_token", "the access token")})
    result = airtable_world.program.run("import", "--layout", "airtable-gcm", "Earlier", "--yes", "--json")
    assert outcomes(result) == {"loc-1": "created"}
    assert airtable_world.program.run("get", "loc-1").out.strip() == "the access token"


def test_an_app_at_a_host_that_its_row_names_keeps_its_secret(airtable_world: World, airtable: AirtableServer) -> None:
    """What the settings hold is for the provider's usual host."""
    host = urlsplit(airtable_world.oauth.url).netloc
    table = airtable.credentials_table("Earlier")
    cells = airtable_world.cells("acme-instance", "loc-1", START + HOUR)
    table.add(cells | {"provider_params": json.dumps({"instance": host})})
    result = airtable_world.program.run(
        "import", "--layout", "airtable-gcm", "Earlier", "--allow-host", host, "--yes", "--json"
    )
    assert outcomes(result) == {"loc-1": "created"}
    assert opened(airtable_world, AirtableRows(airtable_world).row("loc-1"), "encrypted_secret") == "acme secret"


def test_each_table_keeps_its_own_columns_in_mind(airtable_world: World) -> None:
    """Mixed up, the next run would ask one table for what only the other has."""
    imported(sources.airtable_gcm(airtable_world), "--yes")
    kept = [path.read_text() for path in (airtable_world.program.home / "state").glob("*/columns-*.json")]
    assert sorted("provider_params" in text for text in kept) == [False, True]


def test_a_six_column_table_is_re_encrypted_in_place(airtable_world: World, airtable: AirtableServer) -> None:
    earlier = sources.airtable_gcm(airtable_world)
    airtable_world.program.settings["AIRTABLE_TABLE_NAME"] = "Earlier"
    assert set(imported(earlier, "--yes")[1].values()) == {"replaced"}
    assert set(airtable_world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}


def test_a_living_access_token_is_kept_with_its_end(world: World) -> None:
    """So nothing that works stops working, and the first run has only what is due to do."""
    for make in (sources.user_tokens, sources.git_connections, sources.clients_and_tokens):
        earlier = make(world)
        imported(earlier, "--yes")
        for location, row in all_rows(SqliteRows(world), earlier).items():
            assert opened(world, row, "last_access_token") == earlier.access[location]
            assert row.access_token_expiry == START + HOUR
            got = world.program.run("get", location)
            assert got.out.strip() == earlier.access[location]
    assert world.oauth.requests == []


@pytest.mark.parametrize("make", [sources.workspace_tokens, sources.clients_and_tokens])
def test_a_time_without_a_zone_is_not_believed(world: World, make: Callable[[World], Earlier]) -> None:
    """It may be any machine's local time; a dead token must not seem to live for hours."""
    earlier = make(world)
    earlier.edit("tokens", expires_at=sources.stored_time(START + HOUR))
    imported(earlier, "--yes")
    assert {row.access_token_expiry for row in all_rows(SqliteRows(world), earlier).values()} == {None}
    assert set(world.program.run("--json").outcomes().values()) == {"refreshed"}


def test_what_the_columns_say_becomes_parameters(world: World) -> None:
    rows = SqliteRows(world)
    said: dict[str, Any] = {}
    known: dict[str, Row] = {}
    for make in DATABASES:
        earlier = make(world)
        assert imported(earlier, "--yes")[0].code == 0
        known |= all_rows(rows, earlier)
        said |= {location: json.loads(row.provider_params or "{}") for location, row in all_rows(rows, earlier).items()}
    assert said["tom"] == {"tenant": "contoso.example", "redirect_uri": "https://mail.example/auth/callback"}
    assert said["5f1c"] == said["9ab2"] == {"redirect_uri": "https://app.example/callback"}
    assert (known["5f1c"].username, known["5f1c"].scopes) == ("tom", "repo read:user")
    assert (known["9ab2"].email, known["9ab2"].connected_at) == ("tom@acme.example", START - HOUR)
    branch = known["uuid-12345"]
    assert said["uuid-12345"] == {"redirect_uri": branch.redirect_uri}
    assert branch.redirect_uri == "http://localhost:8002/auth/callback"
    assert (branch.workspace_email, branch.workspace_name) == ("workspace@company.example", "Company Workspace, Zürich")
    assert (branch.scopes, branch.token_type) == ("https://www.googleapis.com/auth/business.manage", "Bearer")
    assert (said["dr-g"], said["dr-m"]) == ({}, {})
    assert (known["dr-g"].scopes, known["dr-m"].scopes) == ("calendar mail", "calendar mail")
    assert {rows.row(location).provider for location in ("5f1c", "9ab2")} == {"github-app", "gitlab-acme"}


def test_what_airtable_has_no_columns_for_becomes_parameters(airtable_world: World) -> None:
    earlier = sources.clients_and_tokens(airtable_world)
    airtable_world.program.in_clear |= set(earlier.access.values())
    imported(earlier, "--yes")
    row = AirtableRows(airtable_world).row("uuid-12345")
    assert json.loads(row.provider_params) == {
        "redirect_uri": "http://localhost:8002/auth/callback",
        "workspace_email": "workspace@company.example",
        "workspace_name": "Company Workspace, Zürich",
        "granted_scope": "https://www.googleapis.com/auth/business.manage",
    }


@pytest.mark.parametrize("end", [None, sources.stored_time(START + 9000 * HOUR)])
def test_a_connection_without_a_refresh_token_is_served_and_never_due(world: World, end: str | None) -> None:
    """As of GitHub's OAuth apps, whose tokens do not expire."""
    earlier = sources.git_connections(world)
    sources.add_connection(earlier, "odd", "github", refresh_token_encrypted=None, token_expires_at=end)
    assert imported(earlier, "--yes")[1]["odd"] == "created"
    before = SqliteRows(world).row("odd")
    assert before.last_access_token.startswith("sealed:")
    assert set(imported(earlier, "--yes")[1].values()) == {"unchanged"}
    assert "odd" not in world.program.run("--all", "--json").outcomes()
    world.clock.advance(30 * 86400)
    assert world.program.run("get", "odd").out.strip() == earlier.access["odd"]
    result = world.program.run("get", "odd", "--json").json()
    assert (result["expires_at"] is None, result["token_type"]) == (end is None, "Bearer")


def test_a_connection_that_was_switched_off_comes_over_disabled(world: World) -> None:
    earlier = sources.git_connections(world)
    sources.add_connection(earlier, "off", "github", is_active=False)
    assert imported(earlier, "--yes")[1]["off"] == "created"
    assert not manager_of(world).get("off").is_active
    assert "off" not in world.program.run("--all", "--json").outcomes()
    refused = world.program.run("get", "off")
    assert (refused.code, "its status is disabled" in refused.err) == (1, True)


def test_a_table_without_a_status_takes_nobody_who_was_switched_off(airtable_world: World) -> None:
    earlier = sources.git_connections(airtable_world)
    airtable_world.program.in_clear |= set(earlier.access.values())
    assert airtable_world.table is not None
    airtable_world.table.remove_column("status")
    sources.add_connection(earlier, "off", "github", is_active=False)
    result, done = imported(earlier, "--yes")
    assert (result.code, done["off"]) == (1, "refused")
    assert "no column status" in reported(result, "off")


def test_a_secret_of_the_settings_is_not_copied(world: World) -> None:
    """An app that is given another one tomorrow is changed in one place."""
    earlier = sources.git_connections(world)
    imported(earlier, "--yes")
    rows = SqliteRows(world)
    assert (rows.row("5f1c").encrypted_secret, rows.row("9ab2").encrypted_secret) == ("", "")
    assert (rows.row("5f1c").client_id, rows.row("9ab2").client_id) == ("app-github-app", "app-gitlab")
    assert world.program.run("--all", "--json").outcomes() == dict.fromkeys(earlier.tokens, "refreshed")


@pytest.mark.parametrize("flags", [[], ["--allow-host"]])
def test_a_secret_of_the_settings_is_for_no_host_that_a_record_names(world: World, flags: list[str]) -> None:
    """Each instance has an app of its own: that of the provider's usual host is none of its business."""
    earlier = sources.git_connections(world, is_described=False)
    sources.default_client(world, "gitlab")
    host = urlsplit(world.oauth.url).netloc
    result, done = imported(earlier, "--yes", *flags, *([host] if flags else []))
    assert (result.code, done) == (1, {"5f1c": "created", "9ab2": "refused"})
    assert f"GITLAB_CLIENT_SECRET is not sent to {world.oauth.url}" in reported(result, "9ab2")
    assert "describe a provider of that host in PROVIDERS_FILE" in reported(result, "9ab2")
    assert sorted(world.rows()) == ["5f1c"]


def test_a_host_that_a_record_names_needs_a_yes(world: World) -> None:
    """Where the settings have no secret that could go there, the tokens still do."""
    earlier = sources.git_connections(world, is_described=False)
    world.program.settings |= {"GITLAB_CLIENT_ID": "app-gitlab", "GITLAB_CLIENT_SECRET": ""}
    host = urlsplit(world.oauth.url).netloc
    result, done = imported(earlier, "--yes")
    assert (result.code, done) == (1, {"5f1c": "created", "9ab2": "refused"})
    assert f"--allow-host {host}" in reported(result, "9ab2")
    assert imported(earlier, "--yes", "--allow-host", host)[1]["9ab2"] == "created"
    assert json.loads(SqliteRows(world).row("9ab2").provider_params)["instance"] == host


@pytest.mark.parametrize(
    ("values", "outcome", "said"),
    [
        ({"refresh_token_encrypted": "", "access_token_encrypted": ""}, "skipped", "no refresh token"),
        ({"provider": "gitea"}, "refused", "no provider 'gitea'"),
        ({"instance_url": "https://git.acme.example"}, "refused", "git.acme.example"),
        ({"instance_url": "http://git.acme.example"}, "refused", "instance_url"),
        ({"instance_url": "https://acme.example/git"}, "refused", "instance_url"),
        ({"refresh_token_encrypted": "in the clear"}, "refused", "refresh token"),
    ],
)
def test_a_connection_that_cannot_come_over_is_reported_alone(
    world: World, values: dict[str, Any], outcome: str, said: str
) -> None:
    earlier = sources.git_connections(world)
    sources.add_connection(earlier, "odd", **{"provider": "github"} | values)
    result, done = imported(earlier, "--yes")
    assert done == {"5f1c": "created", "9ab2": "created", "odd": outcome}
    assert result.code == (1 if outcome == "refused" else 0)
    assert said in reported(result, "odd")
    assert sorted(world.rows()) == ["5f1c", "9ab2"]


def test_a_record_that_says_of_nobody_whose_it_is_is_refused_alone(world: World) -> None:
    earlier = sources.user_tokens(world)
    sources.add_user(earlier, "sue", 3, user_id="")
    result, done = imported(earlier, "--yes")
    assert (result.code, done) == (1, {"tom": "created", "ann": "created", "user_tokens 3": "refused"})
    assert "it has nothing that could be its location id" in reported(result, "")


@pytest.mark.parametrize("address", ["https://github.com", "https://GitHub.com/"])
def test_the_providers_own_host_needs_no_yes(world: World, address: str) -> None:
    earlier = sources.git_connections(world)
    del world.program.settings["GITHUB_APP_TOKEN_URL"]
    sources.add_connection(earlier, "same", "github", instance_url=address)
    assert imported(earlier)[1]["same"] == "created"


def test_a_connection_without_an_end_is_refreshed_by_the_next_run(world: World) -> None:
    earlier = sources.git_connections(world)
    earlier.edit("git_connections", token_expires_at=None)
    imported(earlier, "--yes")
    assert world.program.run("--json").outcomes() == {"5f1c": "refreshed", "9ab2": "refreshed"}


@pytest.mark.parametrize(
    ("client", "token", "outcome", "said"),
    [
        ({}, {"is_revoked": True}, "skipped", "revoked"),
        ({}, {"refresh_token": None, "expires_at": sources.stored_time(START + HOUR)}, "skipped", "no refresh token"),
        ({"client_id": ""}, {}, "refused", "GOOGLE_CLIENT_ID"),
    ],
)
def test_a_branch_that_cannot_come_over_is_reported(
    world: World, client: dict[str, Any], token: dict[str, Any], outcome: str, said: str
) -> None:
    earlier = sources.clients_and_tokens(world)
    if client:
        earlier.edit("clients", **client)
    if token:
        earlier.edit("tokens", **token)
    result, done = imported(earlier, "--yes")
    assert set(done.values()) == {outcome}
    assert said in reported(result, "uuid-12345")
    assert world.rows() == {}


def test_a_branch_that_never_logged_in_is_skipped(world: World) -> None:
    earlier = sources.clients_and_tokens(world)
    earlier.edit("tokens", client_id="of nobody")
    result, done = imported(earlier, "--yes")
    assert (result.code, set(done.values())) == (0, {"skipped"})
    assert "no refresh token" in reported(result, "uuid-12345")


def test_of_several_tokens_the_newest_counts_and_an_older_one_lends_its_refresh_token(world: World) -> None:
    earlier = sources.clients_and_tokens(world)
    first, revoked = earlier.tokens["uuid-12345"], {"is_revoked": True, "refresh_token": "a token that was revoked"}
    sources.add_token(earlier, 1, access_token="the newest", last_refreshed_at=(START + HOUR / 2).isoformat())
    sources.add_token(earlier, 1, access_token="no", last_refreshed_at=(START + HOUR).isoformat(), **revoked)
    sources.add_token(earlier, 1, access_token="no", last_refreshed_at=(START + HOUR).isoformat(), is_valid=False)
    imported(earlier, "--yes")
    row = SqliteRows(world).row("uuid-12345")
    assert opened(world, row, "last_access_token") == "the newest"
    assert opened(world, row, "encrypted_refresh") == first


def test_a_token_that_is_no_longer_valid_is_refreshed_at_once(world: World) -> None:
    earlier = sources.clients_and_tokens(world)
    earlier.edit("tokens", is_valid=False)
    imported(earlier, "--yes")
    assert set(world.program.run("--json").outcomes().values()) == {"refreshed"}


def test_two_logins_of_one_user_are_two_rows(world: World) -> None:
    earlier = sources.workspace_tokens(world)
    earlier.edit("tokens", user_id="dr")
    result = imported(earlier, "--yes")[0]
    assert sorted(one["provider"] for one in result.json()["results"]) == ["google", "microsoft"]
    assert world.program.run("get", "dr", "--provider", "google").code == 0


def test_without_a_client_in_the_settings_it_is_said_which_to_set(world: World) -> None:
    earlier = sources.workspace_tokens(world)
    del world.program.settings["GOOGLE_CLIENT_ID"]
    result, done = imported(earlier, "--yes")
    assert (result.code, done) == (1, {"dr-g": "refused", "dr-m": "created"})
    assert "GOOGLE_CLIENT_SECRET" in reported(result, "dr-g")


def test_without_an_app_of_its_own_name_the_providers_default_is_taken(world: World) -> None:
    earlier = sources.user_tokens(world)
    del world.program.settings["CLIENT_ID"]
    sources.default_client(world, "microsoft")
    assert imported(earlier, "--yes")[0].code == 0
    assert set(world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}


@pytest.mark.parametrize("make", [sources.user_tokens, sources.git_connections, sources.workspace_tokens])
def test_a_key_that_opens_nothing_is_said_once(world: World, make: Callable[[World], Earlier]) -> None:
    earlier = make(world)
    for wrong in (Fernet.generate_key().decode(), ""):
        world.program.settings["IMPORT_KEY"] = wrong
        result = imported(earlier, "--yes")[0]
        assert result.code == 2
        assert "opens any refresh token (2 rows)" in result.err
        assert "IMPORT_KEY" in result.err
    assert world.rows() == {}


def test_one_record_of_another_key_is_refused_alone(world: World) -> None:
    earlier = sources.user_tokens(world)
    earlier.fernet = Fernet(Fernet.generate_key())
    sources.add_user(earlier, "eve", 3)
    result, done = imported(earlier, "--yes")
    assert (result.code, done) == (1, {"tom": "created", "ann": "created", "eve": "refused"})
    assert "IMPORT_KEY" in reported(result, "eve")


def test_the_key_in_force_or_a_fallback_may_be_the_earlier_programs(world: World) -> None:
    earlier = sources.user_tokens(world)
    world.program.settings["ENCRYPTION_KEY_FALLBACKS"] = world.program.settings.pop("IMPORT_KEY")
    assert set(imported(earlier)[1].values()) == {"created"}
    world.program.settings["ENCRYPTION_KEY"] = world.program.settings.pop("ENCRYPTION_KEY_FALLBACKS")
    assert set(imported(earlier)[1].values()) == {"created"}


def test_refused_older_forms_open_for_an_import(world: World) -> None:
    earlier = sources.user_tokens(world)
    world.program.settings["LEGACY_CIPHERTEXT"] = "refuse"
    assert set(imported(earlier, "--yes")[1].values()) == {"created"}
    assert set(world.program.run("--all", "--json").outcomes().values()) == {"refreshed"}


def test_a_row_that_has_a_credential_is_left_unless_it_is_to_be_replaced(world: World) -> None:
    earlier = sources.user_tokens(world)
    rows = SqliteRows(world)
    imported(earlier, "--yes")
    rows.edit("tom", client_id="another")
    before = rows.row("tom")
    assert imported(earlier, "--yes")[1] == {"tom": "kept", "ann": "unchanged"}
    assert rows.row("tom") == before
    assert imported(earlier, "--yes", "--replace")[1] == {"tom": "replaced", "ann": "unchanged"}
    assert rows.row("tom").client_id == "app-microsoft"


def test_a_row_that_waits_for_its_credential_gets_it(world: World) -> None:
    earlier = sources.user_tokens(world)
    rows = SqliteRows(world)
    imported(earlier, "--yes")
    rows.edit("tom", encrypted_refresh="", encrypted_secret="", status="reauthorize")
    assert imported(earlier, "--yes")[1] == {"tom": "replaced", "ann": "unchanged"}
    assert rows.row("tom").status == ""
    assert opened(world, rows.row("tom"), "encrypted_refresh") == earlier.tokens["tom"]


def test_a_row_whose_key_is_an_older_one_is_re_encrypted_and_keeps_what_is_newer(world: World) -> None:
    """Google leaves the refresh token alone: the credential is the same on both sides, the other columns are not."""
    earlier = sources.clients_and_tokens(world)
    rows = SqliteRows(world)
    imported(earlier, "--yes")
    world.clock.advance(7200)
    world.program.run("--all")
    rows.edit("uuid-12345", status="disabled")
    before = all_rows(rows, earlier)
    fallback, key = world.program.settings["ENCRYPTION_KEY"], crypto.generate_key()
    world.program.settings |= {"ENCRYPTION_KEY": key, "ENCRYPTION_KEY_FALLBACKS": fallback}
    assert set(imported(earlier, "--yes")[1].values()) == {"replaced"}
    after = all_rows(rows, earlier)
    for location, row in after.items():
        assert opened(world, row, "encrypted_refresh") == earlier.tokens[location]
        assert opened(world, row, "last_access_token") == world.oauth.current_access(location)
    assert [unsealed(row) for row in after.values()] == [unsealed(row) for row in before.values()]
    assert set(imported(earlier, "--yes")[1].values()) == {"unchanged"}


def unsealed(row: Row) -> Row:
    return replace(row, encrypted_secret="", encrypted_refresh="", last_access_token="")


def test_a_row_whose_tokens_were_deleted_stays_so_unless_it_is_to_be_replaced(world: World) -> None:
    earlier = sources.clients_and_tokens(world)
    imported(earlier, "--yes")
    manager_of(world).delete_tokens("uuid-12345")
    result, done = imported(earlier, "--yes")
    assert done == {"uuid-12345": "kept", "uuid-67890": "unchanged"}
    assert reported(result, "uuid-12345") == "kept: the table's row is disabled To have the source's: --replace"
    assert SqliteRows(world).row("uuid-12345").encrypted_refresh == ""
    assert imported(earlier, "--yes", "--replace")[1]["uuid-12345"] == "replaced"
    assert SqliteRows(world).row("uuid-12345").status == ""


@pytest.mark.parametrize(("scopes", "scope"), SCOPES)
def test_scopes_are_read_however_they_were_kept(world: World, scopes: str, scope: str | None) -> None:
    check_scopes(sources.git_connections(world), scopes, scope)


def check_scopes(earlier: Earlier, scopes: str, scope: str | None) -> None:
    sources.add_connection(earlier, "odd", "github", scopes=scopes)
    result, done = imported(earlier, "--yes")
    assert (result.code, done["odd"]) == (0, "created"), result.err
    assert SqliteRows(earlier.world).row("odd").scopes == (scope or "")


def test_a_record_that_is_there_twice_is_refused(world: World) -> None:
    """Space around an id does not count, whatever the database thinks."""
    earlier = sources.clients_and_tokens(world)
    sources.add_branch(earlier, " uuid-12345", 3)
    result = imported(earlier)[0]
    assert sorted(one["outcome"] for one in result.json()["results"]) == ["created", "refused", "refused"]


@pytest.mark.parametrize(
    ("layout", "source", "said"),
    [
        ("user-tokens", "somewhere", "no address of a database"),
        ("user-tokens", "sqlite:///{gone}", "cannot be read"),
        ("git-connections", "sqlite:///{file}", "no table git_connections"),
        ("workspace-tokens", "sqlite:///{tokens}", "has no column access_token_encrypted"),
        ("user-tokens", "postgresql://tom:hunter2hunter2@db.example/x", "password"),
        ("user-tokens", "postgresql://db.example/x?password=hunter2hunter2", "password"),
        ("airtable-gcm", "APISecrets", "AIRTABLE_BASE_ID"),
    ],
)
def test_a_source_that_cannot_be_read_is_reported_with_what_to_do(
    world: World, layout: str, source: str, said: str
) -> None:
    gone = world.program.home / "gone.db"
    files = {"file": sources.user_tokens(world).file, "tokens": sources.clients_and_tokens(world).file, "gone": gone}
    result = world.program.run("import", "--layout", layout, source.format(**files))
    assert result.code in (2, 3)
    assert said in result.err
    assert "hunter2" not in result.said
    assert "internal error" not in result.err
    assert not gone.exists()


def test_a_file_that_is_no_database_is_reported(world: World) -> None:
    path = world.program.home / "notes.db"
    path.write_bytes(os.urandom(4096))
    result = world.program.run("import", "--layout", "user-tokens", f"sqlite:///{path}")
    assert result.code == 3
    assert "cannot be read" in result.err


def test_the_package_that_postgresql_needs_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as Python sees a package that is not there
    result = world.program.run("import", "--layout", "user-tokens", "postgresql://db.example/x")
    assert result.code == 2
    assert "requirements/postgres.txt" in result.err


def test_a_table_that_is_not_in_the_base_is_reported(airtable_world: World) -> None:
    result = airtable_world.program.run("import", "--layout", "airtable-gcm", "Nowhere")
    assert result.code == 2
    assert "Nowhere" in result.err


def test_an_unreadable_access_token_costs_a_refresh_and_nothing_else(world: World) -> None:
    earlier = sources.user_tokens(world)
    earlier.edit("user_tokens", encrypted_access_token="spoilt")
    assert set(imported(earlier, "--yes")[1].values()) == {"created"}
    assert set(world.program.run("--json").outcomes().values()) == {"refreshed"}


def test_the_table_for_people_names_no_secret(world: World) -> None:
    earlier = sources.clients_and_tokens(world)
    shown = world.program.run("import", "--layout", earlier.layout, earlier.name)
    assert shown.code == 0
    assert "uuid-12345" in shown.out
    assert "secret of branch" not in shown.said


def test_base64_of_fernet_is_what_it_says(world: World) -> None:
    """The form that only one of the layouts has; the fake of it must not be plain Fernet by mistake."""
    earlier = sources.workspace_tokens(world)
    assert base64.urlsafe_b64decode(earlier.twice_encoded("x")).startswith(b"gAAAA")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_in_the_help_and_has_its_place_on_the_page(world: World, layout: str) -> None:
    shown = " ".join(world.program.run("import", "--help").out.split())
    assert f"{layout}: {LAYOUTS[layout]}" in shown.replace("- ", "-")
    page = (ROOT / "docs/migrating.md").read_text()
    assert f"| `{layout}` |" in page
    assert f"--layout {layout} " in page
