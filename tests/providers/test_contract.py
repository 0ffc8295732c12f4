"""What each provider of the catalogue is asked, what it answers, and what every answer means: a table to read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from providers import Catalog
from providers.base import Answer, Credential, RawAnswer, Verdict
from token_refresh.base.events import Outcome
from token_refresh.refresh.result import outcome_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CATALOG = Catalog()

REAUTHORIZE = "reauthorize"  # the grant is dead, a person logs in again
CLIENT = "client"  # client id or secret: all rows of the app
ROW = "row"  # something in this row
TRANSIENT = "transient"  # certainly nothing happened, or nothing could
UNKNOWN = "unknown"  # the refresh token may be used up

Json = dict[str, Any]
Refusals = Sequence[tuple[int, Json, str]]


@dataclass(frozen=True)
class Granted:
    """A successful answer: seconds the access token lives, the new refresh token, seconds that one lives."""

    body: Json
    lives: int
    refresh_token: str | None = None
    refresh_lives: int | None = None
    status: int = 200


@dataclass(frozen=True)
class Contract:
    """One provider. `sends` is what the request carries beyond grant type, refresh token and client."""

    url: str
    auth: str
    rotates: str
    replay: str
    lifetime: int
    granted: Sequence[Granted]
    refusals: Refusals
    row: Mapping[str, str] = field(default_factory=dict)  # the row's provider_params
    sends: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "form"


def rfc(code: str, words: str = "") -> Json:
    """An error body of RFC 6749, section 5.2."""
    return {"error": code} | ({"error_description": words} if words else {})


def pair(expires_in: Any, **more: Any) -> Json:
    """A successful body of RFC 6749, section 5.1, with a new refresh token."""
    return {
        "access_token": "access-2",
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": "refresh-2",
        **more,
    }


def highlevel(status: int, message: str | list[str]) -> Json:
    """An error body of HighLevel's."""
    return {"statusCode": status, "message": message}


def aadsts(*numbers: int, error: str = "invalid_grant", listed: bool = True) -> Json:
    """An error body of Microsoft's: the numbers in words and, mostly, in a list."""
    words = " ".join(f"AADSTS{number}: Some words." for number in numbers)
    return rfc(error, words) | ({"error_codes": list(numbers)} if listed else {})


def slack(error: str) -> Json:
    """An error body of Slack's."""
    return {"ok": False, "error": error}


def zoom(number: int, words: str = "Some words.") -> Json:
    """An error body of Zoom's with a number."""
    return {"status": False, "errorCode": number, "errorMessage": words, "result": None}


def hubspot(status: str, **more: Any) -> Json:
    """An error body of HubSpot's."""
    return {"status": status, "message": "some words", "correlationId": "0000", "category": "BAD_REQUEST", **more}


# Numbers of Microsoft's: docs, reference-error-codes.
CONSENT_AGAIN = (
    *(65001, 50173, 70000, 70008, 700082, 700084, 70043, 50074, 50076, 50078, 50079, 53000, 53003, 530032),
    *(50057, 50034, 50020, 50105, 50085, 50089, 50132, 50133),
)
BUSY = (50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090, 90091, 40010, 70012, 80001, 80002, 80005)

CONTRACTS = {
    "gohighlevel": Contract(
        "https://services.leadconnectorhq.com/oauth/token",
        auth="body",
        sends={"user_type": "Location"},
        rotates="always",
        replay="once",
        lifetime=86_399,
        granted=[Granted(pair(86_399, userType="Location", locationId="loc"), 86_399, "refresh-2")],
        refusals=[
            (400, highlevel(400, "Invalid grant: refresh token is invalid"), REAUTHORIZE),
            (401, rfc("invalid_grant", "Invalid grant: refresh token is invalid"), REAUTHORIZE),
            (401, highlevel(401, "Invalid client credentials!"), CLIENT),
            (400, highlevel(400, "Missing parameter: refresh_token"), ROW),
            (400, highlevel(400, "Invalid parameter: user_type"), ROW),
            (422, highlevel(422, ["user_type must be one of the following values: Company, Location"]), ROW),
            (400, highlevel(400, "Location is not active"), TRANSIENT),
            (400, highlevel(400, "API endpoint has been removed"), UNKNOWN),
        ],
    ),
    "google": Contract(
        "https://oauth2.googleapis.com/token",
        auth="body",
        rotates="never",
        replay="safe",
        lifetime=3599,
        granted=[
            Granted({"access_token": "access-2", "expires_in": 3599, "scope": "email", "token_type": "Bearer"}, 3599),
            Granted(
                {"access_token": "access-2", "expires_in": 3599, "refresh_token_expires_in": 604_799},
                3599,
                None,
                604_799,
            ),
        ],
        refusals=[
            (400, rfc("invalid_grant", "Token has been expired or revoked."), REAUTHORIZE),
            (400, rfc("invalid_grant") | {"error_subtype": "invalid_rapt"}, REAUTHORIZE),
            (400, rfc("admin_policy_enforced"), REAUTHORIZE),
            (401, rfc("invalid_client", "Unauthorized"), CLIENT),
            (401, rfc("deleted_client"), CLIENT),
            (401, rfc("disabled_client"), CLIENT),
            (401, rfc("unauthorized_client"), CLIENT),
            (500, rfc("internal_failure"), TRANSIENT),
        ],
    ),
    "microsoft": Contract(
        "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
        auth="body",
        row={"tenant": "contoso.example", "scope": "offline_access User.Read"},
        sends={"scope": "offline_access User.Read"},
        rotates="always",
        replay="safe",
        lifetime=3599,
        granted=[Granted(pair(3599, ext_expires_in=3599, scope="User.Read"), 3599, "refresh-2")],
        refusals=[
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (400, rfc("interaction_required"), REAUTHORIZE),
            (400, rfc("consent_required"), REAUTHORIZE),
            *((400, aadsts(number), REAUTHORIZE) for number in CONSENT_AGAIN),
            (400, aadsts(50076, error="interaction_required"), REAUTHORIZE),
            (401, aadsts(50105, error="access_denied"), REAUTHORIZE),
            (400, aadsts(70002, 70008), REAUTHORIZE),  # so older texts began; the client is right
            (400, aadsts(70002, 50173, listed=False), REAUTHORIZE),
            *((400, aadsts(number), TRANSIENT) for number in BUSY),
            (400, rfc("temporarily_unavailable"), TRANSIENT),
            (503, rfc("temporarily_unavailable"), TRANSIENT),
            (400, aadsts(50196), TRANSIENT),  # a loop: slow down, a new consent does not help
            *((401, aadsts(number, error="invalid_client"), CLIENT) for number in (7000215, 7000222, 70002, 7000218)),
            *(
                (400, aadsts(number, error="unauthorized_client"), CLIENT)
                for number in (700016, 700011, 70001, 7000112)
            ),
            (401, aadsts(7000222, error="invalid_client", listed=False), CLIENT),
            *((400, aadsts(number, error="invalid_request"), ROW) for number in (90002, 50194, 9001023, 28002, 900144)),
            (400, aadsts(70011, error="invalid_scope"), ROW),
            (429, aadsts(7000215, error="invalid_client"), TRANSIENT),
            (500, aadsts(50173), UNKNOWN),
        ],
    ),
    "github-app": Contract(
        "https://github.com/login/oauth/access_token",
        auth="body",
        rotates="always",
        replay="once",
        lifetime=28_800,
        granted=[
            Granted(pair(28_800, refresh_token_expires_in=15_897_600), 28_800, "refresh-2", 15_897_600),
            Granted({"access_token": "ghu_access-2", "scope": "", "token_type": "bearer"}, 28_800),  # the app opted out
        ],
        refusals=[
            (200, rfc("bad_refresh_token", "The refresh token passed is incorrect or expired."), REAUTHORIZE),
            (200, rfc("unauthorized_client"), REAUTHORIZE),
            (200, rfc("unverified_user_email"), REAUTHORIZE),
            (200, rfc("incorrect_client_credentials"), CLIENT),
            (404, rfc("Not Found"), CLIENT),  # the app was deleted
            (404, {}, UNKNOWN),
            (200, rfc("unsupported_grant_type"), ROW),
        ],
    ),
    "gitlab": Contract(
        "https://git.acme.example:8443/oauth/token",
        auth="body",
        row={"instance": "git.acme.example:8443", "redirect_uri": "https://app.example/callback"},
        sends={"redirect_uri": "https://app.example/callback"},
        rotates="always",
        replay="once",
        lifetime=7200,
        granted=[Granted(pair(7200, created_at=1_772_366_400), 7200, "refresh-2")],
        refusals=[
            (400, rfc("invalid_grant", "The provided authorization grant is invalid, expired, revoked"), REAUTHORIZE),
            (401, rfc("invalid_client", "Client authentication failed due to unknown client"), CLIENT),
            (400, rfc("invalid_client"), CLIENT),
            (404, {}, UNKNOWN),  # perhaps the wrong instance
        ],
    ),
    "slack": Contract(
        "https://slack.com/api/oauth.v2.access",
        auth="basic",
        rotates="always",
        replay="once",
        lifetime=43_200,
        granted=[Granted(pair(43_200, ok=True, token_type="bot"), 43_200, "refresh-2")],
        refusals=[
            *((200, slack(code), REAUTHORIZE) for code in ("invalid_refresh_token", "invalid_grant", "token_revoked")),
            *((200, slack(code), REAUTHORIZE) for code in ("authorization_not_found", "account_inactive")),
            (200, slack("team_access_not_granted"), REAUTHORIZE),
            (200, slack("invalid_client_id"), CLIENT),
            (200, slack("bad_client_secret"), CLIENT),
            (200, slack("token_rotation_not_enabled"), CLIENT),  # a setting of the app
            (200, slack("ratelimited"), TRANSIENT),
            (429, slack("ratelimited"), TRANSIENT),
            (200, slack("service_unavailable"), TRANSIENT),
            (200, slack("internal_error"), UNKNOWN),  # "some aspect of the operation may have succeeded"
            (200, slack("fatal_error"), UNKNOWN),
        ],
    ),
    "zoom": Contract(
        "https://zoom.us/oauth/token",
        auth="basic",
        rotates="always",
        replay="once",
        lifetime=3600,
        granted=[
            Granted(pair(3599, scope="user:read"), 3599, "refresh-2"),
            Granted({"access_token": "access-2"}, 3600),
        ],
        refusals=[
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (401, {"reason": "Invalid Token!", "error": "invalid_request"}, REAUTHORIZE),
            *((400, zoom(number), REAUTHORIZE) for number in (4711, 4735, 4737, 4738, 4740, 4741)),
            (400, {"error": 4735, "reason": "The owner of the token does not exist."}, REAUTHORIZE),
            (400, {"code": "4741", "message": "The token has been revoked."}, REAUTHORIZE),
            (400, {"code": 400, "errorCode": 4741}, REAUTHORIZE),
            *((400, zoom(number), CLIENT) for number in (4702, 4704, 4706)),
            (400, zoom(4717, "The app has been disabled"), CLIENT),
            (401, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}, CLIENT),
            (400, zoom(4705), ROW),
            (400, {"reason": "Bad grant type", "error": "unsupported_grant_type"}, ROW),
            (400, zoom(4700, ""), UNKNOWN),  # "a catch all for unexpected errors"
            (400, zoom(4732), UNKNOWN),  # a service of theirs is down
            (429, zoom(4741), TRANSIENT),
            (500, zoom(4741), UNKNOWN),
        ],
    ),
    "xero": Contract(
        "https://identity.xero.com/connect/token",
        auth="basic",
        rotates="always",
        replay="safe",
        lifetime=1800,
        granted=[Granted(pair(1800), 1800, "refresh-2")],
        refusals=[
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (400, rfc("invalid_client"), CLIENT),
            (401, rfc("invalid_client"), CLIENT),
            (400, rfc("unauthorized_client"), CLIENT),
        ],
    ),
    "hubspot": Contract(
        "https://api.hubapi.com/oauth/2026-03/token",
        auth="body",
        rotates="never",
        replay="safe",
        lifetime=1800,
        granted=[
            Granted({"access_token": "access-2", "expires_in": 1800, "refresh_token": "refresh-1"}, 1800, "refresh-1"),
            Granted(
                {"accessToken": "access-2", "expiresIn": 900, "refreshToken": "refresh-1", "tokenType": "bearer"},
                900,
                "refresh-1",
            ),
            Granted({"access_token": "access-2", "accessToken": None, "expires_in": 900, "expiresIn": None}, 900),
        ],
        refusals=[
            (400, hubspot("BAD_REFRESH_TOKEN"), REAUTHORIZE),
            (400, rfc("invalid_grant") | hubspot("BAD_REFRESH_TOKEN"), REAUTHORIZE),
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (400, hubspot("BAD_CLIENT_ID"), CLIENT),
            (400, hubspot("BAD_CLIENT_SECRET"), CLIENT),
            (401, rfc("invalid_client"), CLIENT),
            (429, hubspot("error", category="RATE_LIMITS"), TRANSIENT),
            (503, hubspot("BAD_REFRESH_TOKEN"), TRANSIENT),
            (400, hubspot("error", category="VALIDATION_ERROR"), TRANSIENT),
        ],
    ),
    "salesforce": Contract(
        "https://test.salesforce.com/services/oauth2/token",
        auth="body",
        row={"login_host": "test.salesforce.com"},
        rotates="sometimes",
        replay="once",
        lifetime=3600,
        granted=[
            Granted(
                {"access_token": "access-2", "instance_url": "https://x.example", "issued_at": "1772366400000"}, 3600
            ),
            Granted(
                {"access_token": "access-2", "refresh_token": "refresh-2", "issued_at": "1772366400000"},
                3600,
                "refresh-2",
            ),
        ],
        refusals=[
            (400, rfc("invalid_grant", "expired access/refresh token"), REAUTHORIZE),
            (400, rfc("invalid_grant", "authentication failure"), REAUTHORIZE),
            (400, rfc("inactive_user", "user is inactive"), REAUTHORIZE),
            (400, rfc("inactive_org", "organization is inactive"), REAUTHORIZE),
            (400, rfc("invalid_client_id", "client identifier invalid"), CLIENT),
            (400, rfc("invalid_client", "invalid client credentials"), CLIENT),
            (400, rfc("unsupported_grant_type", "grant type not supported"), ROW),
        ],
    ),
    "exact-online": Contract(
        "https://start.exactonline.co.uk/api/oauth2/token",
        auth="basic",
        row={"country": "co.uk"},
        rotates="always",
        replay="once",
        lifetime=600,
        granted=[Granted(pair("600"), 600, "refresh-2"), Granted(pair(600), 600, "refresh-2")],
        refusals=[
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (400, rfc("invalid_request", "Old refresh token used."), REAUTHORIZE),
            (401, rfc("unauthorized_client", "Old refresh token used."), REAUTHORIZE),
            (401, rfc("invalid_client"), CLIENT),
            (400, rfc("access_denied", "Rate limit exceeded: access_token not expired"), TRANSIENT),
            (400, rfc("access_denied"), UNKNOWN),
        ],
    ),
    "keycloak": Contract(
        "https://login.acme.example/realms/staff/protocol/openid-connect/token",
        auth="basic",
        row={"host": "login.acme.example", "realm": "staff"},
        rotates="always",
        replay="last_minute",
        lifetime=300,
        granted=[
            Granted(pair(300, refresh_expires_in=1800, session_state="s"), 300, "refresh-2", 1800),
            Granted(pair(300, refresh_expires_in=0), 300, "refresh-2", None),  # an offline token has no end
        ],
        refusals=[
            *(
                (400, rfc("invalid_grant", words), REAUTHORIZE)
                for words in (
                    "Session not active",
                    "Token is not active",
                    "Maximum allowed refresh token reuse exceeded",
                    "Stale token",
                    "Offline user session not found",
                    "Session doesn't have required client",
                )
            ),
            (401, rfc("unauthorized_client", "Invalid client or Invalid client credentials"), CLIENT),
            (401, rfc("invalid_client", "Invalid client credentials"), CLIENT),
            (404, rfc("Realm does not exist"), UNKNOWN),
        ],
    ),
    "atlassian": Contract(
        "https://auth.atlassian.com/oauth/token",
        auth="body",
        encoding="json",
        rotates="always",
        replay="safe",
        lifetime=3600,
        granted=[Granted(pair(3600, scope="read:jira-work"), 3600, "refresh-2")],
        refusals=[
            (403, rfc("invalid_grant", "Unknown or invalid refresh token."), REAUTHORIZE),
            (403, rfc("unauthorized_client", "refresh_token is invalid"), REAUTHORIZE),
            (401, rfc("access_denied", "Unauthorized"), CLIENT),
            (401, rfc("invalid_client"), CLIENT),
            (400, rfc("unauthorized_client", "Grant type not allowed for the client."), CLIENT),
            (429, rfc("unauthorized_client", "refresh_token is invalid"), TRANSIENT),
        ],
    ),
    "quickbooks": Contract(
        "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
        auth="basic",
        rotates="sometimes",
        replay="once",
        lifetime=3600,
        granted=[
            Granted(pair(3600, x_refresh_token_expires_in=8_726_400), 3600, "refresh-2", 8_726_400),
            Granted(
                pair(3600) | {"refresh_token": "refresh-1"}, 3600, "refresh-1"
            ),  # the same one until it is a day old
        ],
        refusals=[
            (400, rfc("invalid_grant"), REAUTHORIZE),
            (400, rfc("invalid_grant", "Incorrect or invalid refresh token"), REAUTHORIZE),
            (401, rfc("invalid_client"), CLIENT),
        ],
    ),
}

EACH = pytest.mark.parametrize("slug", CONTRACTS)


def read(slug: str, status: int, body: Json, **headers: str) -> Answer:
    return CATALOG.get(slug).read_answer(RawAnswer(status, headers, json.dumps(body).encode(), NOW))


def cases() -> Iterator[Any]:
    """Every refusal of the table, named for the list of tests."""
    for slug, contract in CONTRACTS.items():
        for number, (status, body, end) in enumerate(contract.refusals):
            code = body.get("error") or body.get("errorCode") or body.get("status") or body.get("message") or "empty"
            yield pytest.param(slug, status, body, end, id=f"{slug}-{number}-{status}-{code}-{end}")


def test_every_provider_of_the_catalogue_is_in_the_table() -> None:
    assert {provider.slug for provider in CATALOG} == set(CONTRACTS)


@EACH
def test_the_catalogue_says_what_the_table_says(slug: str) -> None:
    provider, contract = CATALOG.get(slug), CONTRACTS[slug]
    assert provider.endpoint(contract.row).url == contract.url
    assert (provider.auth, provider.encoding) == (contract.auth, contract.encoding)
    assert (provider.rotates, provider.replay) == (contract.rotates, contract.replay)
    assert provider.default_lifetime == contract.lifetime
    assert provider.earliest == (30 if slug == "exact-online" else 0)


@EACH
def test_the_request_holds_what_the_provider_asks_for_and_nothing_else(slug: str) -> None:
    contract = CONTRACTS[slug]
    request = CATALOG.get(slug).refresh_request(Credential("app:1", "s/1 +", "refresh-1", contract.row))
    wanted = {"grant_type": "refresh_token", "refresh_token": "refresh-1", **contract.sends}
    if contract.auth == "basic":
        encoded = base64.b64encode(b"app%3A1:s%2F1+%2B").decode()  # RFC 6749, section 2.3.1
        assert request.headers["Authorization"] == f"Basic {encoded}"
    else:
        wanted |= {"client_id": "app:1", "client_secret": "s/1 +"}
        assert "Authorization" not in request.headers
    is_json = contract.encoding == "json"
    assert request.headers["Content-Type"] == ("application/json" if is_json else "application/x-www-form-urlencoded")
    assert request.headers["Accept"] == "application/json"
    sent = list(json.loads(request.body).items()) if is_json else parse_qsl(request.body.decode(), strict_parsing=True)
    assert sorted(sent) == sorted(wanted.items())
    assert request.url == contract.url


@EACH
def test_each_successful_answer_is_read(slug: str) -> None:
    for granted in CONTRACTS[slug].granted:
        answer = read(slug, granted.status, granted.body)
        assert (answer.verdict, answer.refresh_token) == (Verdict.GRANTED, granted.refresh_token)
        assert answer.access_token in ("access-2", "ghu_access-2")
        assert answer.expires_at == NOW + timedelta(seconds=granted.lives)
        end = None if granted.refresh_lives is None else NOW + timedelta(seconds=granted.refresh_lives)
        assert answer.refresh_expires_at == end


@pytest.mark.parametrize(("slug", "status", "body", "end"), list(cases()))
def test_each_refusal_comes_to_its_end(slug: str, status: int, body: Json, end: str) -> None:
    answer = read(slug, status, body)
    outcome = outcome_of(answer.verdict, CATALOG.get(slug).rotates)
    if end in (CLIENT, ROW):
        assert outcome is Outcome.OPERATOR
        assert answer.verdict is (Verdict.CLIENT_REFUSED if end == CLIENT else Verdict.REQUEST_REFUSED)
    else:
        assert outcome is Outcome(end)
    assert answer.error is not None
    assert answer.error.startswith(f"HTTP {status}")
    words = "error_description" if slug == "gohighlevel" else "error"  # HighLevel's code says less than its words
    for said in (body.get(words), body.get("errorCode"), body.get("errorMessage")):
        assert str(said or "") in answer.error


@EACH
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_from_a_failing_server_nothing_is_believed(slug: str, status: int) -> None:
    """Outages have answered `invalid_grant` for live grants."""
    passing = Outcome.TRANSIENT if CONTRACTS[slug].rotates == "never" else Outcome.UNKNOWN
    bodies = [body for _, body, end in CONTRACTS[slug].refusals if end in (REAUTHORIZE, CLIENT, ROW)]
    for body in (*bodies, {}):
        assert outcome_of(read(slug, status, body).verdict, CATALOG.get(slug).rotates) is passing, body


@EACH
def test_throttling_is_transient_whatever_the_body_says_and_retry_after_is_read(slug: str) -> None:
    for _, body, _ in CONTRACTS[slug].refusals:
        answer = read(slug, 429, body, **{"retry-after": "30"})
        assert (answer.verdict, answer.retry_after) == (Verdict.NOT_ACTED, 30.0), body


@EACH
def test_no_token_is_taken_from_a_refusal(slug: str) -> None:
    """What stands there may be a sample, or an echo of what was sent."""
    for status, body, _ in CONTRACTS[slug].refusals:
        if not (300 <= status < 500 or body.get("error")):
            continue  # with tokens in it, it is none
        said = read(slug, status, body)
        with_tokens = read(slug, status, {**body, **pair(3600)})
        assert (with_tokens.access_token, with_tokens.refresh_token) == (None, None), body
        assert (with_tokens.verdict, with_tokens.error) == (said.verdict, said.error), body


@EACH
def test_a_success_that_says_what_a_refusal_would_brings_no_refresh_token_alone(slug: str) -> None:
    for _, body, _ in CONTRACTS[slug].refusals:
        answer = read(slug, 200, {**body, "refresh_token": "refresh-2"})
        assert answer.refresh_token is None or answer.verdict is Verdict.UNCLEAR, body


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (aadsts(7000222, error="invalid_client"), "secret has expired"),
        (aadsts(90002, error="invalid_request"), "tenant"),
        (aadsts(50196), "run less often"),
    ],
)
def test_microsofts_numbers_bring_advice_of_their_own(body: Json, advice: str) -> None:
    action = read("microsoft", 400, body).action
    assert action is not None
    assert advice in action


@pytest.mark.parametrize("slug", ["microsoft", "gitlab"])
def test_an_optional_parameter_that_the_row_does_not_name_is_left_out(slug: str) -> None:
    request = CATALOG.get(slug).refresh_request(Credential("app", "secret", "refresh-1", {}))
    assert {name for name, _ in parse_qsl(request.body.decode())} == {
        *("grant_type", "refresh_token", "client_id", "client_secret"),
    }
