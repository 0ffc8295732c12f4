"""Callers as they were written for earlier managers: whole answers, connections, tokens that nothing refreshes."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from crypto import Context
from tests.callers import manager_of
from tests.commands.test_verify import new_key
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows, PostgresRows, Rows, SqliteRows
from tests.world.clock import START
from token_refresh.library import AsyncTokenManager, LoginAgainError, MisconfiguredError, TokenManager

HOUR = timedelta(hours=1)


@pytest.fixture(params=["sqlite", "postgres"])
def rows(request: pytest.FixtureRequest) -> Rows:
    """The rows of either database, by its back door."""
    if request.param == "postgres":
        return PostgresRows(request.getfixturevalue("postgres_world"))
    return SqliteRows(request.getfixturevalue("world"))


@pytest.fixture
def manager(rows: Rows) -> TokenManager:
    """With the client of acme in the settings, as callers have theirs."""
    rows.world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    return manager_of(rows.world)


def answer_of(world: World, location: str, **more: Any) -> dict[str, Any]:
    """What the provider answers to a login."""
    refresh = world.oauth.grant("acme", "app-acme", location_id=location)
    answer: dict[str, Any] = {
        "access_token": world.oauth.current_access(refresh),
        "refresh_token": refresh,
        "expires_in": 3600,
        "token_type": "Bearer",
        "scope": "calendar mail",
    }
    return answer | more


def opened(rows: Rows, location: str, column: str) -> str:
    world = rows.world
    return world.program.keyring.open(getattr(rows.row(location), column), Context(column, location, world.oauth.url))


# One user, a whole answer


def test_a_whole_answer_is_stored_and_served_with_all_that_it_says(rows: Rows, manager: TokenManager) -> None:
    answer = answer_of(rows.world, "tom", id_token="an.id.token", refresh_token_expires_in=86400, ext_expires_in=3600)
    manager.store_tokens("tom", "acme", **answer)
    token = manager.get_token("tom")
    assert (token.access_token, token.token_type) == (answer["access_token"], "Bearer")
    assert (token.expires_at, token.scopes) == (START + HOUR, ["calendar", "mail"])
    assert answer["access_token"] not in repr(token)
    view = manager.get("tom")
    assert (view.scopes, view.token_type, view.connected_at) == (["calendar", "mail"], "Bearer", START)
    assert view.refresh_expires_at == START + timedelta(days=1)
    stored = rows.row("tom")
    assert stored.id_token.startswith("sealed:")
    assert opened(rows, "tom", "id_token") == "an.id.token"


def test_a_whole_answer_is_awaited_as_well(rows: Rows, manager: TokenManager) -> None:
    async def session() -> Any:
        async with AsyncTokenManager(manager) as tokens:
            await tokens.store_tokens("tom", "acme", **answer_of(rows.world, "tom"))
            return await tokens.get_token("tom"), await tokens.get_valid_access_token("tom")

    token, text = asyncio.run(session())
    assert (token.access_token, token.scopes) == (text, ["calendar", "mail"])


@pytest.mark.parametrize(
    ("end", "moment"),
    [
        ({"expires_in": None, "expires_at": START + HOUR}, START + HOUR),
        ({"expires_in": None, "expires_at": int((START + HOUR).timestamp())}, START + HOUR),
        ({"expires_in": None, "expires_at": (START + HOUR).timestamp() * 1000}, START + HOUR),
        ({"expires_in": None, "expires_on": str(int((START + HOUR).timestamp()))}, START + HOUR),
        ({"expires_in": int((START + HOUR).timestamp())}, START + HOUR),
        ({"expires_in": None, "expires": "2026-03-01T14:00:00+01:00"}, datetime.fromisoformat("2026-03-01T13:00:00Z")),
        ({"expires_in": "1800", "expires_at": None}, START + HOUR / 2),
        ({"expires_in": None}, None),
    ],
)
def test_the_end_is_read_in_whatever_form_it_comes(world: World, end: dict[str, Any], moment: datetime | None) -> None:
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    manager = manager_of(world)
    manager.store_tokens("tom", "acme", **answer_of(world, "tom", **end))
    assert manager.get("tom").expires_at == moment


@pytest.mark.parametrize("scope", [["calendar", "mail"], "calendar mail"])
@pytest.mark.parametrize("name", ["scope", "scopes"])
def test_an_answer_in_camel_case_or_one_level_down_is_read(world: World, scope: Any, name: str) -> None:
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    manager = manager_of(world)
    answer = answer_of(world, "tom")
    tokens = {"accessToken": answer["access_token"], "refreshToken": answer["refresh_token"]}
    camel = {**tokens, "expiresIn": 1800, name: scope}
    for whole in (camel, {"status": 0, "body": camel}):
        manager.store_tokens("tom", "acme", **whole)
        token = manager.get_token("tom")
        assert (token.access_token, token.expires_at) == (answer["access_token"], START + HOUR / 2)
        assert token.scopes == ["calendar", "mail"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"refersh_token": "a token under a wrong name"}, "there is no argument refersh_token"),
        ({"acces_token": "a token under a wrong name"}, "there is no argument acces_token"),
        ({"one": {"access_token": "12345678"}, "two": {"access_token": "87654321"}}, "several different tokens"),
        ({"error": "invalid_grant"}, "refresh_token must not be empty"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_stored(world: World, answer: dict[str, Any], says: str) -> None:
    manager = manager_of(world)
    with pytest.raises(MisconfiguredError, match=says):
        manager.store_tokens("tom", "acme", client_id="app", **answer)
    assert manager.list_tokens() == []


def test_a_member_that_is_named_like_a_token_is_passed_over(world: World) -> None:
    """HighLevel's `refreshTokenId` is none."""
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": "acme secret"}
    manager = manager_of(world)
    manager.store_tokens("tom", "acme", **answer_of(world, "tom", refreshTokenId="5f1c", userType="Location"))
    assert manager.get("tom").has_credential


# A connection's ten fields


def test_a_connection_is_kept_and_shown_with_all_its_fields(rows: Rows, manager: TokenManager) -> None:
    answer = answer_of(rows.world, "5f1c")
    connected = START - timedelta(days=3)
    manager.store_tokens(
        "5f1c",
        "acme",
        username="tom",
        email="tom@acme.example",
        access_token=answer["access_token"],
        refresh_token=answer["refresh_token"],
        expires_at=START + HOUR,
        scopes=["repo", "read:user"],
        connected_at=connected,
        redirect_uri="https://app.example/callback",
        workspace_name="Acme",
        workspace_email="office@acme.example",
    )
    [view] = manager.list_tokens()
    assert view == manager.get("5f1c")
    assert (view.username, view.email, view.connected_at) == ("tom", "tom@acme.example", connected)
    assert (view.scopes, view.expires_at, view.last_used_at) == (["repo", "read:user"], START + HOUR, None)
    assert (view.workspace_name, view.workspace_email) == ("Acme", "office@acme.example")
    assert (view.redirect_uri, view.is_active) == ("https://app.example/callback", True)
    manager.get_valid_access_token("5f1c")
    assert manager.get("5f1c").last_used_at == START
    rows.world.clock.advance(60)
    manager.get_valid_access_token("5f1c")
    assert manager.get("5f1c").last_used_at == START  # not one write a call
    rows.world.clock.advance(300)
    manager.get_valid_access_token("5f1c")
    assert manager.get("5f1c").last_used_at == START + timedelta(seconds=360)


def test_a_refresh_keeps_what_is_known_of_the_client(rows: Rows, manager: TokenManager) -> None:
    manager.store_tokens("5f1c", "acme", username="tom", **answer_of(rows.world, "5f1c", id_token="an.id.token"))
    rows.world.clock.advance(4000)
    manager.get_valid_access_token("5f1c")
    view = manager.get("5f1c")
    assert (view.username, view.scopes, view.connected_at) == ("tom", ["calendar", "mail"], START)
    assert opened(rows, "5f1c", "id_token") == "an.id.token"


def test_another_login_leaves_nothing_of_the_one_before(rows: Rows, manager: TokenManager) -> None:
    manager.store_tokens("5f1c", "acme", username="tom", **answer_of(rows.world, "5f1c", id_token="an.id.token"))
    manager.get_valid_access_token("5f1c")
    manager.store_tokens("5f1c", "acme", **answer_of(rows.world, "5f1c", scope=None))
    view, row = manager.get("5f1c"), rows.row("5f1c")
    assert (view.username, view.scopes, view.last_used_at, row.id_token) == ("", [], None, "")


def test_what_is_disabled_is_not_active_and_not_served(rows: Rows, manager: TokenManager) -> None:
    manager.store_tokens("5f1c", "acme", **answer_of(rows.world, "5f1c"))
    rows.edit("5f1c", is_active=False)
    assert (manager.get("5f1c").is_active, manager.get("5f1c").status) == (False, "disabled")
    with pytest.raises(MisconfiguredError, match="its status is disabled"):
        manager.get_valid_access_token("5f1c")


# A token that nothing refreshes


@pytest.mark.parametrize("expires_in", [None, 8 * 3600])
def test_an_access_token_alone_is_served_to_its_end_and_never_due(
    rows: Rows, manager: TokenManager, expires_in: int | None
) -> None:
    manager.store_tokens("gh", "acme", access_token="gho_an-access-token", token_type="bearer", expires_in=expires_in)
    assert rows.row("gh").last_access_token.startswith("sealed:")
    assert (rows.row("gh").encrypted_refresh, manager.get("gh").can_refresh) == ("", False)
    token = manager.get_token("gh", min_valid=3600)
    assert (token.access_token, token.token_type) == ("gho_an-access-token", "bearer")
    assert manager.refresh_due().due == 0
    rows.world.clock.advance(9 * 3600)
    if expires_in is None:
        assert manager.get_valid_access_token("gh", min_valid=1e9) == "gho_an-access-token"
    else:
        with pytest.raises(LoginAgainError, match=r"no refresh token, and its access token ends on .* 20:00 UTC"):
            manager.get_valid_access_token("gh")
    assert rows.world.oauth.requests == []


def test_an_access_token_alone_is_sealed_on_airtable_too(airtable_world: World) -> None:
    """It may live for ever, and everybody who sees the table would have it."""
    manager = manager_of(airtable_world)
    manager.store_tokens("gh", "acme", access_token="gho_an-access-token", username="tom", scope="repo")
    assert AirtableRows(airtable_world).row("gh").last_access_token.startswith("sealed:")
    assert manager.get_valid_access_token("gh") == "gho_an-access-token"
    [view] = manager.list_tokens()
    assert (view.has_credential, view.can_refresh, view.expires_at) == (True, False, None)
    assert (view.username, view.scopes) == ("tom", ["repo"])


def test_a_second_login_without_a_refresh_token_keeps_the_one_in_the_row(rows: Rows, manager: TokenManager) -> None:
    """Google sends one only at the first consent."""
    first = answer_of(rows.world, "tom")
    manager.store_tokens("tom", "acme", username="tom", **first)
    again = answer_of(rows.world, "tom", refresh_token=None, expires_in=7200)
    manager.store_tokens("tom", "acme", **again)
    assert opened(rows, "tom", "encrypted_refresh") == first["refresh_token"]
    assert manager.get_token("tom").access_token == again["access_token"]
    assert manager.get("tom").expires_at == START + 2 * HOUR
    with pytest.raises(MisconfiguredError, match="the row has one of another client"):
        manager.store_tokens("tom", "acme", client_id="another", **again)
    rows.world.clock.advance(7000)
    fresh = manager.get_valid_access_token("tom")
    assert fresh != again["access_token"]
    assert rows.world.oauth.is_live(fresh)


def test_a_login_with_a_refresh_token_takes_the_place_of_a_token_alone(rows: Rows, manager: TokenManager) -> None:
    manager.store_tokens("tom", "acme", access_token="gho_an-access-token")
    answer = answer_of(rows.world, "tom")
    manager.store_tokens("tom", "acme", **answer)
    assert manager.get_token("tom").access_token == answer["access_token"]
    assert manager.get("tom").can_refresh


def test_two_tokens_alone_are_two_rows_and_neither_another_s_duplicate(rows: Rows, manager: TokenManager) -> None:
    for name in ("one", "two"):
        manager.store_tokens(name, "acme", access_token=f"gho_of-{name}")
    assert [manager.get_valid_access_token(name) for name in ("one", "two")] == ["gho_of-one", "gho_of-two"]
    assert rows.world.program.run("verify").code == 0


# A refresher


def test_a_refresh_on_demand_leaves_a_line_in_the_log(
    rows: Rows, manager: TokenManager, caplog: pytest.LogCaptureFixture
) -> None:
    logging.disable(logging.NOTSET)
    caplog.set_level(logging.INFO, "token_refresh")
    manager.store_tokens("tom", "acme", **answer_of(rows.world, "tom"))
    caplog.clear()
    manager.get_valid_access_token("tom")
    assert caplog.messages == []
    rows.world.clock.advance(3400)
    manager.get_valid_access_token("tom")
    assert caplog.messages == ["tom acme: refreshed"]


def test_get_prints_what_is_known_of_the_token(rows: Rows, manager: TokenManager) -> None:
    answer = answer_of(rows.world, "tom")
    manager.store_tokens("tom", "acme", **answer)
    assert rows.world.program.run("get", "tom", "--json").json() == {
        "location_id": "tom",
        "provider": "acme",
        "access_token": answer["access_token"],
        "token_type": "Bearer",
        "expires_at": "2026-03-01T13:00:00.000Z",
        "scopes": ["calendar", "mail"],
    }


def test_a_new_key_re_encrypts_all_that_is_sealed(rows: Rows, manager: TokenManager) -> None:
    manager.store_tokens("tom", "acme", **answer_of(rows.world, "tom", id_token="an.id.token"))
    manager.store_tokens("gh", "acme", access_token="gho_an-access-token")
    new_key(rows.world)
    assert rows.world.program.run("rotate-key").code == 0
    del rows.world.program.settings["ENCRYPTION_KEY_FALLBACKS"]
    assert opened(rows, "tom", "id_token") == "an.id.token"
    assert opened(rows, "gh", "last_access_token") == "gho_an-access-token"
    assert rows.world.program.run("verify").code == 0
