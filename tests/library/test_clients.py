"""Clients by the id of their row: registered before anybody logs in, listed page by page, changed and deleted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.callers import log_in, manager_of, revocable
from tests.commands.test_cli import change_row
from tests.conftest import World
from tests.library.test_manager import assert_frames_silent, claim, log
from tests.refresh.runs.faults_world import meanwhile
from tests.world.oauth import faults
from token_refresh.commands import prepare
from token_refresh.library import (
    LoginAgainError,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    TokenError,
    TokenManager,
    TokenView,
)
from token_refresh.refresh.write_back import WriteBack
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.terminal.console import Console
from token_refresh.wiring import open_history

__all__ = ["log"]  # a fixture

SECRET = "a new secret of this app"
CLIENT: dict[str, Any] = {"client_id": "app-acme", "client_secret": "acme secret"}
REDIRECT = "https://app.example/auth/callback"


@pytest.fixture(params=["sqlite", "postgres", "airtable"])
def kept(request: pytest.FixtureRequest, world: World) -> Iterator[tuple[World, TokenManager]]:
    """The library on each store in turn."""
    if request.param != "sqlite":
        world = request.getfixturevalue(f"{request.param}_world")
    with manager_of(world) as manager:
        yield world, manager


@pytest.fixture
def manager(world: World) -> Iterator[TokenManager]:
    with manager_of(world) as manager:
        yield manager


def registered(manager: TokenManager, location: str = "loc1", provider: str | None = "acme", **more: Any) -> TokenView:
    usual: dict[str, Any] = {"client_id": "app-acme", "client_secret": SECRET}
    return manager.register(location, provider, **(usual | more))


def locations(page: tuple[list[TokenView], str | None]) -> list[str]:
    return [one.location_id for one in page[0]]


def cells_of(world: World, location: str) -> dict[str, Any]:
    [row] = [row for row in world._rows() if location in (row.get("location_id"), row.get("locationId"))]
    return row


# Registered


def test_a_registered_client_waits_for_its_login_with_its_secret_encrypted(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    view = registered(
        manager, " loc1 ", redirect_uri=REDIRECT, workspace_email="a@b.example", workspace_name="The workspace"
    )
    assert (view.location_id, view.provider, view.client_id, view.state) == ("loc1", "acme", "app-acme", "")
    assert (view.redirect_uri, view.workspace_email, view.workspace_name) == (REDIRECT, "a@b.example", "The workspace")
    assert (view.has_credential, view.is_active, view.connected_at) == (False, True, None)
    assert view.created_at is not None
    assert view == manager.find(view.row_id) == manager.get("loc1") == manager.page(10)[0][0]
    assert "Enter its credential" in view.action
    assert cells_of(world, "loc1")["encrypted_secret"].startswith("sealed:v1:")
    assert manager.refresh_due().due == 0
    with pytest.raises(LoginAgainError, match="it has no credential yet"):
        manager.get_valid_access_token("loc1")


def test_a_registered_client_is_found_by_its_secret_once_it_has_logged_in(kept: tuple[World, TokenManager]) -> None:
    """The secret of the row is what its refresh is sent with."""
    world, manager = kept
    world.add_client("acme", "app-own", SECRET)
    registered(manager, client_id="app-own")
    token = world.oauth.grant("acme", "app-own", location_id="loc1")
    manager.store_tokens("loc1", "acme", client_secret=SECRET, refresh_token=token)
    assert manager.get_valid_access_token("loc1") == world.oauth.current_access("loc1")


def test_a_client_is_registered_once(kept: tuple[World, TokenManager]) -> None:
    _, manager = kept
    registered(manager, workspace_name="first")
    with pytest.raises(MisconfiguredError, match="there is a row of loc1 acme already") as caught:
        registered(manager, provider="ACME", workspace_name="second")
    assert caught.value.kind == "conflict"
    assert [one.workspace_name for one in manager.list_tokens()] == ["first"]
    assert registered(manager, provider="acme-never", client_id="app-acme-never").provider == "acme-never"


def test_every_mistake_is_said_at_once_by_field_and_without_its_value(world: World, manager: TokenManager) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        manager.register(
            " ",
            "zoho",
            client_id="Bearer canary",
            client_secret="canary\nsecret",
            redirect_uri="http://app.example/canary",
            workspace_name="canary " * 200,
            workspace_email="can\x07ary",
            provider_params={"accounts_server": "canary host"},
        )
    error = caught.value
    assert set(error.fields) == {
        *("location_id", "client_id", "client_secret", "redirect_uri", "workspace_email", "workspace_name"),
        "provider_params",
    }
    assert error.kind == "usage"
    assert all(f"{name}: {problem}" in str(error) for name, problem in error.fields.items())
    assert "canary" not in str(error)
    assert manager.list_tokens() == []
    assert_frames_silent(error, ["canary\nsecret", "canary\\nsecret"])


def test_an_unknown_provider_does_not_hide_the_other_mistakes(manager: TokenManager) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        registered(manager, "", "acmee", redirect_uri="ftp://app.example/")
    assert set(caught.value.fields) == {"location_id", "provider", "redirect_uri"}


@pytest.mark.parametrize(
    ("client_id", "provider"),
    [("1000.ABC123", "zoho"), ("amzn1.application-oa2-client.0a1b", "amazon-lwa"), ("anything", "acme")],
)
def test_a_provider_that_nobody_names_is_the_one_whose_ids_look_like_this(
    world: World, client_id: str, provider: str
) -> None:
    world.program.settings["DEFAULT_PROVIDER"] = "acme"
    with manager_of(world) as manager:
        assert registered(manager, provider=None, client_id=client_id).provider == provider


@pytest.mark.parametrize(
    ("uri", "is_taken"),
    [
        ("https://app.example/cb?x=1", True),
        ("http://127.0.0.1:8765/cb", True),
        ("http://localhost/cb", True),
        ("http://inside.example:8002/cb", True),
        ("http://inside.example/cb", False),
        ("http://user@inside.example:8002/cb", False),
        ("https://user:word@app.example/cb", False),
        ("https://app.example/cb#x", False),
        ("javascript:alert(1)", False),
    ],
)
def test_a_redirect_uri_is_https_or_here_or_where_the_caller_is(
    manager: TokenManager, uri: str, is_taken: bool
) -> None:
    allowed: dict[str, Any] = {"redirect_uri": uri, "allow_origins": ["http://inside.example:8002"]}
    if is_taken:
        assert registered(manager, **allowed).redirect_uri == uri
        return
    with pytest.raises(MisconfiguredError) as caught:
        registered(manager, **allowed)
    assert set(caught.value.fields) == {"redirect_uri"}
    with pytest.raises(MisconfiguredError):
        registered(manager, provider_params={"redirect_uri": uri})


def test_a_token_host_that_nobody_allowed_is_refused(world: World, manager: TokenManager) -> None:
    host = world.oauth.url.partition("://")[2]
    chosen: dict[str, Any] = {"provider": "acme-instance", "provider_params": {"instance": host}}
    with pytest.raises(MisconfiguredError, match="which nobody has allowed") as caught:
        registered(manager, **chosen)
    assert set(caught.value.fields) == {"provider_params"}
    assert registered(manager, **chosen, allow_hosts=[host]).params == {"instance": host}


def test_a_secret_may_be_left_to_the_settings_and_else_not(world: World) -> None:
    with manager_of(world) as manager, pytest.raises(MisconfiguredError) as caught:
        registered(manager, client_secret="")
    assert set(caught.value.fields) == {"client_secret"}
    world.program.settings |= {"ACME_CLIENT_ID": "app-acme", "ACME_CLIENT_SECRET": SECRET}
    with manager_of(world) as manager:
        assert registered(manager, client_id="", client_secret="").client_id == "app-acme"


def test_a_table_without_a_column_that_the_client_needs_is_named(airtable_world: World) -> None:
    airtable_world.table.remove_column("provider_params")
    with manager_of(airtable_world) as manager:
        with pytest.raises(MisconfiguredError, match="provider_params"):
            registered(manager, redirect_uri=REDIRECT)
        row_id = registered(manager).row_id
        with pytest.raises(MisconfiguredError, match="provider_params"):
            manager.update(row_id, client_id="app-other", redirect_uri=REDIRECT)
    assert cells_of(airtable_world, "loc1")["client_id"] == "app-acme"


def test_the_end_of_a_secret_is_a_day(manager: TokenManager) -> None:
    with pytest.raises(MisconfiguredError, match="secret_ends is no day") as caught:
        registered(manager, provider_params={"secret_ends": "in May"})
    assert set(caught.value.fields) == {"provider_params"}
    params = {"secret_ends": "2027-05-31"}
    assert registered(manager, provider_params=params).params == params


# Pages


@pytest.fixture
def many(kept: tuple[World, TokenManager]) -> tuple[World, TokenManager]:
    """A row in each state, of three providers."""
    world, manager = kept
    registered(manager, "waits", workspace_name="Ärger & Söhne", workspace_email="boss@shop.example")
    registered(manager, "waits 100%", "acme-never", client_id="app-acme-never")
    for location in ("expired", "off", "valid"):
        log_in(world, manager, location, expires_in=60 if location == "expired" else 7200)
    log_in(world, manager, "by google", "google")
    world.clock.advance(61)
    manager.update(manager.get("off").row_id, is_active=False)
    return world, manager


STATES = {
    "expired": ["expired"],
    "disabled": ["off"],
    "waiting": ["waits", "waits 100%"],
    "valid": ["by google", "valid"],
    "failing": [],
    "login_needed": [],
}


def test_pages_go_through_all_rows_once_in_an_order_that_stays(many: tuple[World, TokenManager]) -> None:
    _, manager = many
    whole, end = manager.page(1000)
    assert end is None
    assert sorted(one.location_id for one in whole) == sorted(one.location_id for one in manager.list_tokens())
    seen, after = list[TokenView](), None
    for _ in range(3):
        views, after = manager.page(2, after)
        seen += views
        if len(seen) == 2:
            manager.delete(seen[1].row_id)  # which moves nothing
    assert (seen, after) == (whole, None)


def test_rows_are_found_and_counted_by_their_state(many: tuple[World, TokenManager]) -> None:
    _, manager = many
    assert {state: sorted(locations(manager.page(10, status=state))) for state in STATES} == STATES
    assert manager.counts() == {state: len(rows) for state, rows in STATES.items()}


CALLED = {
    "WAITS": ["waits", "waits 100%"],
    "100%": ["waits 100%"],
    "_": [],
    "söhne": ["waits"],
    "ärger & S": ["waits"],
    "SHOP.example": ["waits"],
    "workspace_name": [],
    '"': [],
    "\0": [],
    "": ["by google", "expired", "off", "valid", "waits", "waits 100%"],
}


def test_rows_are_found_by_what_people_call_them(many: tuple[World, TokenManager]) -> None:
    _, manager = many
    assert {q: sorted(locations(manager.page(10, q=q))) for q in CALLED} == CALLED


def test_rows_are_found_by_their_provider_in_any_spelling(many: tuple[World, TokenManager]) -> None:
    _, manager = many
    assert locations(manager.page(10, provider="Google")) == ["by google"]
    assert locations(manager.page(10, provider="acme never")) == ["waits 100%"]
    assert locations(manager.page(10, provider="acme", status="valid", q="LI")) == ["valid"]
    assert manager.page(10, provider="nobody") == ([], None)


def test_rows_that_name_no_provider_are_of_the_default_one(world: World) -> None:
    world.program.settings["DEFAULT_PROVIDER"] = "acme"
    with manager_of(world) as manager:
        log_in(world, manager)
        change_row(world, "loc1", provider=" ")
        assert locations(manager.page(1, provider="acme")) == ["loc1"]
        assert locations(manager.page(1, provider="google")) == []


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1001}, {"limit": 1, "status": "broken"}])
def test_a_page_that_cannot_be_is_refused(manager: TokenManager, wrong: dict[str, Any]) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        manager.page(**wrong)
    assert caught.value.kind == "usage"


def test_a_refused_client_whose_row_is_not_marked_is_failing_everywhere(kept: tuple[World, TokenManager]) -> None:
    """What only the journal remembers counts in the view, in the filter and in the counts alike."""
    world, manager = kept
    log_in(world, manager, "refused")
    log_in(world, manager, "well", "google")
    world.clock.advance(1800)
    world.oauth.fail(faults.wrong_secret(), times=9)
    with pytest.raises(MisconfiguredError):
        manager.refresh_now("refused")
    assert manager.get("refused").state == "failing"
    assert locations(manager.page(10, status="failing")) == ["refused"]
    assert locations(manager.page(10, status="valid")) == ["well"]
    assert {state: count for state, count in manager.counts().items() if count} == {"failing": 1, "valid": 1}


# Found


def test_an_id_that_no_row_has_is_not_found(kept: tuple[World, TokenManager]) -> None:
    _, manager = kept
    registered(manager)
    for row_id in ("", "0", "999", "01", "-1", "rec00000000000000", "' OR 1=1", "9" * 30, "ä"):
        for act in (manager.find, manager.delete):
            with pytest.raises(NoSuchTokenError):
                act(row_id)
    for change in (manager.revoke, manager.update):
        with pytest.raises(NoSuchTokenError):
            change("999")
    assert len(manager.list_tokens()) == 1


# Changed


def test_a_new_secret_is_encrypted_and_used_by_the_next_refresh(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    log_in(world, manager)
    before = cells_of(world, "loc1")["encrypted_secret"]
    world.add_client("acme", "app-acme", SECRET)
    view = manager.update(manager.get("loc1").row_id, client_secret=SECRET)
    assert (view.state, view.has_credential) == ("valid", True)
    assert cells_of(world, "loc1")["encrypted_secret"] not in (before, SECRET)
    assert manager.refresh_now("loc1").access_token == world.oauth.current_access("loc1")


def test_what_is_not_named_stays_and_what_is_empty_goes(kept: tuple[World, TokenManager]) -> None:
    _, manager = kept
    row_id = registered(
        manager, redirect_uri=REDIRECT, workspace_name="one", provider_params={"scope": "a b", "account": "7"}
    ).row_id
    view = manager.update(row_id, workspace_name="two", provider_params={"scope": "c", "account": ""})
    assert (view.redirect_uri, view.workspace_name, view.params["scope"]) == (REDIRECT, "two", "c")
    assert "account" not in view.params
    view = manager.update(row_id, redirect_uri="", client_id="app-other")
    assert (view.redirect_uri, view.workspace_name, view.client_id) == ("", "two", "app-other")


def test_mistakes_in_a_change_are_said_at_once_and_nothing_is_changed(kept: tuple[World, TokenManager]) -> None:
    _, manager = kept
    before = registered(manager)
    with pytest.raises(MisconfiguredError) as caught:
        manager.update(
            before.row_id,
            client_id="",
            client_secret="a\nb",
            redirect_uri="http://app.example/",
            provider_params={"scope": "ä"},
        )
    assert set(caught.value.fields) == {"client_id", "client_secret", "redirect_uri", "provider_params"}
    assert manager.find(before.row_id) == before


def test_a_client_is_disabled_and_enabled_again(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    access = log_in(world, manager)
    row_id = manager.get("loc1").row_id
    view = manager.update(row_id, is_active=False)
    assert (view.is_active, view.state) == (False, "disabled")
    with pytest.raises(MisconfiguredError, match="its status is disabled") as caught:
        manager.get_token("loc1")
    assert caught.value.kind == "disabled"
    with pytest.raises(MisconfiguredError, match="its status is disabled"):
        manager.refresh_now("loc1")
    assert manager.update(row_id, is_active=True).state == "valid"
    assert manager.get_token("loc1").access_token == access


def test_a_client_that_waits_is_disabled_and_enabled_too(manager: TokenManager) -> None:
    row_id = registered(manager).row_id
    assert manager.update(row_id, is_active=False).state == "disabled"
    assert manager.update(row_id, is_active=True).state == ""


def test_tokens_are_never_moved_to_another_host(world: World, manager: TokenManager) -> None:
    host = world.oauth.url.partition("://")[2]
    other = host.replace("127.0.0.1", "localhost")
    chosen: dict[str, Any] = {"provider_params": {"instance": host}, "allow_hosts": [host, other]}
    row_id = registered(manager, provider="acme-instance", **chosen).row_id
    with pytest.raises(MisconfiguredError) as caught:
        manager.update(row_id, provider_params={"instance": other}, allow_hosts=[other])
    assert set(caught.value.fields) == {"client_secret"}
    with pytest.raises(MisconfiguredError, match="which nobody has allowed"):
        manager.update(row_id, provider_params={"instance": other}, client_secret=SECRET)
    manager.update(row_id, provider_params={"instance": other}, client_secret=SECRET, allow_hosts=[other])
    manager.store_tokens(
        "loc2", "acme-instance", **CLIENT, refresh_token=world.oauth.grant("acme", "app-acme"), **chosen
    )
    with pytest.raises(MisconfiguredError, match="are for another host") as caught:
        manager.update(manager.get("loc2").row_id, provider_params={"instance": other}, allow_hosts=[other])
    assert caught.value.kind == "conflict"


@pytest.mark.parametrize("edited", ["", "{}"])
def test_tokens_whose_host_somebody_edited_away_get_it_back_and_no_other(
    world: World, manager: TokenManager, edited: str
) -> None:
    host = world.oauth.url.partition("://")[2]
    other = host.replace("127.0.0.1", "localhost")
    params, refresh = {"instance": host}, world.oauth.grant("acme", "app-acme")
    manager.store_tokens(
        "loc1", "acme-instance", **CLIENT, refresh_token=refresh, provider_params=params, allow_hosts=[host]
    )
    row_id = manager.get("loc1").row_id
    change_row(world, "loc1", provider_params=edited)
    with pytest.raises(MisconfiguredError, match="are for another host"):
        manager.update(row_id, provider_params={"instance": other}, allow_hosts=[other])
    assert manager.update(row_id, provider_params=params, allow_hosts=[host]).params == params
    assert world.program.run("verify").code == 0


def test_a_new_secret_is_not_encrypted_for_a_host_that_somebody_wrote_into_the_table(
    world: World, manager: TokenManager
) -> None:
    host = world.oauth.url.partition("://")[2]
    params = {"instance": host}
    row_id = registered(manager, provider="acme-instance", provider_params=params, allow_hosts=[host]).row_id
    change_row(world, "loc1", provider_params=json.dumps({"instance": host.replace("127.0.0.1", "localhost")}))
    with pytest.raises(MisconfiguredError, match=r"localhost:[0-9]+, which nobody has allowed"):
        manager.update(row_id, client_secret=SECRET, allow_hosts=[host])
    assert manager.update(row_id, client_secret=SECRET, provider_params=params, allow_hosts=[host]).params == params


def test_parameters_that_nobody_can_read_are_replaced(world: World, manager: TokenManager) -> None:
    access = log_in(world, manager)
    row_id = manager.get("loc1").row_id
    change_row(world, "loc1", provider_params="{")
    assert manager.find(row_id).params == {}
    assert manager.update(row_id, provider_params={"scope": "a"}).params == {"scope": "a"}
    assert manager.get_valid_access_token("loc1") == access


def test_a_row_whose_host_cannot_be_one_needs_its_host_and_its_secret_again(
    world: World, manager: TokenManager
) -> None:
    host = world.oauth.url.partition("://")[2]
    chosen: dict[str, Any] = {"provider_params": {"instance": host}, "allow_hosts": [host]}
    row_id = registered(manager, provider="acme-instance", **chosen).row_id
    change_row(world, "loc1", provider_params=json.dumps({"instance": "no host"}))
    for change, field in (({"workspace_name": "new"}, "provider_params"), (chosen, "client_secret")):
        with pytest.raises(MisconfiguredError) as caught:
            manager.update(row_id, **change)
        assert set(caught.value.fields) == {field}
    assert manager.update(row_id, client_secret=SECRET, **chosen).params == {"instance": host}


def test_a_row_that_is_being_refreshed_elsewhere_is_not_changed(world: World) -> None:
    with manager_of(world) as manager:
        log_in(world, manager)
        claim(world, "somebody/0/1/run/host")
        with pytest.raises(RetryLaterError, match="nothing was changed"):
            manager.update(manager.get("loc1").row_id, workspace_name="new")
        assert manager.get("loc1").workspace_name == ""


# Deleted, revoked


def test_a_deleted_client_is_gone_and_its_name_is_free(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    log_in(world, manager)
    access = world.oauth.current_access("loc1")
    manager.delete(manager.get("loc1").row_id)
    assert (manager.list_tokens(), world.oauth.is_live(access)) == ([], True)
    assert registered(manager).location_id == "loc1"


def test_what_waits_for_a_client_is_stored_before_it_is_revoked_and_deleted(
    kept: tuple[World, TokenManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the token before the last would be revoked, and the newest would live on, in the journal."""
    world, _ = kept
    revocable(world)

    def away(*_: object) -> None:
        raise StoreUnavailableError("the store is away", "Wait.")

    with manager_of(world) as manager:
        log_in(world, manager)
        row_id = manager.get("loc1").row_id
        with monkeypatch.context() as patch:
            patch.setattr(WriteBack, "confirm", away)
            with contextlib.suppress(TokenError):
                manager.refresh_now("loc1")
        newest = world.oauth.current("loc1")
        manager.delete(row_id, revoke=True)
        assert world.oauth.tokens[newest].revoked_why == "revoked by its client"
        assert (manager.list_tokens(), world.journalled()) == ([], [])


def test_a_client_that_waits_is_deleted_where_there_is_nothing_to_revoke(kept: tuple[World, TokenManager]) -> None:
    _, manager = kept
    manager.delete(registered(manager).row_id, revoke=True)
    assert manager.list_tokens() == []


def test_a_client_whose_provider_cannot_revoke_stays_when_it_should(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    log_in(world, manager)
    row_id = manager.get("loc1").row_id
    with pytest.raises(MisconfiguredError, match="no revocation endpoint"):
        manager.delete(row_id, revoke=True)
    assert manager.find(row_id).state == "valid"


def test_a_revoked_client_stays_disabled_and_empty(world: World) -> None:
    revocable(world)
    with manager_of(world) as manager:
        access = log_in(world, manager)
        view = manager.revoke(manager.get("loc1").row_id)
        assert (view.state, view.has_credential, world.oauth.is_live(access)) == ("disabled", False, False)
        with pytest.raises(NoSuchTokenError, match="it has no credential"):
            manager.revoke(view.row_id)


# Refreshed now


def test_a_token_that_lives_is_refreshed_when_somebody_wants_it_now(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    old = log_in(world, manager)
    token = manager.refresh_now(" loc1 ", "acme")
    assert token.access_token == world.oauth.current_access("loc1") != old
    assert token.row_id == manager.get("loc1").row_id
    assert (len(world.oauth.requests), world.oauth.replayed()) == (1, [])


def test_a_manager_is_at_work_while_it_waits_for_a_token_and_not_while_it_reads(
    world: World, manager: TokenManager
) -> None:
    log_in(world, manager)
    seen: list[bool] = []
    world.oauth.fail(meanwhile(lambda: seen.append(manager.is_at_work)))
    manager.refresh_now("loc1")
    with manager._runtime.open_store():
        seen.append(manager.is_at_work)
    assert seen == [True, False]


def test_a_refresh_that_fails_now_is_said_though_the_old_token_lives(world: World, manager: TokenManager) -> None:
    old = log_in(world, manager)
    world.oauth.fail(faults.wrong_secret(), times=9)
    with pytest.raises(MisconfiguredError, match="operator"):
        manager.refresh_now("loc1")
    assert manager.get_valid_access_token("loc1") == old


def test_a_provider_that_takes_a_refresh_only_late_is_not_asked_before(world: World) -> None:
    world.serve("exact-online")
    with manager_of(world) as manager:
        log_in(world, manager, provider="exact-online", expires_in=600)
        with pytest.raises(RetryLaterError, match="accepts a refresh only 30 s before") as caught:
            manager.refresh_now("loc1")
        assert caught.value.after == 570
        assert world.oauth.requests == []
        world.clock.advance(571)
        assert manager.refresh_now("loc1").access_token == world.oauth.current_access("loc1")


def test_a_client_whose_tokens_somebody_clears_while_it_is_refreshed_has_none(
    world: World, manager: TokenManager
) -> None:
    log_in(world, manager)
    world.oauth.fail(meanwhile(lambda: change_row(world, "loc1", encrypted_refresh="", last_access_token="")))
    with pytest.raises(RetryLaterError, match="the row has no valid access token"):
        manager.refresh_now("loc1")


def test_a_pause_that_the_provider_asked_for_is_kept_and_its_end_said(world: World, manager: TokenManager) -> None:
    log_in(world, manager)
    world.oauth.fail(faults.too_many_requests(90), times=9)
    with pytest.raises(RetryLaterError):
        manager.refresh_now("loc1")
    asked = len(world.oauth.requests)
    with pytest.raises(RetryLaterError) as caught:
        manager.refresh_now("loc1")
    assert len(world.oauth.requests) == asked
    assert caught.value.after is not None
    assert 0 < caught.value.after <= 90


def test_params_of_a_registered_client_are_json_that_people_can_read(airtable_world: World) -> None:
    with manager_of(airtable_world) as manager:
        registered(manager, workspace_name="Ärger", redirect_uri=REDIRECT)
        [record] = airtable_world.table.records()
    assert json.loads(record["fields"]["provider_params"]) == {"workspace_name": "Ärger", "redirect_uri": REDIRECT}
    assert "Ärger" in record["fields"]["provider_params"]


# Recorded


def test_what_is_refreshed_and_logged_in_one_by_one_is_in_the_history(kept: tuple[World, TokenManager]) -> None:
    world, manager = kept
    log_in(world, manager)
    manager.get_valid_access_token("loc1")  # which asks nobody, and is no line
    manager.refresh_now("loc1")
    world.oauth.fail(faults.wrong_secret(), times=9)
    with contextlib.suppress(TokenError):
        manager.refresh_now("loc1")
    installation = prepare(world.program.settings, world.clock, Console(as_json=False))
    with open_history(installation, lambda *_: None) as history:
        [day] = history.days(world.clock.now().date())
    assert (day.provider, day.counts["refreshed"], day.counts["operator"]) == ("acme", 2, 1)


@pytest.mark.parametrize("in_its_place", [Path.mkdir, lambda file: file.symlink_to("gone/file")])
def test_a_refresh_that_the_history_does_not_take_is_one_all_the_same(
    world: World, manager: TokenManager, log: pytest.LogCaptureFixture, in_its_place: Callable[[Path], None]
) -> None:
    log_in(world, manager)
    [file] = (world.program.home / "state").rglob("history.sqlite3")
    file.unlink()
    in_its_place(file)
    assert manager.refresh_now("loc1").access_token == world.oauth.current_access("loc1")
    assert f"history: {file} cannot be written" in log.text


def test_what_is_onboarded_is_in_the_history(world: World) -> None:
    assert world.program.onboard("--from-csv", world.program.csv(world.csv_line("acme", "loc"))).code == 0
    installation = prepare(world.program.settings, world.clock, Console(as_json=False))
    with open_history(installation, lambda *_: None) as history:
        [day] = history.days(world.clock.now().date())
    assert (day.provider, day.counts["refreshed"]) == ("acme", 1)
