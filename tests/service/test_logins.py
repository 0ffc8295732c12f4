"""A customer's login through the service: what leads to it, who may end it, and what is shown of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.conftest import World
from tests.refresh.runs.faults_world import PostgresRows, SqliteRows
from tests.service.server import Browser, ServiceServer
from tests.service.test_page import Operator

pytestmark = pytest.mark.by_turns("server")

BAD_LINK = "link does not work"
REFUSES_TOKENS = """
CREATE TRIGGER refuses BEFORE UPDATE OF encrypted_refresh ON credentials BEGIN SELECT RAISE(ABORT, 'no'); END
"""
JSON = {"Accept": "application/json"}


def query_of(link: str) -> str:
    """`link=…` of a link."""
    return urlsplit(link).query


def begin(server: ServiceServer, browser: Browser, link: str, row_id: int = 1) -> str:
    """The callback that a login through this link leads to."""
    return browser.consent(browser.to_provider(f"/oauth/login/{row_id}?{query_of(link)}"))


def test_a_customer_sees_who_asks_for_what_and_is_connected_in_two_steps(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    page = browser.get(server.link())
    assert page.status_code == 200
    assert all(word in page.text for word in ("127.0.0.1", "Google", "Company loc"))
    [address] = [line.partition('href="')[2].partition('"')[0] for line in page.text.splitlines() if "primary" in line]
    done = browser.log_in(address)
    assert (done.status_code, "Google is connected" in done.text) == (200, True)
    assert server.world.oauth.is_live(server.call("GET", "/tokens/loc", server.admin).json()["access_token"])


def test_opening_a_link_spends_nothing_and_storing_tokens_does(server: ServiceServer) -> None:
    server.register()
    link = server.link()
    for _ in range(3):  # mail programs, and the customer
        assert Browser(server).get(link).status_code == 200
        assert server.call("HEAD", link.removeprefix(server.url)).status_code == 200
    assert Browser(server).log_in(f"/oauth/login/1?{query_of(link)}").status_code == 200
    again = Browser(server).get(link)
    assert (again.status_code, BAD_LINK in again.text) == (403, True)


def test_a_link_is_spent_by_a_login_whose_tokens_wait_for_the_table(world: World) -> None:
    """Else whoever has it could log in once more, when the next run has stored them."""
    table = SqliteRows(world)
    with ServiceServer(world) as server:
        server.register()
        link, browser = server.link(), Browser(server)
        callback = begin(server, browser, link)
        with closing(sqlite3.connect(table.address().removeprefix("sqlite:///"))) as database:
            database.execute(REFUSES_TOKENS)
            browser.get(callback)
            assert "next run stores them" in browser.get("/auth/done").text
            database.execute("DROP TRIGGER refuses")
        assert [entry["step"] for entry in world.journalled()] == ["answered"]
        assert Browser(server).get(link).status_code == 403
    world.program.run()
    assert table.is_current("loc")


def test_a_login_that_was_refused_leaves_the_link_as_it_was(server: ServiceServer) -> None:
    server.register()
    link, browser = server.link(), Browser(server)
    state = parse_qs(urlsplit(browser.to_provider(f"/oauth/login/1?{query_of(link)}")).query)["state"][0]
    browser.get(f"/auth/callback?error=access_denied&state={state}&iss=https://accounts.google.com")
    said = browser.get("/auth/done", headers=JSON)
    assert (said.status_code, said.json()["code"]) == (401, "login_needed")
    assert "access_denied" in said.json()["message"]
    assert "access_denied" in browser.get("/auth/done").text
    assert browser.log_in(f"/oauth/login/1?{query_of(link)}").status_code == 200


def test_a_link_says_by_itself_which_client_it_is_for(server: ServiceServer) -> None:
    server.register()
    server.register("other")
    server.world.oauth.consent("google", location_id="loc")
    link = query_of(server.link())
    assert "Company loc" in Browser(server).log_in(f"/auth/login?{link}").text
    assert server.call("GET", "/tokens/other", server.admin).status_code == 401


def test_who_is_signed_in_and_may_change_clients_logs_in_without_a_link(server: ServiceServer) -> None:
    row_id = server.register()["client_id"]
    address = server.call("GET", "/auth/token?location=loc", server.admin).json()["login_url"]
    for scopes, is_allowed in (("read", "tokens"), False), (("read", "clients"), True):
        operator, browser = Operator(server), Browser(server)
        operator.sign_in(server.key(*scopes))
        browser.session.cookies.update(operator.session.cookies)
        for where in (address, f"/oauth/login/{row_id}"):
            status = browser.log_in(where).status_code if is_allowed else browser.get(where).status_code
            assert status == (200 if is_allowed else 403)
    assert server.call("GET", "/tokens/loc", server.admin).status_code == 200


def test_without_a_public_address_there_is_no_link(world: World) -> None:
    with ServiceServer(world, PUBLIC_URL="", HOST="0.0.0.0", ALLOW_PLAIN_HTTP="yes") as server:
        server.register()
        said = server.call("POST", "/links", server.admin, json={"branch_id": "loc"})
        assert (said.status_code, said.json()["message"]) == (500, "PUBLIC_URL is not set")


BAD_LINKS: dict[str, Callable[[ServiceServer, str], str]] = {
    "none": lambda server, link: "/connect",
    "empty": lambda server, link: "/connect?link=",
    "unknown": lambda server, link: "/connect?link=" + "A" * 43,
    "cut off": lambda server, link: link[:-1],
    "another client's": lambda server, link: f"/oauth/login/2?{query_of(link)}",
    "another location's": lambda server, link: f"/auth/login?location=other&{query_of(link)}",
    "of a client that there is not": lambda server, link: f"/oauth/login/99?{query_of(link)}",
    "no link at all": lambda server, link: "/oauth/login/1",
    "no link for a location": lambda server, link: "/auth/login?location=loc",
    "no link for a location that there is not": lambda server, link: "/auth/login?location=nowhere",
}


@pytest.mark.by_turns("server", "name")
@pytest.mark.parametrize("name", BAD_LINKS)
def test_every_bad_link_is_the_same_403(server: ServiceServer, name: str) -> None:
    server.register()
    server.register("other")
    address = BAD_LINKS[name](server, server.link())
    page, said = Browser(server).get(address), server.call("GET", address.removeprefix(server.url), headers=JSON)
    assert (page.status_code, said.status_code, said.json()["code"]) == (403, 403, "forbidden")
    assert page.headers["Content-Type"].startswith("text/html")


def test_a_link_ends_by_its_time(server: ServiceServer) -> None:
    server.register()
    link = server.link(expires="90s")
    browser = Browser(server)
    begun = browser.to_provider(f"/oauth/login/1?{query_of(link)}")
    server.world.clock.advance(91)
    assert browser.get(link).status_code == 403
    assert browser.get(browser.consent(begun)).status_code == 303
    assert browser.get("/auth/done").status_code == 403  # also for whoever was at the provider meanwhile


def test_a_link_ends_with_its_client_also_where_another_gets_its_number(server: ServiceServer) -> None:
    server.register()
    link = server.link()
    assert server.call("DELETE", "/clients/1", server.admin).status_code == 200
    made = server.register("other")
    assert made["client_id"] in (1, 2)
    assert Browser(server).get(link).status_code == 403


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_link_does_not_open_what_somebody_made_of_its_row_in_the_table(
    server: ServiceServer, is_deleted: bool
) -> None:
    server.register()
    link = server.link()
    rows = (PostgresRows if "DATABASE_URL" in server.world.program.settings else SqliteRows)(server.world)
    if is_deleted:
        rows.remove("loc")
    else:
        rows.edit("loc", location_id="other")
    page = Browser(server).get(link)
    assert (page.status_code, BAD_LINK in page.text) == (403, True)


def test_of_two_logins_through_one_link_only_the_first_is_stored(server: ServiceServer) -> None:
    server.register()
    link, first, second = server.link(), Browser(server), Browser(server)
    addresses = [(one, begin(server, one, link)) for one in (first, second)]
    results = []
    for browser, address in addresses:
        browser.get(address)
        results.append(browser.get("/auth/done").status_code)
    assert results == [200, 403]


def test_a_callback_in_another_browser_is_not_taken_and_the_login_goes_on(server: ServiceServer) -> None:
    """Somebody begins a login and has another person agree: what that brings is not stored."""
    server.register()
    attacker, victim = Browser(server), Browser(server)
    callback = begin(server, attacker, server.link())
    for browser in (victim, Browser(server)):
        browser.get(callback)
        said = browser.get("/auth/done", headers=JSON)
        assert (said.status_code, said.json()["code"]) == (400, "usage")
    assert server.call("GET", "/tokens/loc", server.admin).status_code == 401
    attacker.get(callback)
    assert attacker.get("/auth/done").status_code == 200


def test_a_cookie_that_somebody_planted_is_not_taken_over(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    browser.session.cookies.set("login-0123456789abcdef", "planted")
    callback = begin(server, browser, server.link())
    named = {cookie.name: cookie.value for cookie in browser.session.cookies if cookie.name.startswith("login-")}
    assert "planted" not in {value for name, value in named.items() if name != "login-0123456789abcdef"}
    other = Browser(server)
    other.session.cookies.set("login-0123456789abcdef", "planted")
    other.get(callback)
    assert other.get("/auth/done").status_code == 400


def test_a_callback_is_taken_once(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    callback = begin(server, browser, server.link())
    kept = browser.session.cookies.copy()
    browser.get(callback)
    assert browser.get("/auth/done").status_code == 200
    browser.session.cookies = kept
    browser.get(callback)
    assert browser.get("/auth/done").status_code == 400
    assert len([one for one in server.world.oauth.requests if "code=" in one.body.decode()]) == 1


@pytest.mark.parametrize(
    "query",
    ["", "code=x", "state=", "code=x&state=y", "code=x&state=y&state=z", "error=access_denied", "code=%00&state=%ff"],
)
def test_a_callback_of_no_login_is_said_to_be_none(server: ServiceServer, query: str) -> None:
    browser = Browser(server)
    back = browser.get(f"/auth/callback?{query}")
    assert (back.status_code, back.headers["Location"], back.text) == (303, "/auth/done", "")
    said = browser.get("/auth/done", headers=JSON)
    assert (said.status_code, said.json()["code"]) == (400, "usage")


def test_a_login_that_took_too_long_is_not_stored(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    callback = begin(server, browser, server.link())
    server.world.clock.advance(timedelta(minutes=10, seconds=1).total_seconds())
    browser.get(callback)
    assert browser.get("/auth/done").status_code == 400


def test_an_answer_of_another_provider_is_not_taken(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    callback = begin(server, browser, server.link())
    parts = urlsplit(callback)
    members = {name: value for name, [value] in parse_qs(parts.query).items()} | {"iss": "https://attacker.example"}
    browser.get(requests.Request("GET", f"{server.url}/auth/callback", params=members).prepare().url or "")
    said = browser.get("/auth/done", headers=JSON)
    assert (said.status_code, said.json()["code"]) == (400, "usage")
    assert not [one for one in server.world.oauth.requests if "code=" in one.body.decode()]


def test_a_client_with_another_redirect_uri_cannot_log_in_here(server: ServiceServer) -> None:
    server.register(redirect_uri="https://elsewhere.example/callback")
    said = Browser(server).get(f"/oauth/login/1?{query_of(server.link())}", headers=JSON)
    assert (said.status_code, said.json()["code"]) == (409, "conflict")
    assert "https://elsewhere.example/callback" in said.json()["message"]


def test_two_logins_in_two_tabs_both_come_to_their_end(server: ServiceServer) -> None:
    server.register()
    server.register("other")
    browser = Browser(server)
    server.world.oauth.consent("google", location_id="loc")
    first = begin(server, browser, server.link())
    server.world.oauth.consent("google", location_id="other")
    second = begin(server, browser, server.link("other"), 2)
    for callback, name in ((second, "Company other"), (first, "Company loc")):
        browser.get(callback)
        assert name in browser.get("/auth/done").text


def test_logging_in_again_replaces_the_tokens(server: ServiceServer) -> None:
    server.connect()
    before = server.call("GET", "/tokens/loc", server.admin).json()["access_token"]
    assert Browser(server).log_in(f"/oauth/login/1?{query_of(server.link())}").status_code == 200
    assert server.call("GET", "/tokens/loc", server.admin).json()["access_token"] != before


def test_the_way_of_a_login_leaves_neither_code_nor_state_nor_token_behind(server: ServiceServer) -> None:
    server.register()
    browser = Browser(server)
    link = server.link()
    address = browser.to_provider(f"/oauth/login/1?{query_of(link)}")
    [state], [challenge] = (parse_qs(urlsplit(address).query)[name] for name in ("state", "code_challenge"))
    callback = browser.consent(address)
    [code] = parse_qs(urlsplit(callback).query)["code"]
    browser.get(callback)
    shown = [browser.get("/auth/done"), browser.get("/auth/done", headers=JSON)]
    kept = [*shown[0].headers.values(), *(cookie.value or "" for cookie in browser.session.cookies)]
    for text in (shown[0].text, shown[1].text, *kept):
        assert not [secret for secret in (state, code, challenge, *server.world.oauth.access_tokens) if secret in text]


def test_behind_tls_cookies_are_for_this_host_alone(server: ServiceServer) -> None:
    made = server.service.settings
    secure = replace(made, service=made.service._replace(public_url="https://tokens.example"))
    server.register()
    link = server.link()
    server.service.settings = secure
    assert server.call(
        "PATCH", "/clients/1", server.admin, json={"redirect_uri": "https://tokens.example/auth/callback"}
    ).ok
    begun = Browser(server).get(f"/oauth/login/1?{query_of(link)}")
    [cookie] = begun.headers["Set-Cookie"].splitlines()
    assert cookie.startswith("__Host-login-")
    assert all(part in cookie for part in ("; HttpOnly", "; Path=/", "; SameSite=lax", "; Secure"))
    assert "Domain" not in cookie


def test_nothing_is_shown_to_a_browser_that_has_not_logged_in(server: ServiceServer) -> None:
    assert Browser(server).get("/auth/done").status_code == 404
    browser = Browser(server)
    browser.session.cookies.set("login-result", "forged")
    assert browser.get("/auth/done").status_code == 404
