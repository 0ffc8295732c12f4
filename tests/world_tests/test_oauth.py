"""The fake token endpoints: strict about requests, true about the fate of every token, bad when told to be."""

import base64
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from tests.world.oauth import DIALECTS, Dialect, OAuthServer, faults
from tests.world.oauth.dialects import GENERIC, QUIRKS
from tests.world.oauth.server import jittered

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
CLIENT, SECRET = "client-1", "s3cret:+/%25&="
REDIRECT_URI = "http://127.0.0.1/callback"
# Plain providers, and those with ways that their canned answers do not say; test_oauth_answers.py has all others.
BY_NAME = {
    dialect.name: dialect
    for dialect in DIALECTS
    if dialect in GENERIC or (dialect.name in QUIRKS and dialect.grant == "refresh_token")
}


class Clock:
    """Unix seconds that move when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock):
    with OAuthServer(clock=clock) as running:
        for name in BY_NAME:
            running.add_client(name, CLIENT, SECRET, [REDIRECT_URI])
        yield running


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def refresh(server, http):
    """Sends a correct refresh, changed as told: a parameter of None is left out."""

    def send(provider, token, headers=None, url=None, secret=SECRET, client_id=CLIENT, **changed):
        dialect = BY_NAME[provider]
        params = {"grant_type": "refresh_token", "refresh_token": token}
        params |= {name: (allowed or (REDIRECT_URI,))[0] for name, allowed in dialect.required.items()}
        auth = None
        if dialect.auth == "basic":
            auth = (quote(client_id, safe=""), quote(secret, safe=""))
        elif dialect.auth == "basic_plain":
            auth = (client_id, secret)
        else:
            params |= {"client_id": client_id} | ({"client_secret": secret} if dialect.auth == "body" else {})
        params = {name: value for name, value in (params | changed).items() if value is not None}
        body = {"json": params} if dialect.encoding == "json" else {"data": params}
        headers = {"Accept": "application/json", **(headers or {})}
        url = url or server.token_url(provider)
        return http.post(url, auth=auth, headers=headers, timeout=10, allow_redirects=False, **body)

    return send


@pytest.fixture
def grant(server, clock):
    """A grant that may be refreshed now: its provider may refuse that while the access token is young."""

    def give(provider, **facts):
        token = server.grant(provider, CLIENT, **facts)
        ripen(clock, provider)
        return token

    return give


def ripen(clock: Clock, provider: str) -> None:
    dialect = BY_NAME[provider]
    clock.now += dialect.lifetime - dialect.earliest if dialect.earliest else 0


@pytest.fixture
def whoami(server, http):
    def ask(provider, access_token):
        headers = {"Authorization": f"Bearer {access_token}"}
        return http.get(server.endpoint(provider, "whoami"), headers=headers, timeout=10)

    return ask


# A correct refresh.


@pytest.mark.parametrize("provider", BY_NAME)
def test_a_correct_refresh_brings_a_live_access_token_in_every_dialect(server, grant, refresh, whoami, provider):
    token = grant(provider, location_id="loc-1")
    answer = refresh(provider, token)
    content = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")  # RFC 6749, section 5.1
    dialect = BY_NAME[provider]
    if dialect in GENERIC:
        assert content["token_type"] == "Bearer"
        assert content.get("expires_in") == (dialect.lifetime if dialect.sends_expires_in else None)
    brings = dialect.repeats_refresh_token or dialect.rotation not in ("never", "where_set", "family_where_set")
    assert ("refresh_token" in content) == brings
    assert whoami(provider, content["access_token"]).json()["location_id"] == "loc-1"
    assert server.violations == []


@pytest.mark.parametrize("provider", BY_NAME)
def test_the_chain_goes_on_with_the_token_the_server_calls_current(server, refresh, clock, provider):
    server.grant(provider, CLIENT, location_id="loc-1")
    for _ in range(3):
        ripen(clock, provider)
        before = server.current("loc-1")
        content = refresh(provider, before).json()
        assert content.get("refresh_token", before) == server.current("loc-1")
        assert content["access_token"] == server.current_access("loc-1")


def test_highlevel_tokens_are_long_and_its_answer_carries_its_own_members(server, refresh):
    token = server.grant("gohighlevel", CLIENT, location_id="loc-1")
    content = refresh("gohighlevel", token).json()
    assert 900 < len(token) < 1100
    assert token.count(".") == 2
    assert token.startswith("refresh-f1-1-")
    assert content["expires_in"] == 86_399
    assert (content["userType"], content["locationId"]) == ("Location", "loc-1")
    assert len(content["access_token"]) > 900


def test_google_keeps_its_refresh_token_and_answers_it_again_and_again(server, refresh):
    token = server.grant("google", CLIENT)
    for _ in range(3):
        assert "refresh_token" not in refresh("google", token).json()
    assert server.tokens[token].spent_at is None
    assert server.current(token) == token
    assert server.sent_twice() == [server.tokens[token]]
    assert server.replayed() == []


def test_github_answers_form_encoded_unless_json_is_asked_for(server, refresh):
    token = server.grant("github-app", CLIENT)
    answer = refresh("github-app", token, headers={"Accept": "*/*"})
    assert answer.headers["Content-Type"].startswith("application/x-www-form-urlencoded")
    assert parse_qs(answer.text)["refresh_token"] == [server.current(token)]


def test_any_accept_header_is_tolerated(server, refresh):
    token = server.grant("acme", CLIENT)
    assert refresh("acme", token, headers={"Accept": "text/html"}).status_code == 200


# Rotation.


@pytest.mark.parametrize("provider", ["acme", "acme-basic", "acme-json", "acme-public", "gitlab"])
def test_a_single_use_token_is_refused_the_second_time_and_its_successor_lives(server, refresh, provider):
    token = server.grant(provider, CLIENT)
    newer = refresh(provider, token).json()
    assert refresh(provider, token).status_code == 400
    assert server.current(token) == newer["refresh_token"]
    assert server.is_live(newer["access_token"])
    assert refresh(provider, newer["refresh_token"]).status_code == 200


@pytest.mark.parametrize("provider", ["acme-family", "keycloak"])
def test_a_spent_token_sent_again_takes_its_whole_family_along(server, refresh, whoami, provider):
    token = server.grant(provider, CLIENT)
    newer = refresh(provider, token).json()
    assert refresh(provider, token).json()["error"] == "invalid_grant"
    assert refresh(provider, newer["refresh_token"]).json()["error"] == "invalid_grant"
    assert whoami(provider, newer["access_token"]).status_code == 401
    assert server.tokens[newer["refresh_token"]].revoked_why == "a spent refresh token of its family was sent again"
    with pytest.raises(LookupError):
        server.current(token)


def test_another_family_outlives_a_reuse(server, refresh):
    one, other = server.grant("acme-family", CLIENT), server.grant("acme-family", CLIENT)
    refresh("acme-family", one)
    refresh("acme-family", one)
    assert refresh("acme-family", other).status_code == 200


def test_within_the_grace_an_old_token_brings_another_pair_and_after_it_none(server, refresh, clock):
    token = server.grant("acme-grace", CLIENT)
    first = refresh("acme-grace", token).json()
    clock.now += 60
    second = refresh("acme-grace", token).json()
    assert second["refresh_token"] not in (token, first["refresh_token"])
    assert server.tokens[token].successors == [first["refresh_token"], second["refresh_token"]]
    clock.now += 0.5  # the grace runs from the first use
    assert refresh("acme-grace", token).json()["error"] == "invalid_grant"
    assert refresh("acme-grace", first["refresh_token"]).status_code == 200


def test_microsoft_never_revokes_the_old_token_before_its_own_end(server, refresh, clock):
    token = server.grant("microsoft", CLIENT)
    refresh("microsoft", token)
    clock.now += 89 * 86_400
    assert refresh("microsoft", token).status_code == 200
    clock.now += 86_400
    assert refresh("microsoft", token).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("use", ["refresh_token", "access_token"])
def test_until_the_new_pair_is_used_the_old_one_stays(server, refresh, whoami, use):
    token = server.grant("acme-until-used", CLIENT)
    old_access = server.current_access(token)
    refresh("acme-until-used", token)
    newer = refresh("acme-until-used", token).json()  # the first answer was lost
    assert server.is_live(old_access)
    if use == "refresh_token":
        assert refresh("acme-until-used", newer["refresh_token"]).status_code == 200
    else:
        assert whoami("acme-until-used", newer["access_token"]).status_code == 200
    assert refresh("acme-until-used", token).json()["error"] == "invalid_grant"
    assert server.tokens[token].revoked_why == "its successor was used"
    assert not server.is_live(old_access)


def test_an_old_access_token_that_does_not_die_outlives_the_use_of_the_new_pair(clock, http):
    with OAuthServer([Dialect("mild", rotation="until_used")], clock=clock) as server:
        server.add_client("mild", CLIENT, SECRET)
        token = server.grant("mild", CLIENT)
        old_access = server.current_access(token)
        for _ in range(2):
            assert http.post(server.token_url("mild"), data=correct_form(server.current(token))).status_code == 200
        assert server.tokens[token].revoked_at == NOW
        assert server.is_live(old_access)


@pytest.mark.parametrize("provider", BY_NAME)
def test_the_old_access_token_dies_with_the_refresh_only_where_the_dialect_says_so(server, grant, refresh, provider):
    token = grant(provider)
    old = server.current_access(token)
    refresh(provider, token)
    dies = BY_NAME[provider].access_token_dies and BY_NAME[provider].rotation not in ("until_used", "grace")
    assert server.is_live(old) is not dies


def test_after_atlassians_ten_minutes_both_old_tokens_are_dead(server, refresh, clock):
    token = server.grant("atlassian", CLIENT)
    old = server.current_access(token)
    first = refresh("atlassian", token).json()
    clock.now += 599
    second = refresh("atlassian", token).json()
    assert server.is_live(old)
    clock.now += 2
    dead = refresh("atlassian", token)
    assert (dead.status_code, dead.json()["error_description"]) == (403, "Unknown or invalid refresh token.")
    assert not server.is_live(old)
    assert server.is_live(first["access_token"])
    assert server.is_live(second["access_token"])


def test_quickbooks_changes_its_refresh_token_once_a_day(server, refresh, clock):
    token = server.grant("quickbooks", CLIENT)
    for _ in range(23):
        clock.now += 3600
        assert refresh("quickbooks", token).json()["refresh_token"] == token
    clock.now += 3600
    newer = refresh("quickbooks", token).json()["refresh_token"]
    assert newer == server.current(token) != token
    assert refresh("quickbooks", token).json() == {"error": "invalid_grant"}
    assert server.replayed() == [server.tokens[token]]


def test_salesforce_rotates_only_where_the_app_is_set_so(server, refresh):
    steady, rotating = server.grant("salesforce", CLIENT), server.grant("salesforce", CLIENT, rotates=True)
    for _ in range(2):
        content = refresh("salesforce", steady).json()
        assert "refresh_token" not in content
        assert "expires_in" not in content
        assert content["issued_at"] == str(int(NOW * 1000))
    assert refresh("salesforce", rotating).json()["refresh_token"] == server.current(rotating) != rotating
    again = refresh("salesforce", rotating)
    assert (again.status_code, again.json()["error_description"]) == (400, "expired access/refresh token")


def test_exact_online_refuses_a_refresh_before_the_last_half_minute(server, refresh, clock):
    token = server.grant("exact-online", CLIENT)
    clock.now += 569
    early = refresh("exact-online", token)
    assert (early.status_code, early.json()["error"]) == (400, "access_denied")
    assert server.tokens[token].spent_at is None
    clock.now += 1
    assert refresh("exact-online", token).status_code == 200
    assert refresh("exact-online", token).json()["error_description"] == "Old refresh token used."
    assert server.violations == []


def test_an_access_token_dies_at_the_end_of_its_life(server, refresh, whoami, clock):
    content = refresh("gohighlevel", server.grant("gohighlevel", CLIENT)).json()
    clock.now += 86_398
    assert whoami("gohighlevel", content["access_token"]).status_code == 200
    clock.now += 1
    answer = whoami("gohighlevel", content["access_token"])
    assert answer.status_code == 401
    assert "invalid_token" in answer.headers["WWW-Authenticate"]


def test_a_highlevel_refresh_token_lives_one_year(server, refresh, clock):
    token = server.grant("gohighlevel", CLIENT)
    clock.now += 365 * 86_400
    assert refresh("gohighlevel", token).json()["message"] == "Invalid grant: refresh token is invalid"


# The fate of tokens.


def test_every_fact_of_a_tokens_life_is_kept(server, refresh, clock):
    token = server.grant("acme", CLIENT, location_id="loc-1")
    clock.now += 5
    content = refresh("acme", token).json()
    clock.now += 5
    refresh("acme", token)
    fate, newer = server.tokens[token], server.tokens[content["refresh_token"]]
    assert (fate.provider, fate.client_id, fate.family, fate.number) == ("acme", CLIENT, newer.family, 1)
    assert (fate.issued_at, fate.sent_at, fate.times_sent) == (NOW, [NOW + 5, NOW + 10], 2)
    assert (fate.spent_at, fate.successor, fate.revoked_at) == (NOW + 5, newer.value, None)
    assert (newer.number, newer.issued_at, newer.times_sent) == (2, NOW + 5, 0)
    access = server.access_tokens[content["access_token"]]
    assert (access.family, access.issued_at, access.expires_at) == (fate.family, NOW + 5, NOW + 5 + 3600)
    assert (server.sent_twice(), server.replayed()) == ([fate], [fate])


def test_a_token_sent_again_before_it_was_exchanged_is_sent_twice_but_not_replayed(server, refresh):
    token = server.grant("acme", CLIENT)
    server.fail(faults.status(503))
    assert refresh("acme", token).status_code == 503
    assert refresh("acme", token).status_code == 200
    assert server.sent_twice() == [server.tokens[token]]
    assert server.replayed() == []


def test_a_revoked_grant_is_dead_and_says_why(server, refresh):
    token = server.grant("google", CLIENT)
    content = refresh("google", token).json()
    server.revoke(token, why="the user changed the password")
    answer = refresh("google", token)
    assert answer.json() == {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    assert not server.is_live(content["access_token"])
    assert server.tokens[token].revoked_why == "the user changed the password"


def test_revoking_an_access_token_leaves_its_family_alone(server, refresh):
    token = server.grant("acme", CLIENT)
    server.revoke(server.current_access(token))
    with pytest.raises(LookupError):
        server.current_access(token)
    assert refresh("acme", token).status_code == 200


def test_grants_are_found_by_token_family_and_location_the_newest_first(server):
    server.grant("acme", CLIENT, location_id="loc-1")
    newest = server.grant("acme", CLIENT, location_id="loc-1")
    assert server.current("loc-1") == newest == server.current("f2") == server.current(newest)
    with pytest.raises(LookupError):
        server.family("nobody")
    with pytest.raises(LookupError, match="add_client"):
        server.grant("acme", "stranger")


def test_one_token_sent_by_many_at_once_is_exchanged_once(server, refresh):
    token = server.grant("acme", CLIENT)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: refresh("acme", token).status_code, range(32)))
    assert sorted(answers) == [200] + [400] * 31
    assert (server.tokens[token].times_sent, server.tokens[token].replays) == (32, 31)


# Refusals in the provider's own words.


def test_highlevel_speaks_its_own_way(server, refresh):
    token = server.grant("gohighlevel", CLIENT, location_id="loc-1")
    wrong = refresh("gohighlevel", token, secret="wrong")
    assert (wrong.status_code, wrong.json()["message"]) == (401, "Invalid client credentials!")
    unknown = refresh("gohighlevel", "nonsense")
    assert unknown.status_code == 400
    assert unknown.json() == {"statusCode": 400, "message": "Invalid grant: refresh token is invalid"}
    missing = refresh("gohighlevel", token, client_secret=None)
    assert missing.status_code == 422
    assert missing.json()["message"] == ["client_secret should not be empty"]
    assert server.tokens[token].spent_at is None


def test_highlevel_wants_the_user_type_of_the_grant(server, refresh):
    token = server.grant("gohighlevel", CLIENT, user_type="Company")
    missing = refresh("gohighlevel", token, user_type=None)
    assert (missing.status_code, missing.json()["message"]) == (400, "Missing parameter: user_type")
    odd = refresh("gohighlevel", token, user_type="location")
    assert odd.json()["message"] == ["user_type must be one of the following values: Company, Location"]
    other = refresh("gohighlevel", token, user_type="Location")
    assert (other.status_code, other.json()["message"]) == (401, "Invalid client credentials!")
    content = refresh("gohighlevel", token, user_type="Company").json()
    assert (content["userType"], content["isBulkInstallation"], "locationId" in content) == ("Company", True, False)
    assert len(server.violations) == 2


def test_a_paused_location_is_refused_and_keeps_its_token(server, refresh):
    token = server.grant("gohighlevel", CLIENT, location_id="loc-1")
    server.pause("loc-1")
    answer = refresh("gohighlevel", token)
    assert (answer.status_code, answer.json()) == (400, {"statusCode": 400, "message": "Location is not active"})
    server.resume("loc-1")
    assert refresh("gohighlevel", token).status_code == 200
    assert server.violations == []


def test_an_uninstalled_app_looks_like_wrong_credentials_at_highlevel(server, refresh):
    token, other = server.grant("gohighlevel", CLIENT), server.grant("gohighlevel", CLIENT)
    server.uninstall(token)
    answer = refresh("gohighlevel", token)
    assert (answer.status_code, answer.json()["message"]) == (401, "Invalid client credentials!")
    assert refresh("gohighlevel", other).status_code == 200


def test_google_names_the_subtype_of_a_revocation(server, refresh):
    token = server.grant("google", CLIENT)
    server.revoke(token, subtype="invalid_rapt")
    assert refresh("google", token).json()["error_subtype"] == "invalid_rapt"


def test_github_refuses_with_status_200(server, refresh):
    answer = refresh("github-app", "nonsense")
    assert (answer.status_code, answer.json()["error"]) == (200, "bad_refresh_token")
    wrong = refresh("github-app", server.grant("github-app", CLIENT), secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (200, "incorrect_client_credentials")


def test_slack_refuses_with_status_200_and_ok_false(server, refresh):
    token = server.grant("slack", CLIENT)
    assert refresh("slack", "nonsense").json() == {"ok": False, "error": "invalid_refresh_token"}
    wrong = refresh("slack", token, secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (200, "bad_client_secret")
    assert refresh("slack", token, client_id="nobody").json()["error"] == "invalid_client_id"
    server.revoke(token)
    assert refresh("slack", token).json()["error"] == "token_revoked"


@pytest.mark.parametrize(
    ("provider", "status", "member", "value"),
    [
        ("microsoft", 401, "error_codes", [7000215]),
        ("gitlab", 401, "error", "invalid_client"),
        ("zoom", 401, "reason", "Invalid client_id or client_secret"),
        ("xero", 400, "error", "invalid_client"),
        ("hubspot", 400, "status", "BAD_CLIENT_SECRET"),
        ("salesforce", 400, "error_description", "invalid client credentials"),
        ("exact-online", 401, "error", "invalid_client"),
        ("keycloak", 401, "error", "unauthorized_client"),
        ("atlassian", 401, "error", "access_denied"),
        ("quickbooks", 401, "error", "invalid_client"),
    ],
)
def test_each_provider_has_its_own_words_for_a_wrong_secret(server, refresh, provider, status, member, value):
    answer = refresh(provider, server.grant(provider, CLIENT), secret="wrong")
    assert (answer.status_code, answer.json()[member]) == (status, value)
    assert server.violations == []


def test_gitlab_wants_the_redirect_uri_of_the_grant(server, refresh):
    token = server.grant("gitlab", CLIENT, redirect_uri="https://app.example/cb")
    assert refresh("gitlab", token).json()["error"] == "invalid_grant"
    assert refresh("gitlab", token, redirect_uri="https://app.example/cb").status_code == 200


def test_a_401_for_basic_credentials_names_the_scheme(server, refresh):
    answer = refresh("acme-basic", server.grant("acme-basic", CLIENT), secret="wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")  # RFC 6749, section 5.2
    assert server.violations == []  # wrong credentials are not wrong manners


def test_a_token_belongs_to_its_client_and_its_provider(server, refresh):
    server.add_client("acme", "other", "other-secret")
    token = server.grant("acme", CLIENT)
    answer = refresh("acme", token, client_id="other", secret="other-secret")
    assert answer.json()["error"] == "invalid_grant"
    assert refresh("acme-audience", token).json()["error"] == "invalid_grant"
    assert refresh("acme", token).status_code == 200


def test_a_changed_secret_is_the_one_that_counts(server, refresh):
    token = server.grant("acme", CLIENT)
    server.add_client("acme", CLIENT, "newer")
    assert refresh("acme", token).status_code == 401
    assert refresh("acme", token, secret="newer").status_code == 200


# Violations of RFC 6749: refused, noted, and nothing is consumed.

BASIC_AUTH = "Basic " + base64.b64encode(f"{CLIENT}:{quote(SECRET, safe='')}".encode()).decode()
VIOLATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no grant_type": ("acme", {"grant_type": None}, "grant_type is missing"),
    "empty grant_type": ("acme", {"grant_type": ""}, "grant_type is missing"),
    "another grant_type": ("acme", {"grant_type": "password"}, "the grant_type is not known"),
    "no client_id": ("acme", {"client_id": None}, "client_id is missing"),
    "no client_secret": ("acme", {"client_secret": None}, "client_secret is missing"),
    "no refresh_token": ("acme", {"refresh_token": None}, "refresh_token is missing"),
    "basic where body belongs": ("acme", {"headers": {"Authorization": BASIC_AUTH}}, "in a header"),
    "secret in the body too": ("acme-basic", {"client_secret": SECRET}, "HTTP Basic"),
    "a public client with a secret": ("acme-public", {"client_secret": SECRET}, "the client sent a secret"),
    "required parameter missing": ("acme-audience", {"audience": None}, "audience is missing"),
    "required parameter wrong": ("acme-audience", {"audience": "other"}, "audience has a value"),
    "wider scope": ("acme", {"scope": "read write admin"}, "more than was granted"),
    "form where json belongs": ("acme-json", {"headers": {"Content-Type": "text/plain"}}, "the Content-Type is text/"),
    "a number in json": ("acme-json", {"client_secret": 17}, "client_secret is not a string"),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_refused_and_noted_and_consumes_nothing(server, refresh, case):
    provider, changed, sentence = VIOLATIONS[case]
    token = server.grant(provider, CLIENT, scope="read write")
    answer = refresh(provider, token, **changed)
    assert answer.status_code in (400, 401)
    assert len(server.violations) == 1
    assert server.violations[0].startswith(f"{provider}: ")
    assert sentence in server.violations[0]
    assert not any(value in server.violations[0] for value in (token, SECRET))
    assert server.current(token) == token
    assert server.tokens[token].spent_at is None
    assert refresh(provider, token).status_code == 200


def correct_form(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT, "client_secret": SECRET}


@pytest.mark.parametrize("name", ["refresh_token", "client_id", "grant_type", "unheard_of"])
def test_a_doubled_parameter_is_refused(server, http, name):
    form = correct_form(server.grant("acme", CLIENT)) | {"unheard_of": "1"}
    answer = http.post(server.token_url("acme"), data=[*form.items(), (name, form[name])])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert f"{name} came 2 times" in server.violations[0]


def test_a_doubled_member_of_a_json_body_is_refused(server, http):
    text = json.dumps(correct_form(server.grant("acme-json", CLIENT)))
    body = text[:-1] + ', "grant_type": "refresh_token"}'
    answer = http.post(server.token_url("acme-json"), data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "grant_type came 2 times" in server.violations[0]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"{", b"\xff", b"17"])
def test_a_json_body_that_is_no_object_is_refused(server, http, body):
    answer = http.post(server.token_url("acme-json"), data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert server.violations == ["acme-json: the body is no readable json"]


def test_json_where_a_form_belongs_is_refused(server, http):
    answer = http.post(server.token_url("acme"), json=correct_form(server.grant("acme", CLIENT)))
    assert answer.status_code == 400
    assert "application/x-www-form-urlencoded" in server.violations[0]


def test_another_method_than_post_is_refused(server, http):
    token = server.grant("acme", CLIENT)
    answer = http.get(server.token_url("acme"), params=correct_form(token))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert "not POST" in server.violations[0]
    assert server.tokens[token].spent_at is None


def test_parameters_in_the_query_are_refused(server, refresh):
    token = server.grant("acme", CLIENT)
    answer = refresh("acme", token, url=server.token_url("acme") + "?client_id=x")
    assert answer.status_code == 400
    assert "in the query of the URL" in server.violations[0]


def test_basic_credentials_must_be_form_encoded_and_readable(server, http):
    form = {"grant_type": "refresh_token", "refresh_token": server.grant("acme-basic", CLIENT)}
    url = server.token_url("acme-basic")
    assert http.post(url, data=form, auth=(CLIENT, SECRET)).status_code == 401  # RFC 6749, section 2.3.1
    assert server.violations == []
    for header in ("Basic ***", "Basic " + base64.b64encode(b"no-colon").decode(), "Bearer x"):
        assert http.post(url, data=form, headers={"Authorization": header}).status_code == 401
    mixed = http.post(url, data=form | {"client_id": "other"}, headers={"Authorization": BASIC_AUTH})
    assert mixed.status_code == 400
    assert len(server.violations) == 4


def test_a_narrower_scope_is_no_violation(server, refresh):
    token = server.grant("acme", CLIENT, scope="read write")
    assert refresh("acme", token, scope="read").status_code == 200
    assert server.violations == []


def test_an_unknown_parameter_is_ignored(server, refresh):
    assert refresh("acme", server.grant("acme", CLIENT), unheard_of="1").status_code == 200  # RFC 6749, section 3.2
    assert server.violations == []


# Faults.

BEFORE_ACTING = {
    "429": faults.too_many_requests(7),
    "500": faults.status(500),
    "html": faults.html(),
    "documents a token": faults.documents_token(),
    "echoes a token": faults.echoes_token(token="*" * 8),
    "redirect": faults.redirect("http://127.0.0.1:1/", 307),
    "raw": faults.raw(b'\xef\xbb\xbf{"access_token": "\\ud800"}'),
    "refused": faults.refused("invalid_grant"),
    "wrong secret": faults.wrong_secret(),
    "reset": faults.reset(),
    "hang": faults.hang(0),
}
AFTER_ACTING = {
    "dropped": faults.acted_then_dropped(),
    "cut": faults.cut(),
    "late": faults.late(0),
    "drip": faults.drip(1e-9),
    "oversized": faults.oversized(3 << 20),
    "bomb": faults.gzip_bomb(1 << 20),
    "amended": faults.amended(lambda content: json.dumps(content | {"expires_in": "86399"}).encode()),
    "acted, then 503": faults.acted_then(faults.status(503)),
    "acted, then reset": faults.acted_then(faults.reset()),
}


def sent(refresh: Callable[..., requests.Response], token: str) -> requests.Response | None:
    """The answer, or None where none came."""
    try:
        return refresh("acme", token)
    except requests.RequestException:
        return None


@pytest.mark.parametrize("name", BEFORE_ACTING)
def test_a_fault_before_acting_leaves_the_token_unspent(server, refresh, name):
    token = server.grant("acme", CLIENT)
    script = server.fail(BEFORE_ACTING[name])
    answer = sent(refresh, token)
    assert answer is None or "refresh-" not in answer.text
    assert (script.hits, server.tokens[token].spent_at, server.tokens[token].times_sent) == (1, None, 1)
    assert refresh("acme", token).status_code == 200


@pytest.mark.parametrize("name", AFTER_ACTING)
def test_a_fault_after_acting_leaves_the_token_spent(server, refresh, name):
    token = server.grant("acme", CLIENT)
    server.fail(AFTER_ACTING[name])
    sent(refresh, token)
    assert server.tokens[token].spent_at == NOW
    assert server.current(token) == server.tokens[token].successor
    assert refresh("acme", token).status_code == 400


def test_a_reset_is_a_reset_and_a_drop_is_a_silent_end(server, refresh):
    token = server.grant("acme", CLIENT)
    server.fail(faults.reset())
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        refresh("acme", token)
    server.fail(faults.acted_then_dropped())
    with pytest.raises(requests.ConnectionError, match="without response"):
        refresh("acme", token)


def test_a_cut_answer_announces_more_than_it_brings(server, refresh):
    server.fail(faults.cut(20))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="20 bytes read"):
        refresh("acme", server.grant("acme", CLIENT))


def test_a_hang_ends_with_the_server(clock, http):
    with ThreadPoolExecutor(1) as pool:
        with OAuthServer(clock=clock) as server:
            server.add_client("acme", CLIENT, SECRET)
            form = correct_form(server.grant("acme", CLIENT))
            arrived = server.fail(faults.hang())
            waiting = pool.submit(http.post, server.token_url("acme"), data=form)
            while not arrived.hits:
                assert not waiting.done()
        assert isinstance(waiting.exception(5), requests.ConnectionError)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_leads_to_another_host(server, refresh, code):
    server.fail(faults.redirect("http://elsewhere.example/token", code))
    answer = refresh("acme", server.grant("acme", CLIENT))
    assert (answer.status_code, answer.headers["Location"]) == (code, "http://elsewhere.example/token")


def test_retry_after_comes_as_seconds_or_as_a_date(server, refresh):
    token = server.grant("acme", CLIENT)
    server.fail(faults.too_many_requests(7))
    server.fail(faults.too_many_requests(faults.http_date(NOW)))
    assert refresh("acme", token).headers["Retry-After"] == "7"
    assert refresh("acme", token).headers["Retry-After"] == "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.long
def test_a_gzip_bomb_is_small_on_the_wire_and_holds_the_true_answer(server, refresh):
    token = server.grant("acme", CLIENT)
    server.fail(faults.gzip_bomb(64 << 20))
    answer = refresh("acme", token)
    assert int(answer.headers["Content-Length"]) < 1 << 20
    assert len(answer.content) > 64 << 20
    assert answer.json()["refresh_token"] == server.current(token)


def test_an_oversized_answer_is_valid_json_of_the_size_asked_for(server, refresh):
    token = server.grant("acme", CLIENT)
    server.fail(faults.oversized(3 << 20))
    answer = refresh("acme", token)
    assert len(answer.content) == 3 << 20
    assert answer.json()["refresh_token"] == server.current(token)


def test_a_raw_answer_is_sent_byte_for_byte(server, refresh):
    body = b'\xef\xbb\xbf{"expires_in": 1e400, "expires_in": -1, "access_token": "\\ud800"}' + b"[" * 9
    server.fail(faults.raw(body, 207, {"X-Odd": "yes"}))
    answer = refresh("acme", server.grant("acme", CLIENT))
    assert (answer.status_code, answer.content, answer.headers["X-Odd"]) == (207, body, "yes")


def test_a_refusal_by_fault_speaks_the_dialect(server, refresh):
    server.fail(faults.wrong_secret(), times=2)
    assert (
        refresh("gohighlevel", server.grant("gohighlevel", CLIENT)).json()["message"] == "Invalid client credentials!"
    )
    assert refresh("google", server.grant("google", CLIENT)).json()["error"] == "invalid_client"


def test_a_script_takes_the_next_n_requests_that_match(server, refresh):
    server.add_client("acme", "other", SECRET)
    one, other = server.grant("acme", CLIENT, location_id="loc-1"), server.grant("acme", "other")
    google = server.grant("google", CLIENT)
    server.fail(faults.status(500), provider="google", times=2)
    server.fail(faults.status(501), client_id="other")
    server.fail(faults.status(502), token="loc-1")
    server.fail(faults.status(503), when=lambda call: call.times_sent == 2)
    assert [refresh("acme", one).status_code for _ in range(3)] == [502, 503, 200]
    assert refresh("acme", other, client_id="other").status_code == 501
    assert [refresh("google", google).status_code for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize("selector", ["token", "family"])
def test_a_script_waits_for_one_token_or_family(server, refresh, selector):
    one, other = server.grant("acme-basic", CLIENT), server.grant("acme-basic", CLIENT)
    key = other if selector == "token" else server.tokens[other].family
    server.fail(faults.status(500), token=key, client_id=CLIENT, times=math.inf)
    assert refresh("acme-basic", one).status_code == 200
    assert refresh("acme-basic", other).status_code == 500


def test_a_period_of_faults_ends_when_it_is_asked_to(server, refresh):
    token = server.grant("acme", CLIENT)
    script = server.fail(faults.wrong_secret(), times=math.inf)
    assert {refresh("acme", token).status_code for _ in range(3)} == {401}
    script.stop()
    assert refresh("acme", token).status_code == 200
    server.fail(faults.status(500), times=math.inf)
    server.behave()
    assert refresh("acme", server.current(token)).status_code == 200


def chance_run(seed: int, workers: int) -> list[list[int]]:
    """What 10 requests of each of 20 grants meet, in `workers` threads."""
    with OAuthServer() as server, requests.Session() as http:
        server.add_client("acme-never", CLIENT, SECRET)
        tokens = [server.grant("acme-never", CLIENT) for _ in range(20)]
        server.fail_at_random({faults.status(500): 0.3, faults.status(429): 0.2}, seed=seed)

        def ask(token: str) -> list[int]:
            return [http.post(server.token_url("acme-never"), data=correct_form(token)).status_code for _ in range(10)]

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(ask, tokens))


@pytest.mark.long
def test_chance_depends_on_the_seed_and_not_on_the_order_of_threads():
    one = chance_run(1, 1)
    assert one == chance_run(1, 8)
    assert one != chance_run(2, 1)
    codes = [code for family in one for code in family]
    assert 40 <= codes.count(500) <= 80
    assert 20 <= codes.count(429) <= 60


def test_probabilities_above_one_are_an_error(server):
    with pytest.raises(ValueError, match="more than 1"):
        server.fail_at_random({faults.html(): 0.7, faults.reset(): 0.7}, seed=1)


# The other endpoints.


def asked(
    http: requests.Session, url: str, token: str, client_id: str = CLIENT, secret: str = SECRET
) -> requests.Response:
    return http.post(url, data={"token": token, "client_id": client_id, "client_secret": secret})


def test_introspection_tells_what_is_active(server, refresh, http):
    token = server.grant("acme", CLIENT, scope="read")
    url = server.endpoint("acme", "introspect")
    assert asked(http, url, token).json() == {
        "active": True,
        "client_id": CLIENT,
        "iat": int(NOW),
        "scope": "read",
    }
    access = refresh("acme", token).json()["access_token"]
    assert asked(http, url, token).json() == {"active": False}
    assert asked(http, url, access).json()["exp"] == NOW + 3600
    assert asked(http, url, "nonsense").json() == {"active": False}
    assert asked(http, url, access, secret="wrong").status_code == 401
    assert asked(http, server.endpoint("acme-never", "introspect"), access).json() == {"active": False}


@pytest.mark.parametrize("which", ["refresh", "access"])
def test_revocation_ends_the_token(server, refresh, http, which):
    token = server.grant("acme", CLIENT)
    access = server.current_access(token)
    url = server.endpoint("acme", "revoke")
    answer = asked(http, url, token if which == "refresh" else access)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not server.is_live(access)
    assert refresh("acme", token).status_code == (400 if which == "refresh" else 200)
    assert asked(http, url, "nonsense").status_code == 200  # RFC 7009, section 2.2


def test_another_client_cannot_revoke_or_introspect(server, http):
    server.add_client("acme", "other", "other")
    token = server.grant("acme", CLIENT)
    assert asked(http, server.endpoint("acme", "revoke"), token, "other", "other").status_code == 400
    assert asked(http, server.endpoint("acme", "introspect"), token, "other", "other").json() == {"active": False}
    assert server.current(token) == token


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic x", "", "Bearer"])
def test_whoami_accepts_only_a_live_bearer_token_of_its_provider(server, http, whoami, header):
    access = server.current_access(server.grant("acme", CLIENT))
    url = server.endpoint("acme", "whoami")
    assert http.get(url, headers={"Authorization": header}).status_code == 401
    assert whoami("google", access).status_code == 401
    assert whoami("acme", access).json() == {
        "provider": "acme",
        "client_id": CLIENT,
        "family": "f1",
        "location_id": None,
    }


def test_an_unknown_path_is_not_found(server, http):
    assert http.post(server.url + "/acme/tokens", data={}).status_code == 404


def test_the_report_counts(server, refresh, http):
    token = server.grant("acme", CLIENT)
    refresh("acme", token)
    refresh("acme", token, grant_type=None)
    assert http.get(server.url + "/report").json() == {
        "grants": 1,
        "token_requests": 2,
        "refresh_tokens": 2,
        "sent_twice": 1,
        "replayed": 1,
        "violations": ["acme: the parameter grant_type is missing"],
    }


# The login.

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def authorize(server, http):
    def ask(provider="acme", **changed):
        params = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": "http://127.0.0.1:4711/callback",
            "state": "st&te",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "scope": "read",
        }
        params = {name: value for name, value in (params | changed).items() if value is not None}
        return http.get(server.endpoint(provider, "authorize"), params=params, allow_redirects=False)

    return ask


@pytest.fixture
def redeem(server, http):
    def send(right_code, provider="acme", **changed):
        form = {
            "grant_type": "authorization_code",
            "code": right_code,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uri": "http://127.0.0.1:4711/callback",
            "code_verifier": VERIFIER,
        }
        form = {name: value for name, value in (form | changed).items() if value is not None}
        return http.post(server.token_url(provider), data=form)

    return send


def redirect_params(answer: requests.Response) -> dict[str, str]:
    """The parameters the browser was sent back with."""
    location = urlsplit(answer.headers["Location"])
    assert answer.status_code == 302
    assert f"{location.scheme}://{location.netloc}{location.path}" == "http://127.0.0.1:4711/callback"
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def test_a_login_brings_a_grant_that_refreshes(server, authorize, redeem, refresh):
    server.consent("acme", location_id="loc-1")
    back = redirect_params(authorize())
    assert back["state"] == "st&te"
    content = redeem(back["code"]).json()
    assert content["refresh_token"] == server.current("loc-1")
    assert server.family("loc-1").scope == {"read"}
    assert refresh("acme", content["refresh_token"]).status_code == 200
    assert server.violations == []


def test_a_code_sent_again_ends_the_grant_it_made(server, authorize, redeem):
    code = redirect_params(authorize())["code"]
    content = redeem(code).json()
    assert redeem(code).json()["error"] == "invalid_grant"
    assert not server.is_live(content["access_token"])
    assert server.violations == ["acme: a code was sent again (RFC 6749, 4.1.2)"]


def test_a_code_lives_for_a_minute(authorize, redeem, clock):
    code = redirect_params(authorize())["code"]
    clock.now += 60
    assert redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_request"),
        ({"code_verifier": None}, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:4712/callback"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code": "nonsense"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"client_secret": "wrong"}, "invalid_client"),
    ],
)
def test_a_wrong_exchange_is_refused_and_the_right_one_still_works(authorize, redeem, changed, error):
    code = redirect_params(authorize())["code"]
    assert redeem(code, **changed).json()["error"] == error
    assert redeem(code).status_code == 200


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"state": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "="}, "invalid_request"),
        ({"client_secret": SECRET}, "invalid_request"),
    ],
)
def test_a_wrong_authorization_request_is_sent_back_with_an_error(server, authorize, changed, error):
    assert redirect_params(authorize(**changed))["error"] == error
    assert len(server.violations) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "stranger"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:4711/other"},
        {"redirect_uri": ["http://127.0.0.1/callback", "http://127.0.0.1/callback"]},
        {"redirect_uri": None},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(authorize, changed):
    answer = authorize(**changed)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


def test_highlevel_logs_in_without_pkce(server, authorize, redeem):
    server.add_client("gohighlevel", CLIENT, SECRET, ["http://127.0.0.1:4711/callback"])  # it takes no other port
    server.consent("gohighlevel", location_id="loc-9")
    back = redirect_params(authorize("gohighlevel", code_challenge=None, code_challenge_method=None))
    content = redeem(back["code"], "gohighlevel", code_verifier=None, user_type="Location").json()
    assert (content["locationId"], content["userType"]) == ("loc-9", "Location")


# The server.


def test_latency_has_its_jitter_from_the_seed():
    draw, again, other = jittered(2.0, 0.5, 1), jittered(2.0, 0.5, 1), jittered(2.0, 0.5, 2)
    row = [draw() for _ in range(50)]
    assert row == [again() for _ in range(50)] != [other() for _ in range(50)]
    assert 2.0 <= min(row) < 2.1
    assert 2.4 < max(row) <= 2.5
    assert jittered(0.0, 0.0, 1)() == 0.0


def test_a_dialect_of_ones_own_is_served_at_its_own_path(clock, http):
    with OAuthServer([Dialect("mine", path="/v2/token")], clock=clock) as server:
        server.add_client("mine", CLIENT, SECRET)
        form = correct_form(server.grant("mine", CLIENT))
        assert server.token_url("mine") == f"{server.url}/mine/v2/token"
        assert http.post(server.token_url("mine"), data=form).status_code == 200


def test_a_mistake_of_the_fake_is_reported(clock, http):
    def broken(_):
        raise KeyError("oops")

    with OAuthServer([Dialect("mine", extras=broken)], clock=clock) as server:
        server.add_client("mine", CLIENT, SECRET)
        with pytest.raises(requests.ConnectionError):
            http.post(server.token_url("mine"), data=correct_form(server.grant("mine", CLIENT)))
        assert server.violations == ["mine: the fake itself failed: KeyError('oops')"]


def test_as_a_process_it_prints_one_line_and_serves_until_stdin_closes(tmp_path, http):
    entries = [{"provider": "gohighlevel", "client_id": CLIENT, "client_secret": SECRET, "location_id": "loc-1"}]
    (tmp_path / "grants.json").write_text(json.dumps(entries))
    command = [sys.executable, "-m", "tests.world.oauth", "--grants", str(tmp_path / "grants.json"), "--fail", "outage"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        (granted,) = line["grants"]
        form = correct_form(granted["refresh_token"]) | {"user_type": "Location"}
        assert http.post(granted["token_url"], data=form).status_code == 503
        assert http.post(granted["token_url"], data=form).json()["locationId"] == "loc-1"
        assert line["token_urls"]["google"].startswith(line["url"])
        assert line["providers"]["acme"] == {
            "token": f"{line['url']}/acme/token",
            "code": f"{line['url']}/acme/token",
            "authorize": f"{line['url']}/acme/authorize",
            "device": f"{line['url']}/acme/device_authorization",
            "revoke": f"{line['url']}/acme/revoke",
        }
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stdout.read() == b""
