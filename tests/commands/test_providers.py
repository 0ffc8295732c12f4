"""`providers`: what is listed and shown with and without a set-up, and what is made of a server's own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers import Catalog
from providers.base import Provider
from providers.login import Login
from providers.registry import read_catalog
from tests.conftest import World
from tests.world.http import HTTPServer, Request, Response
from token_refresh.base.errors import Kind, exit_code
from token_refresh.clients.provider_facts import redirect_hint, refresh_token_hint

KEYS = {
    "slug", "name", "grant", "rotates", "replay", "lifetime", "refresh_lifetime", "pkce", "redirect", "device",
    "revoke", "docs", "checked", "unsure",
}  # fmt: skip
AS_OAUTH = "/.well-known/oauth-authorization-server"
AS_OPENID = "/.well-known/openid-configuration"
LARGEST_BYTES = 1024 * 1024


# What there is


def test_all_are_listed_those_of_a_file_of_ones_own_too(world: World) -> None:
    run = world.program.run("providers")
    lines = run.out.splitlines()
    assert run.code == 0
    assert {line.split()[0] for line in lines[1:]} == {*Catalog().summaries, *_own(world)}
    [google] = [line for line in lines if line.startswith("google ")]
    assert google.split()[1:] == ["Google", "59", "min", "stays", "browser;", "device"]


def test_all_as_json_have_the_same_members_each(world: World) -> None:
    entries = world.program.run("providers", "--json").json()["providers"]
    assert [set(entry) for entry in entries] == [KEYS] * len(entries)
    assert [entry["slug"] for entry in entries] == sorted({*Catalog().summaries, *_own(world)})
    assert {type(entry[name]) for entry in entries for name in ("device", "revoke")} == {bool}


def test_one_is_shown_by_any_of_its_names_with_the_way_to_make_its_app(world: World) -> None:
    shown = world.program.run("providers", "GHL").out.splitlines()
    assert shown[0] == "GoHighLevel (gohighlevel, highlevel, ghl)"
    assert "Access token: 23 h 59 min" in shown
    assert "Refresh token: changes; ends after 365 days without a refresh" in shown
    assert "A used refresh token: may be sent again for 30 seconds and then is refused" in shown
    steps = shown[shown.index("To make the app:") + 1 : -2]
    assert [step.partition(". ")[0] for step in steps] == [str(number) for number in range(1, len(steps) + 1)]
    assert shown[-1].endswith("onboard_client.py --authorize --provider gohighlevel")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("exact-online", "A refresh is accepted: in the last 30 seconds of an access token's life"),
        ("amazon-lwa", "Refresh token: stays; ends 365 days after the login in any case"),
        ("microsoft", "Client secret: ends after 730 days at most"),
        ("microsoft", "What a row may name: tenant (usually common), scope"),
        ("keycloak", "What a row has to name: host, realm"),
        ("salesforce", "A used refresh token: ends the whole login when it is sent again"),
        ("meta", "Refresh token: none, the access token is renewed"),
        ("mailchimp", "Refresh token: none, nothing is refreshed"),
        ("zoom", "What its page promises of a revocation: nothing; remove the app at the provider to be sure"),
        ("google", "What its page promises of a revocation: the login ends with it"),
        (
            "ebay",
            "Redirect URI to enter: the name that the provider gives to a page of yours; its address line is"
            " pasted back",
        ),
        ("linkedin", "Setting of the app: ask for programmatic refresh tokens, which only approved partners have"),
    ],
)
def test_what_is_shown_is_what_the_catalogue_says(world: World, name: str, line: str) -> None:
    assert line in world.program.run("providers", name).out.splitlines()


def test_where_nobody_can_log_in_there_is_no_redirect_uri_to_enter(world: World) -> None:
    shown = world.program.run("providers", "acme").out
    assert ("Token endpoint: " in shown, "Redirect URI" in shown) == (True, False)


@pytest.mark.parametrize(
    ("login", "hint"),
    [
        (Login(refresh_setting="switch on refresh tokens"), "In the app's settings at Acme: switch on refresh tokens."),
        (
            Login(scopes=("offline",), authorize_params={"access": "offline", "tenant": "{tenant}"}),
            "Acme gives one for the scope offline and access=offline: check that the app may ask for that, then",
        ),
        (Login(), "Check the app's settings at Acme, then"),
    ],
)
def test_a_login_without_a_refresh_token_says_what_brings_one(login: Login, hint: str) -> None:
    provider = Provider("acme", "Acme", "https://acme.example/token", login=login)
    said = refresh_token_hint(provider)
    assert said.startswith(hint)
    assert said.lower().endswith("then log in again.")


def test_one_as_json_is_its_entry_alone(world: World) -> None:
    assert world.program.run("providers", "quickbooks", "--json").json() == {
        "slug": "quickbooks",
        "name": "QuickBooks Online",
        "grant": "refresh_token",
        "rotates": "sometimes",
        "replay": "once",
        "lifetime": 3600,
        "refresh_lifetime": 100 * 86_400,
        "pkce": "none",
        "redirect": "https",
        "device": False,
        "revoke": True,
        "docs": Catalog().get("quickbooks").docs,
        "checked": "2026-11-28",
        "unsure": ["replay", "revoke"],
    }


@pytest.mark.parametrize("argv", [(), ("slack",), ("slack", "--json")])
def test_nothing_has_to_be_set_up(world: World, argv: tuple[str, ...]) -> None:
    world.program.settings.clear()
    run = world.program.run("providers", *argv)
    assert (run.code, run.err) == (0, "")
    assert "Slack" in run.out


def test_an_unknown_name_is_quoted_and_the_near_one_suggested(world: World) -> None:
    run = world.program.run("providers", "gogle")
    assert run.code == exit_code([Kind.USAGE])
    assert run.out == ""
    assert "there is no provider 'gogle'" in run.err
    assert "Did you mean google?" in run.err


@pytest.mark.parametrize(
    "provider", [one for one in read_catalog() if one.login.app_steps], ids=lambda one: str(one.slug)
)
def test_the_steps_name_the_redirect_uri_that_the_login_uses(provider: Provider) -> None:
    uri, *_ = redirect_hint(provider).split()
    words = {word.strip(",;.") for step in provider.login.app_steps for word in step.split()}
    assert uri in words
    assert {word for word in words if word.endswith("/callback")} == {uri}
    assert 4 <= len(provider.login.app_steps) <= 8


# What a server says of itself


class Described:
    """An authorization server; `pages` are its answers by path, and everything else is 404."""

    def __init__(self) -> None:
        self.pages: dict[str, Response] = {}
        self.server = HTTPServer(lambda request: self._answer(request))

    def _answer(self, request: Request) -> Response:
        return self.pages.get(request.path, Response(404, b"{}"))

    @property
    def issuer(self) -> str:
        return self.server.url

    @property
    def asked(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.server.requests]

    def says(self, path: str = "", **changed: object) -> Response:
        """The description of the issuer at this path, with these members changed; None takes one out."""
        issuer = f"{self.issuer}{path}"
        usual = {"issuer": issuer, "token_endpoint": f"{issuer}/token", "authorization_endpoint": f"{issuer}/authorize"}
        content = usual | changed
        return Response.of_json(200, {name: of for name, of in content.items() if of is not None})


@pytest.fixture
def described() -> Iterator[Described]:
    made = Described()
    with made.server:
        yield made


def _discovered(world: World, issuer: str) -> dict[str, Any]:
    """What the entry that was printed means to the program: its own provider, from a PROVIDERS_FILE."""
    run = world.program.run("providers", "--discover", issuer)
    assert run.code == 0, run.err
    own = Path(world.program.home) / "discovered.toml"
    own.write_text(run.out)
    catalog = Catalog(own)
    [slug] = set(catalog.summaries) - set(Catalog().summaries)
    return {"slug": slug, **vars(catalog.get(slug))}


def _refused(world: World, issuer: str) -> str:
    run = world.program.run("providers", "--discover", issuer)
    assert run.out == ""
    assert run.code != 0
    return run.err


def test_what_is_printed_is_a_table_that_the_providers_file_takes(world: World, described: Described) -> None:
    issuer = described.issuer
    described.pages[AS_OAUTH] = described.says(
        revocation_endpoint=f"{issuer}/revoke",
        introspection_endpoint=f"{issuer}/introspect",
        device_authorization_endpoint=f"{issuer}/device",
        token_endpoint_auth_methods_supported=["private_key_jwt", "client_secret_post"],
        scopes_supported=["openid", "offline_access"],
        code_challenge_methods_supported=["plain", "S256"],
        authorization_response_iss_parameter_supported=True,
    )
    found = _discovered(world, issuer)
    assert found["slug"] == "127-0-0-1"
    addresses = ("token_url", "authorize_url", "revoke_url", "introspect_url", "device_url")
    paths = ("token", "authorize", "revoke", "introspect", "device")
    assert {name: found[name] for name in addresses} == {
        name: f"{issuer}/{path}" for name, path in zip(addresses, paths, strict=True)
    }
    assert (found["auth"], found["rotates"], found["replay"]) == ("body", "always", "once")
    login: Login = found["login"]
    assert (login.scopes, login.pkce, login.issuer, login.iss_required) == (
        ("offline_access",), "supported", issuer, True,
    )  # fmt: skip
    assert login.authorize_params == {"prompt": "consent"}  # OpenID Connect Core, section 11
    assert described.asked == [("GET", AS_OAUTH)]


def test_as_json_the_table_is_one_text(world: World, described: Described) -> None:
    described.pages[AS_OAUTH] = described.says()
    printed = world.program.run("providers", "--discover", described.issuer).out
    as_json = world.program.run("providers", "--discover", described.issuer, "--json").json()
    assert as_json == {"table": printed}


def test_an_issuer_with_a_path_is_asked_in_both_places(world: World, described: Described) -> None:
    """RFC 8414 section 3.1 puts the path behind, OpenID Connect Discovery section 4 before."""
    issuer = f"{described.issuer}/realms/one"
    described.pages[f"/realms/one{AS_OPENID}"] = described.says("/realms/one")
    found = _discovered(world, issuer)
    assert found["token_url"] == f"{issuer}/token"
    assert found["slug"] == "127-0-0-1-realms-one"
    assert described.asked == [("GET", f"{AS_OAUTH}/realms/one"), ("GET", f"/realms/one{AS_OPENID}")]


@pytest.mark.parametrize(
    ("offered", "auth"),
    [
        (None, "basic"),  # RFC 8414 section 2: the default
        (["client_secret_basic", "client_secret_post"], "body"),
        (["client_secret_basic"], "basic"),
        (["none"], "none"),
        (["private_key_jwt"], "body"),
        ("client_secret_post", "basic"),
    ],
)
def test_the_way_of_authentication_is_one_that_the_server_offers(
    world: World, described: Described, offered: object, auth: str
) -> None:
    described.pages[AS_OAUTH] = described.says(token_endpoint_auth_methods_supported=offered)
    assert _discovered(world, described.issuer)["auth"] == auth


def test_what_a_server_writes_stays_text_in_the_table(world: World, described: Described) -> None:
    """A description is somebody else's: nothing of it may become a key or a table of its own."""
    odd = f'{described.issuer}/authorize?hint=a"\n[google]\ntoken_url = "https://evil.example/token"'
    described.pages[AS_OAUTH] = described.says(authorization_endpoint=odd)
    run = world.program.run("providers", "--discover", described.issuer)
    assert [line for line in run.out.splitlines() if line.startswith("[")] == ["[127-0-0-1]"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"issuer": "https://other.example"}, "names another issuer"),
        ({"issuer": None}, "names another issuer"),
        ({"token_endpoint": None}, "names no token endpoint"),
        ({"token_endpoint": ["https://idp.example/token"]}, "names no token endpoint"),
        ({"token_endpoint": "http://idp.example/token"}, "not a plain https address"),
        ({"revocation_endpoint": "ftp://idp.example"}, "not a plain https address"),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_trusted_prints_no_table(
    world: World, described: Described, changed: dict[str, Any], sentence: str
) -> None:
    described.pages[AS_OAUTH] = described.says(**changed)
    assert sentence in _refused(world, described.issuer)


def test_a_slash_at_the_end_is_another_issuer(world: World, described: Described) -> None:
    described.pages[AS_OAUTH] = described.says()
    assert "with or without a slash" in _refused(world, f"{described.issuer}/")


@pytest.mark.parametrize("body", [b"<html>Not here</html>", b"[]", b"", b"[" * 100_000, b"\xff\xfe"], ids=repr)
def test_what_is_no_json_object_describes_nothing(world: World, described: Described, body: bytes) -> None:
    described.pages |= {AS_OAUTH: Response(200, body), AS_OPENID: Response(200, body)}
    assert "no JSON object" in _refused(world, described.issuer)


def test_a_page_that_stands_for_every_address_does_not_hide_the_description(world: World, described: Described) -> None:
    described.pages |= {AS_OAUTH: Response(200, b"<html>Welcome</html>"), AS_OPENID: described.says()}
    assert _discovered(world, described.issuer)["token_url"] == f"{described.issuer}/token"


def test_a_redirect_is_not_followed(world: World, described: Described) -> None:
    described.pages["/elsewhere"] = described.says()
    for path in (AS_OAUTH, AS_OPENID):
        described.pages[path] = Response(302, b"", {"Location": f"{described.issuer}/elsewhere"})
    assert "HTTP 302" in _refused(world, described.issuer)
    assert ("GET", "/elsewhere") not in described.asked


def test_more_than_a_mebibyte_is_not_read(world: World, described: Described) -> None:
    large = described.says(padding="x" * LARGEST_BYTES)
    described.pages |= {AS_OAUTH: large, AS_OPENID: large}
    assert "too large" in _refused(world, described.issuer)


def test_a_server_without_a_description_is_named_with_what_to_do(world: World, described: Described) -> None:
    said = _refused(world, described.issuer)
    assert f"{described.issuer} does not describe itself (HTTP 404)" in said
    assert "docs/providers.md" in said


@pytest.mark.parametrize("issuer", ["https://10.0.0.5", "https://169.254.169.254/latest", "https://[fd00::1]"])
def test_a_private_address_is_not_asked(world: World, issuer: str) -> None:
    said = _refused(world, issuer)
    assert "ALLOWED_PRIVATE_HOSTS" in said


@pytest.mark.parametrize(
    "issuer", ["http://idp.example", "idp.example", "https://idp.example?a=b", "file:///etc/passwd"]
)
def test_what_is_no_https_address_is_not_asked(world: World, issuer: str) -> None:
    assert "not a plain https address" in _refused(world, issuer)


def test_a_discovery_needs_a_set_up(world: World) -> None:
    """It makes a request, and how that leaves this machine is said by the settings."""
    world.program.settings.clear()
    run = world.program.run("providers", "--discover", "https://idp.example", "--json")
    assert run.code == exit_code([Kind.CONFIGURATION])
    assert json.loads(run.out)["error"]["code"] == "configuration"


def _own(world: World) -> set[str]:
    return set(Catalog(Path(world.program.settings["PROVIDERS_FILE"])).summaries) - set(Catalog().summaries)
