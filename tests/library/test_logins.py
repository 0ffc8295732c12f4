"""Logins of customers into rows that are there: begun in one process, ended in another, kept through any end of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.callers import Meanwhile, manager_of
from tests.clients.login.person import client_of, sent_back, set_up
from tests.clients.login.test_onboarding import drop_realm
from tests.conftest import World
from tests.library.test_clients import kept
from tests.refresh.nothing_lost.struck import Fate, Point, struck
from tests.refresh.runs.faults_world import meanwhile
from tests.world.oauth import faults
from token_refresh.base.errors import Kind
from token_refresh.clients.row_login import BegunLogin, exchange_row_login
from token_refresh.journal.lock import run_lock
from token_refresh.library import (
    AsyncTokenManager,
    LoginAgainError,
    LoginBegun,
    MisconfiguredError,
    NoSuchTokenError,
    RetryLaterError,
    TokenManager,
    TokenView,
)
from token_refresh.refresh.run_context import RunContext
from token_refresh.stores.base import StoreUnavailableError
from token_refresh.wiring import resume_admission

__all__ = ["kept"]

CALLBACK = "https://app.example/auth/callback"
Kept = tuple[World, TokenManager]


@pytest.fixture
def google(kept: Kept) -> Iterator[Kept]:
    """A client of Google that waits for its login, at the fake, on each store in turn."""
    world, _ = kept
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager)
        yield world, manager


@pytest.fixture
def here(world: World) -> Iterator[Kept]:
    """The same on SQLite alone."""
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager)
        yield world, manager


def registered(manager: TokenManager, slug: str = "google", **more: Any) -> TokenView:
    usual: dict[str, Any] = {"client_id": client_of(slug), "client_secret": f"{slug} secret", "redirect_uri": CALLBACK}
    return manager.register("loc", slug, **(usual | {"workspace_name": "Workspace"} | more))


def row_id(manager: TokenManager) -> str:
    return manager.get("loc").row_id


def begun(manager: TokenManager) -> LoginBegun:
    return manager.begin_login(row_id(manager), CALLBACK)


def agreed(login: LoginBegun) -> str:
    """The query with which the person comes back."""
    return urlsplit(sent_back(login.address)).query


def token_calls(world: World) -> int:
    return sum("response_type" not in dict(request.query) for request in world.oauth.requests)


def noted(world: World) -> list[tuple[str, str]]:
    """What the security log has, and how each ended."""
    [log] = (world.program.home / "state").glob("*/security.log")
    return [(line["event"], line["outcome"]) for line in map(json.loads, log.read_text().splitlines())]


def failed(act: Callable[[], object], kind: str) -> str:
    """The words of the error that it ends with."""
    with pytest.raises((MisconfiguredError, LoginAgainError, RetryLaterError, NoSuchTokenError)) as caught:
        act()
    assert caught.value.kind == kind, caught.value
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    return str(caught.value)


# Begun and ended


def test_a_customers_login_is_stored_in_its_row_by_another_process(google: Kept) -> None:
    world, manager = google
    login = begun(manager)
    assert login.ends_at - world.clock.now() == timedelta(minutes=10)
    with manager_of(world) as other:
        view = other.finish_login(login.content, agreed(login))
    assert (view.location_id, view.state, view.redirect_uri) == ("loc", "valid", CALLBACK)
    assert (view.workspace_name, view.connected_at) == ("Workspace", world.clock.now() if world.table is None else None)
    assert view.row_id == row_id(manager)
    assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")
    assert manager.refresh_now("loc").access_token == world.oauth.current_access("loc")
    assert (world.oauth.violations, world.journalled(), len(manager.list_tokens())) == ([], [], 1)


def test_a_begun_login_shows_nothing_but_its_address(here: Kept) -> None:
    _, manager = here
    login = begun(manager)
    query = parse_qs(urlsplit(login.address).query)
    assert (query["redirect_uri"], query["code_challenge_method"]) == ([CALLBACK], ["S256"])
    assert login.content.startswith("sealed:v1:")
    assert query["state"][0] not in repr(login)
    assert login.state_hash not in login.address


def test_a_login_may_be_repeated_by_the_same_account_and_not_by_another(google: Kept) -> None:
    world, manager = google
    for account in ("7", "7"):
        world.oauth.consent("google", location_id="loc", account=account)
        login = begun(manager)
        manager.finish_login(login.content, agreed(login))
    assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")


def test_the_login_of_another_account_is_refused_unless_the_row_is_empty(world: World) -> None:
    set_up(world, "quickbooks", CALLBACK)
    drop_realm(world)

    def log_in_as(realm: str) -> TokenView:
        login = begun(manager)
        return manager.finish_login(login.content, f"{agreed(login)}&realmId={realm}")

    with manager_of(world) as manager:
        registered(manager, "quickbooks")
        assert log_in_as("11223344").params["account"] == "11223344"
        assert log_in_as("11223344").state == "valid"
        cell = world.rows()["loc"]["encrypted_refresh"]
        words = failed(lambda: log_in_as("55667788"), "conflict")
        assert noted(world)[-1] == ("login", "conflict")
        assert "another account" in words
        assert "11223344" not in words
        manager.refresh_due()
        assert (world.rows()["loc"]["encrypted_refresh"], manager.get("loc").params["account"]) == (cell, "11223344")
        manager.delete_tokens("loc")
        manager.update(row_id(manager), is_active=True, client_secret="quickbooks secret")
        assert log_in_as("55667788").params["account"] == "55667788"
        assert [event for event, _ in noted(world)] == ["register", *["login"] * 3, "delete", "update", "login"]


def test_without_a_redirect_uri_of_its_own_a_row_takes_the_callers(world: World) -> None:
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager, redirect_uri="")
        login = begun(manager)
        assert manager.finish_login(login.content, agreed(login)).state == "valid"


def test_a_provider_that_gets_its_scopes_at_each_refresh_gets_those_of_the_login(world: World) -> None:
    set_up(world, "microsoft", CALLBACK)
    with manager_of(world) as manager:
        registered(manager, "microsoft", provider_params={"scope": "Mail.Read"})
        login = begun(manager)
        [asked] = parse_qs(urlsplit(login.address).query)["scope"]
        assert asked.split() == ["offline_access", "Mail.Read"]
        assert manager.finish_login(login.content, agreed(login)).params["scope"] == asked


@pytest.mark.parametrize("settings", ["", "calendar"])
def test_a_login_again_asks_for_what_the_settings_say_or_the_login_before_was_granted(
    world: World, settings: str
) -> None:
    """As of a client that somebody added at a terminal, with scopes that no setting names."""
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager)
        assert manager.finish_login((first := begun(manager)).content, agreed(first)).state == "valid"
        granted = world.rows()["loc"]["scopes"]
    world.program.settings |= {"GOOGLE_SCOPE": settings} if settings else {}
    with manager_of(world) as manager:
        [asked] = parse_qs(urlsplit(begun(manager).address).query)["scope"]
    assert granted == "email"
    assert asked == ("https://www.googleapis.com/auth/calendar" if settings else granted)


# Not begun


def test_a_row_with_another_redirect_uri_is_not_logged_into(here: Kept) -> None:
    _, manager = here
    words = failed(lambda: manager.begin_login(row_id(manager), "https://other.example/callback"), "conflict")
    assert CALLBACK in words


def test_a_provider_without_a_login_is_named(world: World) -> None:
    with manager_of(world) as manager:
        view = registered(manager, "acme", client_id="app-acme")
        assert "has no login" in failed(lambda: manager.begin_login(view.row_id, CALLBACK), "conflict")


def test_a_disabled_client_is_neither_begun_nor_ended(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    manager.finish_login(login.content, agreed(login))
    login = begun(manager)
    query = agreed(login)
    manager.update(row_id(manager), is_active=False)
    asked = token_calls(world)
    failed(lambda: begun(manager), "disabled")
    failed(lambda: manager.finish_login(login.content, query), "disabled")
    assert token_calls(world) == asked


def test_a_row_that_is_not_there_is_not_logged_into(here: Kept) -> None:
    _, manager = here
    login = begun(manager)
    query = agreed(login)
    manager.delete(row_id(manager))
    failed(lambda: manager.begin_login("1", CALLBACK), "not_found")
    failed(lambda: manager.finish_login(login.content, query), "not_found")
    manager.register("another", "acme", client_id="app-acme", client_secret="acme secret")  # and has the same id
    failed(lambda: manager.finish_login(login.content, query), "conflict")


# Not ended


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda query: f"{query}&state=x", "names something twice"),
        (lambda query: query.replace("state=", "state=x"), "answers another login"),
        (lambda query: query.partition("state=")[0].rstrip("&"), "has no state"),
        (lambda query: query.replace("iss=", "no_iss="), "has to name itself"),
        (lambda query: query.replace("code=", "no_code="), "neither a code nor an error"),
        (lambda query: "", "has no state"),
    ],
)
def test_a_callback_that_is_not_this_logins_sends_nothing(here: Kept, edit: Callable[[str], str], words: str) -> None:
    world, manager = here
    login = begun(manager)
    query = agreed(login)
    assert words in failed(lambda: manager.finish_login(login.content, edit(query)), "usage")
    assert token_calls(world) == 0
    assert manager.finish_login(login.content, query).state == "valid"  # it went on waiting


def test_a_callback_that_comes_late_is_refused(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    query = agreed(login)
    world.clock.advance(601)
    assert "ten minutes" in failed(lambda: manager.finish_login(login.content, query), "usage")


def test_who_says_no_and_a_refused_code_leave_nothing_and_show_no_code(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    state = parse_qs(urlsplit(login.address).query)["state"][0]
    no = f"error=access_denied&state={state}&iss=https%3A%2F%2Faccounts.google.com"
    assert "access_denied" in failed(lambda: manager.finish_login(login.content, no), "login_needed")
    login = begun(manager)
    query = agreed(login)
    world.oauth.fail(faults.refused("invalid_grant", f"bad {parse_qs(query)['code'][0]}"))
    words = failed(lambda: manager.finish_login(login.content, query), "login_needed")
    assert parse_qs(query)["code"][0] not in words
    assert (world.journalled(), manager.get("loc").has_credential) == ([], False)


def test_a_login_that_was_begun_for_another_client_is_not_ended(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    query = agreed(login)
    manager.update(row_id(manager), client_id="another")
    failed(lambda: manager.finish_login(login.content, query), "conflict")
    assert token_calls(world) == 0


def test_a_client_that_is_deleted_while_its_code_is_exchanged_stays_deleted(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    query = agreed(login)
    client = row_id(manager)

    def delete() -> None:
        with manager_of(world) as other:
            other.delete(client)

    world.oauth.fail(meanwhile(delete))
    assert "was deleted meanwhile" in failed(lambda: manager.finish_login(login.content, query), "conflict")
    assert manager.refresh_due().due == 0
    assert manager.list_tokens() == []


def test_content_that_no_key_opens_says_log_in_again(here: Kept) -> None:
    _, manager = here
    login = begun(manager)
    broken = login.content[:-8] + "AAAAAAAA"
    failed(lambda: manager.finish_login(broken, agreed(login)), "login_needed")


# Kept


@pytest.mark.parametrize(
    ("point", "is_stored"),
    [(Point.SENT, False), (Point.ACTED, False), (Point.KEPT, True), (Point.WRITTEN, True)],
)
def test_a_login_that_is_killed_is_stored_by_the_next_run_or_its_row_waits_on(
    world: World, point: Point, is_stored: bool
) -> None:
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager)
        begin = begun(manager)
    query = agreed(begin)

    def act(context: RunContext) -> tuple[Kind, ...]:
        [row] = context.store.store.find("loc")
        attempt = BegunLogin.opened(begin.content, context.store).attempt(row, context.job_factory, context.store)
        resume_admission(context, exchange_row_login(context, attempt, query))
        return ()

    struck(world, point, Fate.KILL, act)
    assert len(world.journalled()) == 1
    world.clock.advance(1)
    with manager_of(world) as manager:
        manager.refresh_due()
        view = manager.get("loc")
        assert (view.has_credential, view.workspace_name, world.journalled()) == (is_stored, "Workspace", [])
        if is_stored:
            assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")


def test_a_login_whose_run_lock_is_held_waits_in_the_journal_for_the_next_run(airtable_world: World) -> None:
    world = airtable_world
    set_up(world, "google", CALLBACK)
    with manager_of(world) as manager:
        registered(manager)
        login = begun(manager)
        query = agreed(login)
        [folder] = [path for path in (world.program.home / "state").iterdir() if path.is_dir()]
        with run_lock(folder, world.clock):
            words = failed(lambda: manager.finish_login(login.content, query), "retry_later")
        assert "logged in, and not stored yet" in words
        assert not manager.get("loc").has_credential
        manager.refresh_due()
        assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")


@pytest.mark.long
def test_a_login_that_waits_while_another_is_stored_does_not_replace_that_one(airtable_world: World) -> None:
    world = airtable_world
    set_up(world, "google", CALLBACK)
    with manager_of(world) as other, ExitStack() as held:

        def store_another() -> None:
            if left and world.clock.slept > 5:  # for the lock, and not for the pace of Airtable
                left.pop()()
                token = world.oauth.grant("google", "app-google", location_id="loc")
                other.store_tokens("loc", "google", client_secret="google secret", refresh_token=token)

        registered(other)
        login = begun(other)
        query = agreed(login)
        [folder] = [path for path in (world.program.home / "state").iterdir() if path.is_dir()]
        held.enter_context(run_lock(folder, world.clock))
        left = [held.close]
        with manager_of(world, Meanwhile(world.clock, store_another)) as manager:
            words = failed(lambda: manager.finish_login(login.content, query), "row")
        assert "loc has another credential" in words
        other.refresh_due()
        assert other.get_valid_access_token("loc") == world.oauth.current_access("loc")


def test_a_login_whose_store_goes_away_behind_the_exchange_is_stored_by_the_next_run(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    query = agreed(login)

    def away(*_: object) -> None:
        raise StoreUnavailableError("the database cannot be used", "Wait.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("token_refresh.stores.database.store.DatabaseStore.write", away)
        assert "the next run stores them" in failed(lambda: manager.finish_login(login.content, query), "retry_later")
    assert len(world.journalled()) == 1
    manager.refresh_due()
    assert (world.journalled(), manager.get("loc").state) == ([], "valid")
    assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")


def test_a_run_that_refreshes_the_row_meanwhile_costs_the_login_nothing(here: Kept) -> None:
    world, manager = here
    login = begun(manager)
    manager.finish_login(login.content, agreed(login))
    login = begun(manager)
    query = agreed(login)
    manager.refresh_now("loc")
    manager.finish_login(login.content, query)
    assert manager.get_valid_access_token("loc") == world.oauth.current_access("loc")
    assert manager.refresh_now("loc").access_token == world.oauth.current_access("loc")


def test_a_loop_goes_on_while_a_login_is_ended(here: Kept) -> None:
    world, manager = here

    async def both() -> TokenView:
        async with AsyncTokenManager(manager) as loop_manager:
            view, _ = await loop_manager.page(1, q="loc")
            login = await loop_manager.begin_login(view[0].row_id, CALLBACK)
            ended = await loop_manager.finish_login(login.content, agreed(login))
            assert await loop_manager.find(ended.row_id) == ended
            assert (await loop_manager.counts())["valid"] == 1
            assert (await loop_manager.refresh_now("loc")).row_id == ended.row_id
            changed = await loop_manager.update(ended.row_id, workspace_name="new")
            await loop_manager.delete(changed.row_id)
            made = await loop_manager.register("new", "acme", client_id="app-acme", client_secret="acme secret")
            with pytest.raises(NoSuchTokenError):
                await loop_manager.revoke(made.row_id)
            return changed

    assert asyncio.run(both()).workspace_name == "new"
    assert world.oauth.violations == []
