"""RFC 7009: where a revocation goes, what it carries, and what its answers mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest

from providers import Catalog
from providers.base import Credential, Provider, RawAnswer, TokenRequest, Verdict
from providers.introspection import introspection_request
from providers.revocation import read_revocation, revocation_requests

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ACME = Provider("acme", "Acme", "https://acme.example/token", revoke_url="https://acme.example/revoke")
CREDENTIAL = Credential("app", "hush", "grant-1", {})


def revoke_request(provider: Provider, credential: Credential) -> TokenRequest | None:
    """The one request that ends the grant of this refresh token, if any."""
    requests = revocation_requests(provider, credential, "")
    return requests[0] if requests else None


def read(status: int, body: bytes = b"", retry_after: str = "") -> tuple[Verdict, float | None]:
    answer = read_revocation(ACME, RawAnswer(status, {"retry-after": retry_after}, body, NOW))
    return answer.verdict, answer.retry_after


def test_the_refresh_token_goes_as_a_form_with_its_kind_and_the_client() -> None:
    request = revoke_request(replace(ACME, encoding="json"), CREDENTIAL)
    assert request is not None
    assert (request.url, request.host_is_fixed) == ("https://acme.example/revoke", True)
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode()) == {
        "token": ["grant-1"],
        "token_type_hint": ["refresh_token"],
        "client_id": ["app"],
        "client_secret": ["hush"],
    }


def test_without_an_endpoint_there_is_no_request() -> None:
    assert revoke_request(replace(ACME, revoke_url=None), CREDENTIAL) is None


def test_another_host_is_asked_where_the_catalogue_alone_names_both() -> None:
    request = revoke_request(replace(ACME, revoke_url="https://api.example/revoke"), CREDENTIAL)
    assert request is not None
    assert request.url == "https://api.example/revoke"


@pytest.mark.parametrize(
    ("token_url", "revoke_url"),
    [("https://acme.example/token", "https://{host}/revoke"), ("https://{host}/token", "https://api.example/revoke")],
)
def test_a_row_that_moves_one_host_sends_nothing_to_the_other(token_url: str, revoke_url: str) -> None:
    provider = replace(ACME, token_url=token_url, revoke_url=revoke_url, placeholders={"host": "acme.example"})
    moved = replace(CREDENTIAL, params={"host": "evil.example"})
    assert revoke_request(provider, CREDENTIAL) is not None
    assert revoke_request(provider, moved) is None


def test_an_instance_of_its_own_is_asked_itself() -> None:
    provider = Catalog().get("gitlab")
    request = revoke_request(provider, replace(CREDENTIAL, params={"instance": "git.acme.example"}))
    assert request is not None
    assert (request.url, request.host_is_fixed) == ("https://git.acme.example/oauth/revoke", False)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", Verdict.DEAD_GRANT),
        (204, b"", Verdict.DEAD_GRANT),
        (200, b"<html>", Verdict.DEAD_GRANT),
        (400, b'{"error": "invalid_token"}', Verdict.DEAD_GRANT),
        (400, b'{"error": "invalid_grant"}', Verdict.DEAD_GRANT),
        (503, b"", Verdict.NOT_ACTED),
        (500, b'{"error": "invalid_token"}', Verdict.NOT_ACTED),
        (429, b"", Verdict.NOT_ACTED),
        (401, b'{"error": "invalid_client"}', Verdict.CLIENT_REFUSED),
        (400, b'{"error": "invalid_request"}', Verdict.REQUEST_REFUSED),
        (400, b'{"error": "unsupported_token_type"}', Verdict.UNCLEAR),
        (302, b"", Verdict.UNCLEAR),
        (404, b"", Verdict.UNCLEAR),
    ],
)
def test_only_a_success_or_a_token_that_is_not_known_ends_it(status: int, body: bytes, verdict: Verdict) -> None:
    assert read(status, body) == (verdict, None)


def test_a_server_that_asks_for_time_is_given_it() -> None:
    assert read(503, retry_after="7") == (Verdict.NOT_ACTED, 7.0)


@pytest.mark.parametrize(
    ("token_url", "revoke_url"),
    [
        (None, "https://oauth2.googleapis.com/revoke"),
        ("https://oauth2.googleapis.com/v9/token", "https://oauth2.googleapis.com/v9/revoke"),
        ("https://proxy.example/token", "https://proxy.example/revoke"),
        ("https://proxy.example/google/token", "https://proxy.example/google/revoke"),
        ("https://proxy.example/of/google", "https://proxy.example/revoke"),
    ],
)
def test_who_moves_the_token_endpoint_revokes_beside_it_and_never_at_the_old_host(
    token_url: str | None, revoke_url: str
) -> None:
    override = SimpleNamespace(token_url=token_url, authorize_url=None, scope="calendar")
    assert Catalog(overrides={"GOOGLE": override}).get("google").revoke_url == revoke_url


def test_an_endpoint_at_a_host_of_its_own_moves_with_the_token_endpoint() -> None:
    override = SimpleNamespace(
        token_url="https://proxy.example/q/oauth2/v1/tokens/bearer", authorize_url=None, scope=None
    )
    quickbooks = Catalog(overrides={"QUICKBOOKS": override}).get("quickbooks")
    assert quickbooks.revoke_url == "https://proxy.example/q/v2/oauth2/tokens/revoke"


def test_a_provider_without_revocation_stays_without_when_it_is_moved() -> None:
    override = SimpleNamespace(token_url="https://proxy.example/token", authorize_url=None, scope=None)
    assert Catalog(overrides={"GOHIGHLEVEL": override}).get("gohighlevel").revoke_url is None


def test_who_moves_the_token_endpoint_asks_no_old_host_about_a_token() -> None:
    """Nor does a row have to name the old host any more."""
    override = SimpleNamespace(
        token_url="https://login.acme.example/realms/{realm}/protocol/openid-connect/token",
        authorize_url=None,
        scope=None,
    )
    provider = Catalog(overrides={"KEYCLOAK": override}).get("keycloak")
    request = introspection_request(provider, replace(CREDENTIAL, params={"realm": "acme"}), "access")
    assert request is not None
    assert request.url.startswith("https://login.acme.example/realms/acme/protocol/openid-connect/token/introspect")
