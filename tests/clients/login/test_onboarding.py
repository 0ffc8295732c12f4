"""Logins from the first question to the row: by loopback and by paste, again, of other accounts, and without end."""

from __future__ import annotations

import json
import socket
import sqlite3
import webbrowser
from contextlib import closing
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from tests import exits
from tests.clients.login.person import PASTED, LoggedIn, away, browse, logged_in, sent_back, set_up
from tests.commands.test_cli import state_folder
from tests.conftest import World
from tests.refresh.runs.faults_world import AirtableRows
from tests.world.oauth import faults
from tests.world.ports import free_port
from token_refresh.clients.login import loopback
from token_refresh.journal.lock import run_lock

__all__ = ["logged_in"]

ANY_PORT = "http://127.0.0.1/callback"


def pasted(address: str) -> str:
    return sent_back(address)


def row(world: World, location: str = "loc") -> dict[str, str]:
    return world.rows()[location]


def params(world: World, location: str = "loc") -> dict[str, str]:
    return dict(json.loads(row(world, location)["provider_params"] or "{}"))


# Where the callback comes


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_callback_comes_to_the_exact_redirect_uri(logged_in: LoggedIn, host: str) -> None:
    world = logged_in.world
    uri = f"http://{host}:{free_port()}/back/here"
    set_up(world, "google", uri)
    result = logged_in("google", browse, argv=["--redirect-uri", uri])
    assert (result.code, world.token_of("loc")) == (0, world.oauth.current("loc"))
    assert world.oauth.violations == []
    assert logged_in.token_calls() == 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_localhost_is_served_on_both_of_its_addresses(logged_in: LoggedIn, family: socket.AddressFamily) -> None:
    def browse_there(address: str) -> None:
        callback = urlsplit(sent_back(address))
        name = "127.0.0.1" if family == socket.AF_INET else "[::1]"
        host = {"Host": callback.netloc}
        page = requests.get(f"http://{name}:{callback.port}/callback?{callback.query}", headers=host, timeout=10)
        assert page.status_code in (200, 421)  # the page behind it is asked for by the number

    set_up(logged_in.world, "microsoft", "http://localhost/callback")
    assert logged_in("microsoft", browse_there).code == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_in_use_on_either_address_of_localhost_is_said_before_anybody_logs_in(
    logged_in: LoggedIn, family: socket.AddressFamily
) -> None:
    set_up(logged_in.world, "google")
    with socket.socket(family) as other:
        other.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = logged_in("google", argv=["--redirect-uri", f"http://localhost:{port}/callback"])
    assert result.code == 2
    assert f"port {port} of this machine is in use" in result.err
    assert logged_in.person.address == ""


def test_localhost_is_served_on_one_of_its_addresses_where_the_machine_lacks_the_other(
    logged_in: LoggedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loopback._ADDRESSES, "localhost", ("127.0.0.1", "2001:db8::1"))
    set_up(logged_in.world, "microsoft", "http://localhost/callback")
    assert logged_in("microsoft", browse).code == 0


def test_a_callback_may_be_pasted_while_the_loopback_waits(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "google", ANY_PORT)
    assert logged_in("google", pasted).code == 0
    assert world.token_of("loc") == world.oauth.current("loc")


def test_https_on_this_machine_is_pasted_for_nobody_serves_it_here(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "google", "https://localhost:8443/callback")
    assert logged_in("google", pasted, argv=["--redirect-uri", "https://localhost:8443/callback"]).code == 0
    assert params(logged_in.world)["redirect_uri"] == "https://localhost:8443/callback"


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/callback",
        "https://app.example/callback#x",
        "https://user@app.example/callback",
        "app.example/callback",
        "https://app.example/a b",
        "http://127.0.0.1:99999/callback",
        "http://127.0.0.1:0/callback",
    ],
)
def test_a_redirect_uri_that_cannot_be_one_is_refused_before_anybody_logs_in(logged_in: LoggedIn, uri: str) -> None:
    set_up(logged_in.world, "google")
    assert logged_in("google", argv=["--redirect-uri", uri]).code == 2
    assert (logged_in.person.address, logged_in.token_calls()) == ("", 0)


@pytest.mark.parametrize(
    ("settings", "browser", "is_started"),
    [
        ({"DISPLAY": ":0"}, "/usr/bin/firefox", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "chromium", True),
        ({}, "firefox", False),
        ({"DISPLAY": ":0"}, "/usr/bin/lynx", False),
        ({"DISPLAY": ":0"}, None, False),
    ],
    ids=["X11", "Wayland", "no display", "in the terminal", "none installed"],
)
def test_a_browser_is_started_only_where_there_is_a_display_and_never_one_in_the_terminal(
    logged_in: LoggedIn,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    browser: str | None,
    is_started: bool,
) -> None:
    opened: list[str] = []

    class Started:
        name = browser

        def open(self, address: str) -> bool:
            opened.append(address)
            return True

    def get() -> Started:
        if browser is None:
            raise webbrowser.Error
        return Started()

    monkeypatch.setattr(webbrowser, "get", get)
    set_up(logged_in.world, "google", ANY_PORT)
    logged_in.world.program.settings |= settings
    logged_in.flags = []
    assert logged_in("google", browse).code == 0
    assert opened == ([logged_in.person.address] if is_started else [])
    begins = "A browser was opened at" if is_started else "Open this address and agree"
    assert any(line.startswith(f"{begins}:\n{logged_in.person.address}") for line in logged_in.person.said)


def test_no_browser_is_started_for_a_callback_that_has_to_be_pasted(
    logged_in: LoggedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: pytest.fail("started"))
    set_up(logged_in.world, "google")
    logged_in.world.program.settings["DISPLAY"] = ":0"
    logged_in.flags = []
    assert logged_in("google", pasted, argv=["--redirect-uri", PASTED]).code == 0


# Pasted


def test_lines_that_are_not_this_logins_are_said_to_be_and_no_token_is_asked_for_until_the_right_one(
    logged_in: LoggedIn,
) -> None:
    world, calls = logged_in.world, list[int]()

    def wrong(make: str) -> object:
        def act(address: str) -> str:
            calls.append(logged_in.token_calls())
            return make.format(state=parse_qs(urlsplit(address).query)["state"][0])

        return act

    lines = [
        "",
        f"{PASTED}?code=x&state=other",
        PASTED + "?code=x&state={state}&state={state}",
        "https://evil.example/callback?code=x&state={state}",
        PASTED + "?state={state}",
        PASTED + "?code=x&state={state}&iss=https%3A%2F%2Fevil.example",
        "the-code-alone",
    ]
    set_up(world, "google")
    acts = [wrong(line) for line in lines]
    assert logged_in("google", *acts, pasted, argv=["--redirect-uri", PASTED]).code == 0  # type: ignore[arg-type]
    assert calls == [0] * len(lines)
    assert logged_in.token_calls() == 1
    said = "\n".join(logged_in.person.said)
    for sentence in ("another login", "twice", "begins with the redirect URI", "neither a code", "(iss)", "no state"):
        assert sentence in said


@pytest.mark.parametrize("is_agreed", [True, False])
def test_a_bare_code_takes_a_yes_where_pkce_binds_it(logged_in: LoggedIn, is_agreed: bool) -> None:
    def code(address: str) -> str:
        return parse_qs(urlsplit(sent_back(address)).query)["code"][0]

    def late(_: str) -> None:
        logged_in.world.clock.advance(601)

    set_up(logged_in.world, "google")
    yes = {"the_address_has_no_state": "yes"} if is_agreed else {}
    result = logged_in("google", code, late, argv=["--redirect-uri", PASTED], **yes)
    assert (result.code, logged_in.token_calls()) == ((0, 1) if is_agreed else (1, 0))


@pytest.mark.parametrize("slug", ["quickbooks", "shopify"])
def test_a_code_without_state_is_not_asked_about_where_no_pkce_binds_it(logged_in: LoggedIn, slug: str) -> None:
    def without_state(address: str) -> str:
        uri, _, query = sent_back(address).partition("?")
        return f"{uri}?{urlencode([(name, text) for name, [text] in parse_qs(query).items() if name != 'state'])}"

    def late(_: str) -> None:
        logged_in.world.clock.advance(601)

    set_up(logged_in.world, slug, shop="our-shop")
    result = logged_in(slug, without_state, late, the_address_has_no_state="yes", Shop="our-shop")
    assert (result.code, logged_in.token_calls()) == (1, 0)
    assert not any("no state" in question for question in logged_in.person.asked)


def test_the_redirect_uri_of_a_paste_is_asked_for_once_and_kept(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "gohighlevel")
    assert logged_in("gohighlevel", pasted).code == 0
    assert params(world)["redirect_uri"] == PASTED
    assert logged_in("gohighlevel", pasted, Redirect_URI="", loc_already="yes").code == 0
    assert not any(question.startswith(("Redirect URI", "Client")) for question in logged_in.person.asked)
    assert world.token_of("loc") == world.oauth.current("loc")


def test_highlevel_names_the_location_where_none_was_asked_for(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "gohighlevel", location="chosen")
    assert logged_in("gohighlevel", pasted, location="").code == 0
    assert world.token_of("chosen") == world.oauth.current("chosen")


def test_an_agency_is_named_by_its_company(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "gohighlevel", location="agency", user_type="Company", company_id="agency")
    assert logged_in("gohighlevel", pasted, location="", User_type="Company").code == 0
    assert world.token_of("agency") == world.oauth.current("agency")
    assert params(world, "agency")["user_type"] == "Company"


def test_a_login_of_another_location_is_kept_sealed_and_said_to_be_and_not_stored(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "gohighlevel", location="other")
    result = logged_in("gohighlevel", pasted)
    assert result.code == 1
    assert "the login was for other, not for loc" in result.err
    assert world.rows() == {}
    [entry] = world.journalled()
    assert (entry["step"], entry["answer"] != "") == ("superseded", True)
    world.program.run()
    assert world.rows() == {}


@pytest.mark.parametrize("is_agreed", [True, False])
def test_an_install_that_a_marketplace_began_has_no_state_and_takes_a_yes(logged_in: LoggedIn, is_agreed: bool) -> None:
    def installed(address: str) -> str:
        return sent_back(address).partition("&state=")[0]

    def late(_: str) -> None:
        logged_in.world.clock.advance(601)

    world = logged_in.world
    set_up(world, "gohighlevel")
    yes = {"the_address_has_no_state": "yes"} if is_agreed else {}
    result = logged_in("gohighlevel", installed, late, **yes)
    assert (result.code, logged_in.token_calls()) == ((0, 1) if is_agreed else (1, 0))


# What it brings


def test_bare_names_of_googles_scopes_get_their_prefix(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "google", ANY_PORT)
    logged_in("google", browse, argv=["--scope", "business.manage", "--scope", "openid", "--scope", "https://a/b"])
    [scope] = parse_qs(urlsplit(logged_in.person.address).query)["scope"]
    assert scope == "https://www.googleapis.com/auth/business.manage openid https://a/b"


@pytest.mark.parametrize(("slug", "uri"), [("google", ANY_PORT), ("microsoft", "http://localhost/callback")])
def test_the_scopes_of_the_settings_are_asked_for_and_nobody_is_asked(logged_in: LoggedIn, slug: str, uri: str) -> None:
    set_up(logged_in.world, slug, uri)
    logged_in.world.program.settings[f"{slug.upper()}_SCOPE"] = "openid Mail.Read"
    assert logged_in(slug, browse, argv=["--scope", "profile"]).code == 0
    [scope] = parse_qs(urlsplit(logged_in.person.address).query)["scope"]
    assert {one.rpartition("/")[2] for one in scope.split()} >= {"openid", "Mail.Read", "profile"}
    assert logged_in(slug, browse, loc_already="yes").code == 0
    assert not any(question.startswith("Scope") for question in logged_in.person.asked)


def test_the_scope_of_the_row_is_asked_for_again(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "microsoft", "http://localhost/callback")
    assert logged_in("microsoft", browse, argv=["--scope", "Mail.Read"]).code == 0
    assert params(logged_in.world)["scope"].split() == ["offline_access", "Mail.Read"]
    assert logged_in("microsoft", browse, loc_already="yes").code == 0
    [scope] = parse_qs(urlsplit(logged_in.person.address).query)["scope"]
    assert scope.split() == ["offline_access", "Mail.Read"]
    assert params(logged_in.world)["scope"].split() == ["offline_access", "Mail.Read"]


def test_what_the_login_before_was_granted_is_proposed(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "google", ANY_PORT)
    assert logged_in("google", browse, argv=["--scope", "business.manage"]).code == 0
    granted = row(logged_in.world)["scopes"]
    assert logged_in("google", browse, loc_already="yes").code == 0
    [scope] = parse_qs(urlsplit(logged_in.person.address).query)["scope"]
    assert scope == granted != ""


def test_a_login_without_a_refresh_token_stores_nothing_and_says_what_brings_one(logged_in: LoggedIn) -> None:
    def online(address: str) -> None:
        browse(address.replace("access_type=offline", "access_type=online"))

    set_up(logged_in.world, "google", ANY_PORT)
    result = logged_in("google", online)
    logged_in.world.oauth.violations.clear()
    assert result.code == 1
    assert "brought no refresh token" in result.err
    assert "access_type=offline and prompt=consent" in result.err
    assert (logged_in.world.rows(), logged_in.world.journalled()) == ({}, [])


def test_what_the_provider_says_of_a_refused_code_is_shown_without_the_code(logged_in: LoggedIn) -> None:
    def echo(call: faults.Call, act: faults.Act) -> object:
        form = dict(call.request.form())
        words = f"the code {form['code']} and verifier {form['code_verifier']} do not fit"
        from tests.world.http import Response

        act()
        return Response.of_json(400, {"error": "invalid_grant", "error_description": words})

    set_up(logged_in.world, "google", ANY_PORT)
    logged_in.world.oauth.fail(faults.Fault("echo", echo))  # type: ignore[arg-type]
    result = logged_in("google", browse)
    assert (result.code, "do not fit" in result.err) == (1, True)
    assert logged_in.world.journalled() == []


def test_a_code_is_sent_once_whatever_becomes_of_it(logged_in: LoggedIn) -> None:
    set_up(logged_in.world, "google", ANY_PORT)
    logged_in.world.oauth.fail(faults.acted_then_dropped(), times=9)
    result = logged_in("google", browse)
    assert (result.code, logged_in.token_calls()) == (1, 1)
    assert "Log in again" in result.err
    logged_in.world.oauth.behave()
    logged_in.world.program.run()
    assert (logged_in.world.rows(), logged_in.world.journalled()) == ({}, [])


def test_an_answer_in_a_form_that_is_not_known_is_kept_sealed_and_not_stored(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "gohighlevel")
    world.oauth.fail(faults.acted_then(faults.raw(b'{"oauth_token": "in a form that nobody knows"}')))
    result = logged_in("gohighlevel", pasted)
    assert (result.code, "the login was not completed" in result.err) == (1, True)
    [entry] = world.journalled()
    assert (entry["step"], entry["answer"] != "", world.rows()) == ("superseded", True, {})


@pytest.mark.parametrize(("location", "code"), [("loc", 0), ("", 2)])
def test_the_location_is_asked_for_where_no_flag_names_it(logged_in: LoggedIn, location: str, code: int) -> None:
    set_up(logged_in.world, "google", ANY_PORT)
    result = logged_in("google", browse, location="", Location_id=location)
    assert (result.code, set(logged_in.world.rows())) == (code, {"loc"} if location else set())
    assert ("the location id is empty" in result.err) is not bool(location)


def test_a_provider_without_a_login_is_named_before_anything_is_asked(logged_in: LoggedIn) -> None:
    result = logged_in("acme")
    assert (result.code, "has no login that could be opened" in result.err) == (2, True)
    assert logged_in.person.asked == []


# Again


@pytest.mark.parametrize("is_agreed", [True, False])
def test_a_credential_that_somebody_else_brings_meanwhile_takes_a_yes_of_its_own(
    logged_in: LoggedIn, is_agreed: bool
) -> None:
    """The person has agreed to replace the one that was there before."""
    world = logged_in.world
    set_up(world, "google")
    assert logged_in("google", pasted, argv=["--redirect-uri", PASTED]).code == 0
    theirs = world.csv_line("google", "loc")

    def onboard_then_paste(address: str) -> str:
        assert world.program.onboard("--no-check", "--replace", "--from-csv", world.program.csv(theirs)).code == 0
        return sent_back(address)

    answers = {"loc_already": "yes", **({"loc_has_another": "yes"} if is_agreed else {})}
    result = logged_in("google", onboard_then_paste, **answers)
    assert "loc has another credential. Replace it?" in logged_in.person.asked
    assert result.code == (0 if is_agreed else 1)
    assert (world.token_of("loc") == theirs[-1]) is not is_agreed
    assert [entry["step"] for entry in world.journalled()] == ([] if is_agreed else ["superseded"])


@pytest.mark.parametrize("is_agreed", [True, False])
def test_the_login_of_another_account_over_a_row_takes_a_yes_of_its_own(logged_in: LoggedIn, is_agreed: bool) -> None:
    def callback_of(realm: str) -> object:
        return lambda address: sent_back(address) + f"&realmId={realm}"

    world = logged_in.world
    set_up(world, "quickbooks")
    drop_realm(world)
    assert logged_in("quickbooks", callback_of("1")).code == 0  # type: ignore[arg-type]
    before = row(world)["encrypted_refresh"]
    answers = {"loc_already": "yes", **({"loc_holds": "yes"} if is_agreed else {})}
    result = logged_in("quickbooks", callback_of("2"), argv=["--replace"], **answers)  # type: ignore[arg-type]
    assert any("loc holds the login of 1" in question for question in logged_in.person.asked)
    assert result.code == (0 if is_agreed else 1)
    assert params(world)["account"] == ("2" if is_agreed else "1")
    assert (row(world)["encrypted_refresh"] == before) is not is_agreed
    world.program.run()
    assert params(world)["account"] == ("2" if is_agreed else "1")


@pytest.mark.parametrize("is_agreed", [True, False])
def test_the_account_of_a_login_whose_token_is_traded_is_that_of_the_first_answer(
    logged_in: LoggedIn, is_agreed: bool
) -> None:
    world = logged_in.world
    set_up(world, "instagram")
    assert logged_in("instagram", pasted).code == 0
    account = params(world)["account"]
    with closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database:
        cell = json.dumps({**params(world), "account": "another"})
        database.execute("UPDATE credentials SET provider_params = ?", (cell,))
        database.commit()
    answers = {"loc_already": "yes", **({"loc_holds": "yes"} if is_agreed else {})}
    assert logged_in("instagram", pasted, **answers).code == (0 if is_agreed else 1)
    assert f"loc holds the login of another, and this one is of {account}. Replace it?" in logged_in.person.asked
    assert params(world) == {"account": account if is_agreed else "another", "redirect_uri": PASTED}


def drop_realm(world: World) -> None:
    """The fake's own callback names no company."""
    import dataclasses

    dialects = world.oauth._world.dialects
    one = dialects["quickbooks"]
    assert one.login is not None
    login = dataclasses.replace(one.login, callback={})
    world.oauth._world.dialects["quickbooks"] = dataclasses.replace(one, login=login)


def test_a_login_again_uses_the_clients_own_id_and_secret(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "google", ANY_PORT)
    assert logged_in("google", browse).code == 0
    assert logged_in("google", browse, Client_id="wrong", Client_secret="wrong", loc_already="yes").code == 0
    assert not any(question.startswith("Client") for question in logged_in.person.asked)
    assert world.token_of("loc") == world.oauth.current("loc")


def test_a_login_goes_over_a_row_whose_tokens_do_not_open(logged_in: LoggedIn) -> None:
    world = logged_in.world
    set_up(world, "google", ANY_PORT)
    assert logged_in("google", browse).code == 0
    with closing(sqlite3.connect(world.program.home / "state/tokens.sqlite3")) as database:
        database.execute("UPDATE credentials SET encrypted_refresh = 'ot1:0011223344556677:AAAA'")
        database.commit()
    assert logged_in("google", browse, loc_already="yes").code == 0
    assert world.token_of("loc") == world.oauth.current("loc")


# Ends


def test_ten_minutes_without_anybody_end_a_login_with_exit_1(logged_in: LoggedIn) -> None:
    def late(_: str) -> None:
        logged_in.world.clock.advance(601)

    set_up(logged_in.world, "google", ANY_PORT)
    result = logged_in("google", away, late)
    assert (result.code, "within ten minutes" in result.err) == (1, True)


def test_a_no_at_the_provider_ends_a_login_with_its_words_and_exit_1(logged_in: LoggedIn) -> None:
    def refuse(address: str) -> None:
        query = parse_qs(urlsplit(address).query)
        said = urlencode({"error": "access_denied", "error_description": "not today", "state": query["state"][0]})
        assert "refused the login" in requests.get(f"{query['redirect_uri'][0]}?{said}", timeout=10).text

    set_up(logged_in.world, "google", ANY_PORT)
    result = logged_in("google", refuse)
    assert (result.code, "access_denied: not today" in result.err) == (1, True)
    assert (logged_in.token_calls(), logged_in.world.rows()) == (0, {})


def test_ctrl_c_ends_a_login_with_exit_4_and_nothing_was_asked(logged_in: LoggedIn) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    set_up(logged_in.world, "google", ANY_PORT)
    assert logged_in("google", interrupt).code == 4
    assert (logged_in.token_calls(), logged_in.world.journalled()) == (0, [])


@pytest.mark.parametrize(
    "argv",
    [
        ["--authorize", "--from-csv", "x"],
        ["--authorize", "--no-check"],
        ["--authorize", "--device", "--redirect-uri", PASTED],
        ["--authorize", "--device", "--no-browser"],
        *(["--" + name, "x"] for name in ("provider", "location", "scope", "redirect-uri")),
        ["--device"],
        ["--no-browser"],
    ],
)
def test_flags_that_contradict_each_other_end_with_exit_2(world: World, argv: list[str]) -> None:
    assert world.program.onboard(*argv).code == 2


def test_a_login_that_waits_for_a_run_that_is_active_is_said_to_be_kept(
    airtable_world: World, logged_in: LoggedIn
) -> None:
    set_up(airtable_world, "google", ANY_PORT)
    with run_lock(state_folder(airtable_world), airtable_world.clock):
        result = logged_in("google", browse)
    assert (result.code, "the login is kept, encrypted, and not stored yet" in result.err) == (exits.BUSY, True)
    airtable_world.clock.advance(200)
    airtable_world.program.run()
    assert AirtableRows(airtable_world).is_current("loc")
