"""Every way to authenticate a client and to encode a request, against the strict fake."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import Catalog
from providers.authorization import scope_of
from providers.base import Credential, Provider, ProviderError, RawAnswer, Verdict
from providers.introspection import introspection_request
from tests.world.clock import FakeClock
from tests.world.oauth import OAuthServer
from token_refresh.net.transport import HTTPTransport


@pytest.fixture
def transport(clock: FakeClock) -> Iterator[HTTPTransport]:
    made = HTTPTransport(clock, 1)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("slug", "auth", "encoding"),
    [("acme-basic", "basic", "form"), ("acme-public", "none", "form"), ("acme-json", "body", "json")],
)
def test_other_ways_to_authenticate_and_encode_satisfy_the_fake(
    transport: HTTPTransport, oauth: OAuthServer, slug: str, auth: Any, encoding: Any
) -> None:
    secret = "" if auth == "none" else "s:e c/r€t%"
    oauth.add_client(slug, "app:1 €", secret)
    provider = Provider(slug, slug, oauth.token_url(slug), auth=auth, encoding=encoding)
    token = oauth.grant(slug, "app:1 €", location_id="loc")
    raw = transport.post(provider.refresh_request(Credential("app:1 €", "s:e c/r€t%", token, {})))
    assert isinstance(raw, RawAnswer)
    assert provider.read_answer(raw).verdict is Verdict.GRANTED
    assert oauth.violations == []


def test_a_server_that_does_not_decode_basic_credentials_gets_them_as_they_are(
    transport: HTTPTransport, oauth: OAuthServer
) -> None:
    """Form-encoded ones, as RFC 6749 asks for, it takes for a wrong secret."""
    oauth.add_client("acme-basic-plain", "app 1", "s:e c/r€t%2B")
    plain = Provider("acme", "Acme", oauth.token_url("acme-basic-plain"), auth="basic_plain")
    token = oauth.grant("acme-basic-plain", "app 1", location_id="loc")
    credential = Credential("app 1", "s:e c/r€t%2B", token, {})
    answers = [transport.post(one.refresh_request(credential)) for one in (replace(plain, auth="basic"), plain)]
    verdicts = [plain.read_answer(raw).verdict for raw in answers if isinstance(raw, RawAnswer)]
    assert verdicts == [Verdict.CLIENT_REFUSED, Verdict.GRANTED]


@pytest.mark.parametrize("auth", ["body", "basic", "basic_plain", "none"])
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_a_lone_surrogate_in_a_credential_still_makes_a_request(auth: Any, encoding: Any) -> None:
    provider = Provider("acme", "Acme", "https://acme.example/token", auth=auth, encoding=encoding)
    request = provider.refresh_request(Credential("app\ud800", "secret\udfff", "token\ud800", {}))
    assert request.body


def test_basic_credentials_are_encoded_before_they_are_joined() -> None:
    provider = Provider("acme", "Acme", "https://acme.example/token", auth="basic")
    request = provider.refresh_request(Credential("a:b", "c d+€", "r", {}))
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"a%3Ab:c+d%2B%E2%82%AC"
    assert b"client_id" not in request.body
    assert b"client_secret" not in request.body


def test_a_catalogue_parameter_comes_with_the_request(oauth: OAuthServer, transport: HTTPTransport) -> None:
    oauth.add_client("acme-audience", "app", "secret")
    provider = Provider("acme", "Acme", oauth.token_url("acme-audience"), params={"audience": "api"})
    token = oauth.grant("acme-audience", "app", location_id="loc")
    raw = transport.post(provider.refresh_request(Credential("app", "secret", token, {})))
    assert isinstance(raw, RawAnswer)
    assert provider.read_answer(raw).verdict is Verdict.GRANTED
    assert oauth.violations == []


def test_a_token_is_asked_about_where_the_secret_may_go_and_nowhere_else() -> None:
    """RFC 7662: the question carries the client secret, which is bound to the host of the token endpoint."""
    provider = Provider(
        "acme",
        "Acme",
        "https://{instance}/token",
        introspect_url="https://{instance}/introspect",
        placeholders={"instance": None},
    )
    credential = Credential("app", "secret", "r", {"instance": "one.example"})
    request = introspection_request(provider, credential, "access")
    assert request is not None
    assert request.url == "https://one.example/introspect"
    assert not request.host_is_fixed
    assert parse_qs(request.body.decode()) == {"token": ["access"], "client_id": ["app"], "client_secret": ["secret"]}
    elsewhere = replace(provider, introspect_url="https://other.example/introspect")
    assert introspection_request(elsewhere, credential, "access") is None
    assert introspection_request(replace(provider, introspect_url=None), credential, "access") is None


HOSTED = Provider("git", "Git", "https://{instance}/oauth/token", placeholders={"instance": "git.example"})


@pytest.mark.parametrize(
    ("written", "url", "origin"),
    [
        ("gitlab.example.com", "gitlab.example.com/oauth/token", "gitlab.example.com"),
        ("https://gitlab.example.com/", "gitlab.example.com/oauth/token", "gitlab.example.com"),
        ("HTTPS://GitLab.example.com", "GitLab.example.com/oauth/token", "gitlab.example.com"),
        ("http://gitlab.example.com:8443", "gitlab.example.com:8443/oauth/token", "gitlab.example.com:8443"),
        ("https://example.com/git/lab/", "example.com/git/lab/oauth/token", "example.com"),
        ("example.com/auth", "example.com/auth/oauth/token", "example.com"),
    ],
)
def test_an_instance_is_taken_from_its_address_with_the_path_below_which_it_lies(
    written: str, url: str, origin: str
) -> None:
    endpoint = HOSTED.endpoint({"instance": written})
    assert (endpoint.url, endpoint.origin) == (f"https://{url}", f"https://{origin}")
    assert not endpoint.is_fixed


@pytest.mark.parametrize(
    "written",
    [
        "https://", "/", "/path", "a/../b", "a/./b", "a//b", "a/b?c", "a/b#c", "user@a", "a/%2e%2e/b", "a\\b", "ftp://a/",
        "https://https://a", "a b/c", "{tenant}", "a/{tenant}",
    ],
)  # fmt: skip
def test_what_could_be_read_as_another_address_is_no_instance(written: str) -> None:
    with pytest.raises(ProviderError, match="name a instance that cannot stand in an address"):
        HOSTED.endpoint({"instance": written})


def test_only_what_stands_for_the_whole_host_may_bring_a_path() -> None:
    provider = Provider("x", "X", "https://login.{host}/{tenant}/token", placeholders={"host": None, "tenant": None})
    for params in ({"host": "a.example/b", "tenant": "t"}, {"host": "a.example", "tenant": "a/b"}):
        with pytest.raises(ProviderError, match="cannot stand in an address"):
            provider.endpoint(params)


PLACES = st.text("ab.:/-_~?#@%\\ [é", max_size=20)


@given(written=PLACES)
def test_whatever_stands_for_an_instance_the_secrets_are_for_the_host_that_is_asked(written: str) -> None:
    try:
        endpoint = HOSTED.endpoint({"instance": written})
    except ProviderError:
        return
    asked = urlsplit(endpoint.url)
    assert endpoint.origin == f"https://{asked.netloc.lower().removesuffix(':443')}".removesuffix(".")
    assert "@" not in asked.netloc
    assert asked.path.endswith("/oauth/token")
    assert not {"", ".", ".."} & set(asked.path.split("/")[1:])


@pytest.mark.parametrize("scope", ["a b", 'a"b', "a\\b", "\u00e4", "a\nb", ""])
def test_a_scope_that_cannot_be_one_is_not_sent(scope: str) -> None:
    """RFC 6749, section 3.3."""
    with pytest.raises(ProviderError, match="a scope holds a character that none can have"):
        scope_of(Catalog().get("google"), [scope])
