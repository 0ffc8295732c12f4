"""Google: refresh tokens that never rotate, and why a grant can be dead."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from providers import Catalog
from providers.base import Answer, Credential, Provider, RawAnswer, Verdict
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer, faults
from token_refresh.base.events import Outcome
from token_refresh.net.transport import HTTPTransport
from token_refresh.refresh.result import outcome_of

GOOGLE = Catalog().get("google")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def read(status: int, content: Any) -> Answer:
    return GOOGLE.read_answer(RawAnswer(status, {}, json.dumps(content).encode(), NOW))


def test_the_request_is_the_plain_one_of_the_rfc_with_the_client_in_the_body() -> None:
    request = GOOGLE.refresh_request(Credential("app-google", "google secret", "1//refresh", {}))
    assert request.url == "https://oauth2.googleapis.com/token"
    assert request.host_is_fixed
    assert "Authorization" not in request.headers
    assert parse_qsl(request.body.decode("ascii")) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "1//refresh"),
        ("client_id", "app-google"),
        ("client_secret", "google secret"),
    ]


def test_a_client_without_a_secret_sends_none() -> None:
    body = GOOGLE.refresh_request(Credential("app-google", "", "1//refresh", {})).body
    assert b"client_secret" not in body


def test_a_success_without_refresh_token_keeps_the_old_one() -> None:
    answer = read(200, {"access_token": "ya29.access", "expires_in": 3599, "scope": "email", "token_type": "Bearer"})
    assert (answer.verdict, answer.refresh_token) == (Verdict.GRANTED, None)
    assert answer.expires_at == NOW + timedelta(seconds=3599)


def test_access_that_the_user_limited_in_time_tells_its_end() -> None:
    answer = read(200, {"access_token": "ya29.access", "expires_in": 3599, "refresh_token_expires_in": 604_799})
    assert answer.refresh_expires_at == NOW + timedelta(seconds=604_799)


@pytest.mark.parametrize(
    ("status", "content", "outcome"),
    [
        (
            400,
            {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
            Outcome.REAUTHORIZE,
        ),
        (400, {"error": "invalid_grant", "error_subtype": "invalid_rapt"}, Outcome.REAUTHORIZE),
        (400, {"error": "invalid_grant", "error_description": "Account has been deleted"}, Outcome.REAUTHORIZE),
        (400, {"error": "admin_policy_enforced"}, Outcome.REAUTHORIZE),
        (401, {"error": "invalid_client", "error_description": "Unauthorized"}, Outcome.OPERATOR),
        (401, {"error": "deleted_client"}, Outcome.OPERATOR),
        (401, {"error": "disabled_client"}, Outcome.OPERATOR),
        (401, {"error": "unauthorized_client"}, Outcome.OPERATOR),
        (400, {"error": "invalid_request", "error_description": "Missing required parameter"}, Outcome.OPERATOR),
        (500, {"error": "internal_failure"}, Outcome.TRANSIENT),
        (503, {"error": "invalid_grant"}, Outcome.TRANSIENT),
        (429, {"error": "rate_limit_exceeded"}, Outcome.TRANSIENT),
        (403, {"error": {"code": 403, "message": "invalid_grant"}}, Outcome.OPERATOR),
    ],
)
def test_each_error_leads_to_its_outcome(status: int, content: Any, outcome: Outcome) -> None:
    answer = read(status, content)
    assert outcome_of(answer.verdict, GOOGLE.rotates) is outcome
    assert answer.error is not None
    assert answer.error.startswith(f"HTTP {status}")


@pytest.fixture
def transport(clock: FakeClock) -> Iterator[HTTPTransport]:
    made = HTTPTransport(clock, 1)
    yield made
    made.close()


@pytest.fixture
def google(oauth: OAuthServer) -> Provider:
    oauth.add_client("google", "app-google", "google secret")
    return dataclasses.replace(GOOGLE, token_url=oauth.token_url("google"))


def refresh(provider: Provider, transport: HTTPTransport, token: str) -> Answer:
    raw = transport.post(provider.refresh_request(Credential("app-google", "google secret", token, {})))
    assert isinstance(raw, RawAnswer)
    return provider.read_answer(raw)


def test_the_same_refresh_token_works_again_and_again_at_the_fake(
    google: Provider, transport: HTTPTransport, oauth: OAuthServer
) -> None:
    token = oauth.grant("google", "app-google", location_id="loc", scope="email")
    tokens = {refresh(google, transport, token).access_token for _ in range(3)}
    assert len(tokens) == 3
    assert None not in tokens
    assert oauth.violations == []


@pytest.mark.parametrize("subtype", [None, "invalid_rapt"])
def test_a_revoked_grant_is_dead_at_the_fake(
    google: Provider, transport: HTTPTransport, oauth: OAuthServer, subtype: str | None
) -> None:
    token = oauth.grant("google", "app-google", location_id="loc")
    oauth.revoke("loc", subtype=subtype)
    answer = refresh(google, transport, token)
    assert answer.verdict is Verdict.DEAD_GRANT
    assert subtype is None or (answer.error and subtype in answer.error)


def test_an_outage_that_talks_of_invalid_grant_flags_nothing(
    google: Provider, transport: HTTPTransport, oauth: OAuthServer
) -> None:
    token = oauth.grant("google", "app-google", location_id="loc")
    oauth.fail(faults.raw(b'{"error":"invalid_grant"}', 503))
    assert outcome_of(refresh(google, transport, token).verdict, google.rotates) is Outcome.TRANSIENT
    oauth.fail(faults.too_many_requests(30))
    throttled = refresh(google, transport, token)
    assert (throttled.verdict, throttled.retry_after) == (Verdict.NOT_ACTED, 30.0)
    assert refresh(google, transport, token).verdict is Verdict.GRANTED
