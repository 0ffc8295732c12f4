"""RFC 7009: where a revocation goes, what it carries, and what its answers mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest

from providers import Catalog
from providers.base import Credential, Provider, RawAnswer, Verdict
from providers.introspection import introspection_request
from providers.revocation import read_revocation, revocation_request

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ACME = Provider("acme", "Acme", "https://acme.example/token", revoke_url="https://acme.example/revoke")
CREDENTIAL = Credential("app", "hush", "grant-1", {})


def read(status: int, body: bytes = b"", retry_after: str = "") -> tuple[Verdict, float | None]:
    answer = read_revocation(ACME, RawAnswer(status, {"retry-after": retry_after}, body, NOW))
    return answer.verdict, answer.retry_after


def test_the_refresh_token_goes_as_a_form_with_its_kind_and_the_client() -> None:
    request = revocation_request(replace(ACME, encoding="json"), CREDENTIAL)
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
    assert revocation_request(replace(ACME, revoke_url=None), CREDENTIAL) is None


def test_another_host_is_asked_where_the_catalogue_alone_names_both() -> None:
    request = revocation_request(replace(ACME, revoke_url="https://api.example/revoke"), CREDENTIAL)
    assert request is not None
    assert request.url == "https://api.example/revoke"


@pytest.mark.parametrize(
    ("token_url", "revoke_url"),
    [("https://acme.example/token", "https://{host}/revoke"), ("https://{host}/token", "https://api.example/revoke")],
)
def test_a_row_that_moves_one_host_sends_nothing_to_the_other(token_url: str, revoke_url: str) -> None:
    provider = replace(ACME, token_url=token_url, revoke_url=revoke_url, placeholders={"host": "acme.example"})
    moved = replace(CREDENTIAL, params={"host": "evil.example"})
    assert revocation_request(provider, CREDENTIAL) is not None
    assert revocation_request(provider, moved) is None


def test_an_instance_of_its_own_is_asked_itself() -> None:
    provider = Catalog().get("gitlab")
    request = revocation_request(provider, replace(CREDENTIAL, params={"instance": "git.acme.example"}))
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
    ("token_url", "is_kept"),
    [
        (None, True),
        ("https://oauth2.googleapis.com/v9/token", True),
        ("https://proxy.example/token", False),
    ],
)
def test_who_moves_the_token_endpoint_does_not_revoke_at_the_old_host(token_url: str | None, is_kept: bool) -> None:
    override = SimpleNamespace(token_url=token_url, authorize_url=None, scope="calendar")
    catalog = Catalog(overrides={"GOOGLE": override})
    assert (catalog.get("google").revoke_url is not None) == is_kept


def test_a_token_endpoint_that_moves_to_the_host_of_the_revocation_keeps_it(tmp_path: Path) -> None:
    override = SimpleNamespace(token_url="https://developer.api.intuit.com/token", authorize_url=None, scope=None)
    assert Catalog(overrides={"QUICKBOOKS": override}).get("quickbooks").revoke_url is not None


def test_a_provider_without_revocation_stays_without_when_it_is_moved() -> None:
    override = SimpleNamespace(token_url="https://proxy.example/token", authorize_url=None, scope=None)
    assert Catalog(overrides={"GOHIGHLEVEL": override}).get("gohighlevel").revoke_url is None


@pytest.mark.parametrize(
    ("token_url", "is_kept"),
    [("https://{host}/auth/realms/{realm}/token", True), ("https://login.acme.example/realms/{realm}/token", False)],
)
def test_who_moves_the_token_endpoint_asks_no_old_host_about_a_token(token_url: str, is_kept: bool) -> None:
    """Nor does a row have to name the old host any more."""
    override = SimpleNamespace(token_url=token_url, authorize_url=None, scope=None)
    provider = Catalog(overrides={"KEYCLOAK": override}).get("keycloak")
    params = {"realm": "acme"} | ({"host": "login.acme.example"} if is_kept else {})
    request = introspection_request(provider, replace(CREDENTIAL, params=params), "access")
    assert (request is not None) == is_kept
