"""GoHighLevel: canned answers, the shape of its request, and what it does against the strict fake."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest

from providers import Catalog
from providers.base import Answer, Credential, RawAnswer, Verdict
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer, faults
from token_refresh.base.events import Outcome
from token_refresh.net.transport import HTTPTransport
from token_refresh.refresh.result import outcome_of

HIGHLEVEL = Catalog().get("gohighlevel")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def credential(token: str = "refresh-1", secret: str = "app secret", **params: str) -> Credential:
    return Credential("app-highlevel", secret, token, params)


def read(status: int, content: Any) -> Answer:
    return HIGHLEVEL.read_answer(RawAnswer(status, {}, json.dumps(content).encode(), NOW))


def test_the_request_is_a_form_with_the_client_in_the_body_and_the_default_user_type() -> None:
    request = HIGHLEVEL.refresh_request(credential(token="a+b/c=&d", secret="s €"))
    assert request.url == "https://services.leadconnectorhq.com/oauth/token"
    assert request.host_is_fixed
    assert request.headers == {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert parse_qsl(request.body.decode("ascii"), strict_parsing=True) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "a+b/c=&d"),
        ("user_type", "Location"),
        ("client_id", "app-highlevel"),
        ("client_secret", "s €"),
    ]


def test_an_agency_row_names_its_own_user_type_and_the_host_stays_fixed() -> None:
    request = HIGHLEVEL.refresh_request(credential(user_type="Company", instance="evil.example"))
    assert ("user_type", "Company") in parse_qsl(request.body.decode())
    assert request.url == HIGHLEVEL.token_url
    assert request.host_is_fixed


def test_nothing_secret_shows_in_what_a_credential_or_request_prints() -> None:
    shown = (
        repr(credential()) + repr(HIGHLEVEL.refresh_request(credential())) + repr(read(200, {"access_token": "a-1"}))
    )
    assert not any(secret in shown for secret in ("refresh-1", "app secret", "app+secret", "a-1"))


@pytest.mark.parametrize(
    ("status", "content", "verdict", "error"),
    [
        (400, {"statusCode": 400, "message": "Invalid grant: refresh token is invalid"}, Verdict.DEAD_GRANT,
         "HTTP 400, Invalid grant: refresh token is invalid"),
        (401, {"error": "invalid_grant", "error_description": "Refresh token gone"}, Verdict.DEAD_GRANT,
         "HTTP 401, Refresh token gone"),
        (400, {"statusCode": 400, "message": "Location is not active"}, Verdict.NOT_ACTED,
         "HTTP 400, Location is not active"),
        (401, {"error": "Unauthorized", "error_description": "The Location is Not Active."}, Verdict.NOT_ACTED,
         "HTTP 401, The Location is Not Active."),
        (401, {"statusCode": 401, "message": "Invalid client credentials!", "error": "Unauthorized"},
         Verdict.CLIENT_REFUSED, "HTTP 401, Invalid client credentials!"),
        (400, {"message": "Invalid client credentials!"}, Verdict.REQUEST_REFUSED,
         "HTTP 400, Invalid client credentials!"),
        (422, {"statusCode": 422, "message": ["a must be a string", "b too"], "error": "Unprocessable Entity"},
         Verdict.REQUEST_REFUSED, "HTTP 422, a must be a string; b too"),
        (400, {"statusCode": 400, "message": "Missing parameter: user_type"}, Verdict.REQUEST_REFUSED,
         "HTTP 400, Missing parameter: user_type"),
        (400, {"statusCode": 400, "message": "Invalid parameter: user_type"}, Verdict.REQUEST_REFUSED,
         "HTTP 400, Invalid parameter: user_type"),
        (422, {}, Verdict.REQUEST_REFUSED, "HTTP 422"),
        (403, {"message": "Forbidden"}, Verdict.REQUEST_REFUSED, "HTTP 403, Forbidden"),
        (404, {"statusCode": 404, "message": "Cannot find that"}, Verdict.REQUEST_REFUSED,
         "HTTP 404, Cannot find that"),
        (401, {}, Verdict.CLIENT_REFUSED, "HTTP 401"),
        (400, {"error": {"code": "x_y", "message": "No"}}, Verdict.REQUEST_REFUSED, "HTTP 400, x_y: No"),
        (408, {"message": "Invalid grant: refresh token is invalid"}, Verdict.UNCLEAR, None),
        (429, {"message": "Invalid grant: refresh token is invalid"}, Verdict.NOT_ACTED, None),
        (500, {"message": "Invalid grant: refresh token is invalid"}, Verdict.UNCLEAR, None),
        (503, {"message": "Location is not active"}, Verdict.UNCLEAR, None),
        (200, {"message": "ok"}, Verdict.UNCLEAR, "HTTP 200, ok"),
    ],
)  # fmt: skip
def test_each_documented_and_reported_error_body_is_judged(
    status: int, content: Any, verdict: Verdict, error: str | None
) -> None:
    answer = read(status, content)
    assert answer.verdict is verdict
    assert error is None or answer.error == error


def test_a_paused_location_and_a_wrong_user_type_get_advice_of_their_own() -> None:
    paused = read(400, {"message": "Location is not active"})
    assert paused.action is not None
    assert "Reactivate" in paused.action
    refused = read(422, {"message": ["user_type must be one of"]})
    assert refused.action is not None
    assert "user_type" in refused.action
    assert read(500, {}).action is None
    elsewhere = read(404, {"statusCode": 404, "message": "Cannot find that"})
    assert "address" in (elsewhere.action or "")
    assert read(403, {"message": "Forbidden"}).action is None


def test_a_lone_refused_client_means_an_uninstalled_app() -> None:
    assert outcome_of(HIGHLEVEL.refusal_if_client_valid, HIGHLEVEL.rotates) is Outcome.REAUTHORIZE


class World:
    """HighLevel as the fake plays it, asked over HTTP."""

    def __init__(self, oauth: OAuthServer, clock: FakeClock) -> None:
        self.oauth = oauth
        oauth.add_client("gohighlevel", "app-highlevel", "app secret")
        self.provider = dataclasses.replace(HIGHLEVEL, token_url=oauth.token_url("gohighlevel"))
        self.transport = HTTPTransport(clock, 1)

    def refresh(self, token: str, **more: str) -> Answer:
        raw = self.transport.post(self.provider.refresh_request(credential(token, **more)))
        assert isinstance(raw, RawAnswer)
        return self.provider.read_answer(raw)


@pytest.fixture
def highlevel(oauth: OAuthServer, clock: FakeClock) -> Iterator[World]:
    world = World(oauth, clock)
    yield world
    world.transport.close()


def test_a_pair_from_the_fake_is_read_whole_and_no_rule_is_broken(highlevel: World, clock: FakeClock) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc")
    answer = highlevel.refresh(token)
    assert answer.verdict is Verdict.GRANTED
    assert answer.refresh_token == highlevel.oauth.current("loc")
    assert answer.access_token == highlevel.oauth.current_access("loc")
    assert answer.expires_at is not None
    assert (answer.expires_at - clock.now()).total_seconds() == 86_399
    assert highlevel.oauth.violations == []


def test_a_company_grant_is_refreshed_with_its_user_type(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="agency", user_type="Company")
    assert highlevel.refresh(token, user_type="Company").verdict is Verdict.GRANTED
    assert highlevel.oauth.violations == []


def test_a_paused_location_is_transient_and_its_token_works_again_afterwards(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc")
    highlevel.oauth.pause("loc")
    paused = highlevel.refresh(token)
    assert outcome_of(paused.verdict, "always") is Outcome.TRANSIENT
    assert highlevel.oauth.tokens[token].spent_at is None
    highlevel.oauth.resume("loc")
    assert highlevel.refresh(token).verdict is Verdict.GRANTED
    assert highlevel.oauth.replayed() == []


def test_a_used_refresh_token_is_a_dead_grant_when_its_thirty_seconds_are_over(
    highlevel: World, clock: FakeClock
) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc")
    highlevel.refresh(token)
    clock.advance(30)
    assert highlevel.refresh(token).verdict is Verdict.GRANTED
    clock.advance(1)
    assert highlevel.refresh(token).verdict is Verdict.DEAD_GRANT


def test_an_uninstalled_app_and_a_wrong_secret_both_refuse_the_client(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc")
    assert highlevel.refresh(token, secret="wrong").verdict is Verdict.CLIENT_REFUSED
    highlevel.oauth.uninstall("loc")
    assert highlevel.refresh(token).verdict is Verdict.CLIENT_REFUSED


def test_an_answer_that_breaks_off_is_unclear_and_brings_no_half_token(highlevel: World) -> None:
    token = highlevel.oauth.grant("gohighlevel", "app-highlevel", location_id="loc")
    highlevel.oauth.fail(faults.cut(300))
    answer = highlevel.refresh(token)
    assert (answer.verdict, answer.access_token, answer.refresh_token) == (Verdict.UNCLEAR, None, None)
