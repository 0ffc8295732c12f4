"""What each provider of the catalogue is asked, what it answers, and what every answer means: see `answers/`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from providers import Catalog
from providers.authorization import authorization_url, code_request, scope_of
from providers.base import Answer, Credential, RawAnswer, TokenRequest, Verdict
from providers.registry import read_catalog
from providers.revocation import read_revocation, revocation_requests
from tests.providers.answers import ANSWERS, Refused
from token_refresh.base.events import Outcome
from token_refresh.refresh.result import outcome_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CATALOG = Catalog()
FAULTS = {"client": Verdict.CLIENT_REFUSED, "row": Verdict.REQUEST_REFUSED}  # whose an `operator` is

EACH = pytest.mark.parametrize("slug", ANSWERS)
OF_REFRESHED = pytest.mark.parametrize("slug", [slug for slug, answers in ANSWERS.items() if answers.grant != "none"])
OF_LOGINS = pytest.mark.parametrize("slug", [slug for slug, answers in ANSWERS.items() if answers.login])


def read(slug: str, status: int, body: str, **headers: str) -> Answer:
    return CATALOG.get(slug).read_answer(RawAnswer(status, headers, body.encode(), NOW))


def cases() -> Iterator[Any]:
    """Every refusal, named for the list of tests."""
    for slug, answers in ANSWERS.items():
        for number, one in enumerate(answers.refused):
            said = (one.members.get(name) for name in ("error", "errorCode", "status", "message"))
            code = next(filter(None, said), "empty")
            yield pytest.param(slug, one, id=f"{slug}-{number}-{one.status}-{code}-{one.end}")


def test_every_provider_of_the_catalogue_has_canned_answers_and_nobody_else() -> None:
    assert {provider.slug for provider in read_catalog()} == set(ANSWERS)
    for slug, answers in ANSWERS.items():
        assert answers.granted, f"{slug}: no successful answer"
        ends = {one.end for one in answers.refused}
        if answers.grant != "none":
            assert ends >= {"reauthorize", "client"}, f"{slug}: no answer to a dead grant, or to a wrong client"


@EACH
def test_the_catalogue_says_what_the_answers_say(slug: str) -> None:
    provider, answers = CATALOG.get(slug), ANSWERS[slug]
    assert provider.endpoint(answers.row).url == answers.url
    assert (provider.auth, provider.encoding, provider.grant) == (answers.auth, answers.encoding, answers.grant)
    if answers.grant != "none":
        assert (provider.rotates, provider.replay) == (answers.rotates, answers.replay)
        assert provider.replay_window == answers.replay_window
        assert (provider.default_lifetime, provider.earliest) == (answers.lifetime, answers.earliest)
    if answers.device_url is not None:
        assert provider.device_url is not None
        assert provider.endpoint_at(provider.device_url, answers.row).url == answers.device_url
    assert (provider.device_url is None) == (answers.device_url is None)
    assert (provider.authorize_url is None) == (answers.login is None)
    assert (provider.revoke_url is None) == (answers.revocation is None)


def sent_in(request: TokenRequest) -> list[tuple[str, str]]:
    """The parameters of a request's body, sorted."""
    if request.headers["Content-Type"] == "application/json":
        return sorted(json.loads(request.body).items())
    return sorted(parse_qsl(request.body.decode(), strict_parsing=bool(request.body), keep_blank_values=True))


def check_client(request: TokenRequest, auth: str, wanted: dict[str, str], client_id_param: str) -> None:
    """Whether the request holds these parameters and the client, authenticated in this way, and nothing else."""
    in_header = {
        "basic": b"app%3A1:s%2F1+%2B",
        "basic_plain": b"app:1:s/1 +",
        "basic_secret": b"s/1 +:",
    }  # RFC 6749, section 2.3.1
    if auth in in_header:
        encoded = base64.b64encode(in_header[auth]).decode()
        assert request.headers["Authorization"] == f"Basic {encoded}"
    else:
        wanted = {**wanted, client_id_param: "app:1"} | ({"client_secret": "s/1 +"} if auth == "body" else {})
        assert "Authorization" not in request.headers
    assert sent_in(request) == sorted(wanted.items())


@OF_REFRESHED
def test_the_request_holds_what_the_provider_asks_for_and_nothing_else(slug: str) -> None:
    answers = ANSWERS[slug]
    request = CATALOG.get(slug).refresh_request(Credential("app:1", "s/1 +", "r1", answers.row))
    wanted = {"grant_type": "refresh_token", answers.token_param: "r1", **answers.sends}
    if answers.grant == "exchange":
        client = {"client_id": "app:1", "client_secret": "s/1 +"} if slug == "meta" else {}
        assert sent_in(request) == sorted({**wanted, **client}.items())
    else:
        check_client(request, answers.auth, wanted, answers.client_id_param)
    is_json = answers.encoding == "json"
    assert request.headers["Content-Type"] == ("application/json" if is_json else "application/x-www-form-urlencoded")
    assert request.headers["Accept"] == "application/json"
    assert (request.url, request.method) == (answers.url, answers.method)


@OF_LOGINS
def test_the_address_of_a_login_asks_for_what_the_provider_wants_and_nothing_else(slug: str) -> None:
    answers, provider = ANSWERS[slug], CATALOG.get(slug)
    assert answers.login is not None
    address = authorization_url(
        provider,
        answers.row,
        "app:1",
        redirect_uri=answers.login.redirect_uri,
        scope=scope_of(provider, ["one", "two"]),
        state="state-1",
        challenge=None if answers.login.pkce == "none" else "challenge-1",
    )
    place, _, query = address.partition("?")
    wanted = {
        "response_type": "code",
        answers.login.client_id_param or answers.client_id_param: "app:1",
        "redirect_uri": answers.login.redirect_uri,
        "scope": answers.login.scope,
        "state": "state-1",
        **answers.login.asks,
    }
    if answers.login.pkce != "none":
        wanted |= {"code_challenge": "challenge-1", "code_challenge_method": "S256"}
    assert place == answers.login.authorize_url
    assert sorted(parse_qsl(query, strict_parsing=True)) == sorted(wanted.items())
    assert provider.login.pkce == answers.login.pkce


@OF_LOGINS
def test_the_exchange_of_a_code_holds_what_the_provider_asks_for_and_nothing_else(slug: str) -> None:
    answers, provider = ANSWERS[slug], CATALOG.get(slug)
    assert answers.login is not None
    credential = Credential("app:1", "s/1 +", "", answers.row)
    request = code_request(provider, credential, "code-1", answers.login.redirect_uri, "verifier-1")
    wanted = {"grant_type": "authorization_code", "redirect_uri": answers.login.redirect_uri}
    wanted |= {answers.login.code_param: "code-1", "code_verifier": "verifier-1", **answers.login.sends}
    check_client(request, answers.auth, wanted, answers.client_id_param)
    assert request.url == (answers.login.url or answers.url)


@OF_LOGINS
def test_the_account_is_found_where_the_catalogue_says(slug: str) -> None:
    answers, provider = ANSWERS[slug], CATALOG.get(slug)
    assert answers.login is not None
    body = answers.login.body or answers.granted[0].body
    assert provider.login.account_in(json.loads(body), answers.login.callback) == answers.login.account


@pytest.mark.parametrize("slug", [slug for slug, answers in ANSWERS.items() if answers.revocation])
def test_a_revocation_holds_what_the_provider_asks_for_and_nothing_else(slug: str) -> None:
    answers, provider = ANSWERS[slug], CATALOG.get(slug)
    wanted = answers.revocation
    assert wanted is not None
    credential = Credential("app:1", "s/1 +", "refresh-1", answers.row)
    requests = revocation_requests(provider, credential, "access-1")
    assert len(requests) == (2 if provider.revocation.token == "both" else 1)
    request = requests[-1]
    assert (request.url, request.method) == (wanted.url, wanted.method)
    in_header = {"bearer": "Bearer access-1", "secret": "Client s/1 +", "none": None}
    if wanted.auth in in_header:
        assert request.headers.get("Authorization") == in_header[wanted.auth]
        client = {answers.client_id_param: "app:1"} if wanted.auth == "secret" else {}
        assert sent_in(request) == sorted({**wanted.sends, **client}.items())
    else:
        check_client(request, wanted.auth, dict(wanted.sends), answers.client_id_param)
    is_json = request.headers["Content-Type"] == "application/json"
    assert is_json == (wanted.encoding == "json")
    answer = read_revocation(provider, RawAnswer(200, {}, wanted.body.encode(), NOW, is_complete=True))
    assert answer.verdict is Verdict.DEAD_GRANT
    assert provider.revocation.ends == (wanted.says == "revoked")


@EACH
def test_each_successful_answer_is_read(slug: str) -> None:
    for granted in ANSWERS[slug].granted:
        answer = read(slug, 200, granted.body)
        assert (answer.verdict, answer.refresh_token) == (Verdict.GRANTED, granted.refresh_token)
        assert answer.access_token is not None
        assert answer.access_token.endswith("access-2")
        assert answer.expires_at == NOW + timedelta(seconds=granted.lives)
        end = None if granted.refresh_lives is None else NOW + timedelta(seconds=granted.refresh_lives)
        assert answer.refresh_expires_at == end


@pytest.mark.parametrize(("slug", "one"), list(cases()))
def test_each_refusal_comes_to_its_end(slug: str, one: Refused) -> None:
    answer = read(slug, one.status, one.body)
    outcome = outcome_of(answer.verdict, CATALOG.get(slug).rotates)
    if one.end in FAULTS:
        assert (outcome, answer.verdict) == (Outcome.OPERATOR, FAULTS[one.end])
    else:
        assert outcome is Outcome(one.end)
    assert answer.error is not None
    assert answer.error.startswith(f"HTTP {one.status}")
    if one.status == 429:
        return  # the status says enough
    words = "error_description" if slug == "gohighlevel" else "error"  # HighLevel's code says less than its words
    for said in (one.members.get(words), one.members.get("errorCode"), one.members.get("errorMessage")):
        assert isinstance(said, dict) or str(said or "") in answer.error


@EACH
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_from_a_failing_server_nothing_is_believed(slug: str, status: int) -> None:
    """Outages have answered `invalid_grant` for live grants."""
    passing = Outcome.TRANSIENT if ANSWERS[slug].rotates == "never" else Outcome.UNKNOWN
    bodies = [one.body for one in ANSWERS[slug].refused if one.end in ("reauthorize", *FAULTS)]
    for body in (*bodies, "{}"):
        assert outcome_of(read(slug, status, body).verdict, CATALOG.get(slug).rotates) is passing, body


@EACH
def test_throttling_is_transient_whatever_the_body_says_and_retry_after_is_read(slug: str) -> None:
    for one in ANSWERS[slug].refused:
        answer = read(slug, 429, one.body, **{"retry-after": "30"})
        assert (answer.verdict, answer.retry_after) == (Verdict.NOT_ACTED, 30.0), one


@EACH
def test_no_token_is_taken_from_a_refusal(slug: str) -> None:
    """What stands there may be a sample, or an echo of what was sent."""
    for one in ANSWERS[slug].refused:
        if not (300 <= one.status < 500 or one.members.get("error")):
            continue  # with tokens in it, it is none
        said = read(slug, one.status, one.body)
        pair = {"access_token": "access-2", "expires_in": 3600, "refresh_token": "refresh-2"}
        with_tokens = read(slug, one.status, json.dumps({**one.members, **pair}))
        assert (with_tokens.access_token, with_tokens.refresh_token) == (None, None), one
        assert (with_tokens.verdict, with_tokens.error) == (said.verdict, said.error), one


@EACH
def test_a_success_that_says_what_a_refusal_would_brings_no_refresh_token_alone(slug: str) -> None:
    for one in ANSWERS[slug].refused:
        answer = read(slug, 200, json.dumps({**one.members, "refresh_token": "refresh-2"}))
        assert answer.refresh_token is None or answer.verdict is Verdict.UNCLEAR, one


@pytest.mark.parametrize(
    ("number", "advice"), [(7000222, "secret has expired"), (90002, "tenant"), (50196, "run less often")]
)
def test_microsofts_numbers_bring_advice_of_their_own(number: int, advice: str) -> None:
    action = read("microsoft", 400, json.dumps({"error": "invalid_client", "error_codes": [number]})).action
    assert action is not None
    assert advice in action


@pytest.mark.parametrize("slug", ["microsoft", "gitlab"])
def test_an_optional_parameter_that_the_row_does_not_name_is_left_out(slug: str) -> None:
    request = CATALOG.get(slug).refresh_request(Credential("app", "secret", "r1", {}))
    assert {name for name, _ in parse_qsl(request.body.decode())} == {
        *("grant_type", "refresh_token", "client_id", "client_secret"),
    }
