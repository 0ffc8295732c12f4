"""The catalogue: each key of it, each mistake in a file of one's own, and what a row may put into an address."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from providers import Catalog, CatalogError, ProviderError, origin_of
from providers.base import Credential, Provider, ProviderSummary
from providers.entries import QUIRKS
from providers.registry import CATALOG_FOLDER, read_catalog

COMPLETE = """
[acme]
name = "Acme"
aliases = ["Acme Inc.", "ajax"]
token_url = "https://{instance}/oauth/token"
authorize_url = "https://{instance}/oauth/authorize?owner=user"
revoke_url = "https://{instance}/oauth/revoke"
introspect_url = "https://{instance}/oauth/introspect"
auth = "basic"
encoding = "json"
params = { audience = "api", tenant = "{tenant}" }
placeholders = { instance = "acme.example", tenant = "" }
rotates = "sometimes"
replay = "last_minute"
lifetime = 1200
earliest = 30
unreliable_invalid_grant = true
former_origins = ["https://old.example", "https://older.example:8443"]
errors = { reauthorize = ["gone"], client = ["app_gone"], row = ["bad_region"], maintenance = ["asleep"] }
docs = "https://acme.example/docs/oauth"
"""
ROOT = Path(__file__).resolve().parents[2]
TOKEN_URL = '[acme]\ntoken_url = "https://acme.example/token"\n'


@dataclass(frozen=True)
class Override:
    """What settings say of a provider."""

    token_url: str | None = None
    authorize_url: str | None = None
    scope: str | None = None


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    return tmp_path / "providers.toml"


def catalog_of(path: Path, text: str, **overrides: Override) -> Catalog:
    path.write_text(text, encoding="utf-8")
    return Catalog(path, overrides)


def acme(path: Path, text: str, **overrides: Override) -> Provider:
    return catalog_of(path, text, **overrides).get("acme")


# What a file says


def test_every_key_is_read(own_file: Path) -> None:
    provider = acme(own_file, COMPLETE)
    assert (provider.slug, provider.name, provider.auth, provider.encoding) == ("acme", "Acme", "basic", "json")
    assert provider.aliases == ("Acme Inc.", "ajax")
    assert provider.unreliable_invalid_grant
    assert (provider.rotates, provider.replay) == ("sometimes", "last_minute")
    assert (provider.lifetime, provider.default_lifetime, provider.earliest) == (1200, 1200, 30)
    assert provider.placeholders == {"instance": "acme.example", "tenant": ""}
    assert provider.former_origins == ("https://old.example", "https://older.example:8443")
    assert provider.error_codes.reauthorize == {"gone"}
    assert provider.error_codes.client == {"app_gone"}
    assert provider.error_codes.row == {"bad_region"}
    assert provider.error_codes.maintenance == {"asleep"}
    assert provider.revoke_url == "https://{instance}/oauth/revoke"
    assert provider.introspect_url == "https://{instance}/oauth/introspect"
    assert provider.authorize_url == "https://{instance}/oauth/authorize?owner=user"
    assert provider.docs == "https://acme.example/docs/oauth"


def test_a_token_url_alone_makes_a_provider_that_is_assumed_to_rotate(own_file: Path) -> None:
    provider = acme(own_file, TOKEN_URL)
    assert (provider.name, provider.auth, provider.encoding) == ("acme", "body", "form")
    assert (provider.rotates, provider.replay, provider.default_lifetime) == ("always", "once", 3600)
    assert provider.refresh_request(Credential("app", "s", "r", {})).url == "https://acme.example/token"


def test_a_file_with_a_byte_order_mark_is_read(own_file: Path) -> None:
    own_file.write_bytes(b"\xef\xbb\xbf" + TOKEN_URL.encode())
    assert Catalog(own_file).get("acme").name == "acme"


def test_an_own_entry_replaces_the_built_in_one_and_keeps_its_quirk(own_file: Path) -> None:
    catalog = catalog_of(own_file, '[gohighlevel]\ntoken_url = "https://highlevel.example/token"\n')
    assert catalog.get("gohighlevel").token_url == "https://highlevel.example/token"
    assert type(catalog.get("gohighlevel")) is type(Catalog().get("gohighlevel"))
    assert catalog.get("google") == Catalog().get("google")


def test_every_built_in_provider_can_make_a_request() -> None:
    for provider in read_catalog():
        params = {name: "acme" for name, default in provider.placeholders.items() if default is None}
        request = provider.refresh_request(Credential("app", "secret", "refresh", params))
        assert origin_of(request.url).startswith("https://")
        assert provider.docs.startswith("https://")


MISTAKES = {
    "token_url missing": ('[acme]\nname = "Acme"', "token_url is missing", "Write [acme]"),
    "no table": ("acme = 1", "token_url is missing", "Write [acme]"),
    "former name of a key": (
        TOKEN_URL + "doubtful_refusals = true", "doubtful_refusals is called unreliable_invalid_grant now", "Rename",
    ),
    "unknown key": (TOKEN_URL + "color = 1", "no key color", "Use name, aliases, token_url"),
    "text as number": (TOKEN_URL + 'lifetime = "3600"', "lifetime has the wrong type", "a whole number"),
    "float as number": (TOKEN_URL + "lifetime = 3600.0", "lifetime has the wrong type", "a whole number"),
    "bool for int": (TOKEN_URL + "lifetime = true", "lifetime has the wrong type", "a whole number"),
    "number as text": (TOKEN_URL + "name = 1", "name has the wrong type", "a text in quotes"),
    "text as table": (TOKEN_URL + 'params = "audience"', "params has the wrong type", "a table in braces"),
    "text as list": (TOKEN_URL + 'former_origins = "https://a.example"', "former_origins has the wrong type", "a list"),
    "bad auth": (TOKEN_URL + 'auth = "digest"', "auth is 'digest'", "Use body, basic, basic_plain, basic_secret, none"),
    "bad encoding": (TOKEN_URL + 'encoding = "xml"', "encoding is 'xml'", "Use form, json"),
    "bad rotates": (TOKEN_URL + 'rotates = "yes"', "rotates is 'yes'", "Use always, sometimes, never"),
    "bad replay": (TOKEN_URL + 'replay = "twice"', "replay is 'twice'", "Use safe, once, last_minute"),
    "account elsewhere": (TOKEN_URL + 'account = "token.id"', "account is 'token.id'", "answer.PATH or callback.NAME"),
    "pattern that is none": (TOKEN_URL + 'client_id_pattern = "("', "client_id_pattern: ", "Correct the pattern"),
    "negative lifetime": (TOKEN_URL + "lifetime = -1", "lifetime is out of range", "Write seconds"),
    "negative earliest": (TOKEN_URL + "earliest = -1", "earliest is out of range", "Write seconds"),
    "endless lifetime": (TOKEN_URL + "lifetime = 99999999999999", "lifetime is out of range", "ten years"),
    "number in params": (TOKEN_URL + "params = { a = 1 }", "params holds something that is not text", "in quotes"),
    "name that rows keep": (
        '[acme]\ntoken_url = "https://{account}.acme.example/token"', "keeps something else as account", "otherwise",
    ),
    "number in placeholders": (TOKEN_URL + "placeholders = { a = 1 }", "placeholders holds", "in quotes"),
    "number in former_origins": (TOKEN_URL + "former_origins = [1]", "former_origins holds", "in quotes"),
    "number in aliases": (TOKEN_URL + "aliases = [1]", "aliases holds", "in quotes"),
    "former origin with a path": (TOKEN_URL + 'former_origins = ["https://a.example/x"]', "former_origins", "https://HOST"),
    "former origin that is none": (TOKEN_URL + 'former_origins = ["acme"]', "former_origins", "https://HOST"),
    "former origin in capitals": (TOKEN_URL + 'former_origins = ["https://A.example"]', "former_origins", "https://HOST"),
    "unknown kind of error": (TOKEN_URL + 'errors = { fatal = ["x"] }', "errors has no kind fatal", "Use reauthorize"),
    "error codes as a text": (TOKEN_URL + 'errors = { client = "gone" }', "errors, client, is no list", '["code"]'),
    "error codes as numbers": (TOKEN_URL + "errors = { client = [400] }", "errors, client, is no list", '["code"]'),
    "error codes as tables": (TOKEN_URL + "errors = { client = [{}] }", "errors, client, is no list", '["code"]'),
    "http": ('[acme]\ntoken_url = "http://acme.example/token"', "token_url: ", "Write https://HOST/PATH"),
    "no scheme": ('[acme]\ntoken_url = "acme.example/token"', "token_url: ", "Write https://HOST/PATH"),
    "user": ('[acme]\ntoken_url = "https://me@acme.example/token"', "token_url: ", "Write https://HOST/PATH"),
    "query": ('[acme]\ntoken_url = "https://acme.example/token?a=b"', "token_url: ", "Write https://HOST/PATH"),
    "empty query": ('[acme]\ntoken_url = "https://acme.example/token?"', "token_url: ", "Write https://HOST/PATH"),
    "fragment": ('[acme]\ntoken_url = "https://acme.example/token#x"', "token_url: ", "Write https://HOST/PATH"),
    "backslash": ("[acme]\ntoken_url = 'https://acme.example\\x/token'", "token_url: ", "Write https://HOST/PATH"),
    "blank": ('[acme]\ntoken_url = "https://acme.example/to ken"', "token_url: ", "Write https://HOST/PATH"),
    "other alphabet": ('[acme]\ntoken_url = "https://äcme.example/token"', "token_url: ", "Write https://HOST/PATH"),
    "no host": ('[acme]\ntoken_url = "https:///token"', "token_url: ", "Write https://HOST/PATH"),
    "port": ('[acme]\ntoken_url = "https://acme.example:99999/token"', "token_url: ", "Write https://HOST/PATH"),
    "capital placeholder": ('[acme]\ntoken_url = "https://{Instance}/token"', "token_url: ", "Write https://HOST/PATH"),
    "capital placeholder in path": ('[acme]\ntoken_url = "https://a.example/{T}"', "token_url: ", "https://HOST/PATH"),
    "default that escapes": (
        '[acme]\ntoken_url = "https://{host}/t"\nplaceholders = { host = "a.example/../x" }', "token_url: ", "https://HOST"
    ),
    "http revocation": (TOKEN_URL + 'revoke_url = "http://acme.example/r"', "revoke_url: ", "https://HOST/PATH"),
    "http introspection": (TOKEN_URL + 'introspect_url = "http://acme.example/i"', "introspect_url: ", "https://HOST"),
    "http login": (TOKEN_URL + 'authorize_url = "http://acme.example/a?b=c"', "authorize_url: ", "https://HOST/PATH"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_a_sentence_naming_provider_and_key_and_its_fix(own_file: Path, name: str) -> None:
    text, what, mend = MISTAKES[name]
    with pytest.raises(CatalogError) as caught:
        catalog_of(own_file, text)
    sentence, action = str(caught.value), caught.value.action
    assert sentence.startswith("Provider acme: ")
    assert what in sentence
    assert mend in action
    assert action.endswith(".")
    assert "\n" not in sentence + action


@pytest.mark.parametrize("content", [b"[acme", b"acme", b'[acme]\nname = "a"\nname = "b"', b'[acme]\nname = "\xff"'])
def test_a_file_that_is_no_toml_or_no_utf8_is_named(own_file: Path, content: bytes) -> None:
    own_file.write_bytes(content)
    with pytest.raises(CatalogError, match="is not TOML") as caught:
        Catalog(own_file)
    assert str(own_file) in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_named_with_the_setting(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(CatalogError, match="cannot be read") as caught:
            Catalog(path)
        assert str(path) in str(caught.value)
        assert caught.value.action == "Correct PROVIDERS_FILE."


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gohighlevel", "gohighlevel"), ("GoHighLevel", "gohighlevel"), ("HighLevel", "gohighlevel"),
        ("ghl", "gohighlevel"), (" G.H.L ", "gohighlevel"), ("go-high level", "gohighlevel"),
        ("github", "github-app"), ("GITHUB_APP", "github-app"), ("GitHub App", "github-app"),
        ("Exact Online", "exact-online"), ("QuickBooks Online", "quickbooks"),
    ],
)  # fmt: skip
def test_a_name_counts_without_case_blanks_and_signs(name: str, meant: str) -> None:
    assert Catalog().slug_of(name) == meant
    assert Catalog().get(name).slug == meant


@pytest.mark.parametrize("name", ["", " ", "-", "…", "nobody", "goo", "googles"])
def test_another_name_means_nobody(name: str) -> None:
    assert Catalog().slug_of(name) is None


def test_no_two_built_in_providers_share_a_name() -> None:
    catalog = Catalog()
    for summary in catalog.summaries.values():
        assert [catalog.slug_of(name.upper()) for name in summary.spellings] == [summary.slug] * len(summary.spellings)


def test_an_own_slug_wins_over_a_name_of_another_provider(own_file: Path) -> None:
    text = '[github]\ntoken_url = "https://github.example/token"\n[hub]\ntoken_url = "https://hub.example/token"\n'
    catalog = catalog_of(own_file, text + 'aliases = ["google", "my-hub"]\n')
    slugs = [catalog.slug_of(name) for name in ("GitHub", "github-app", "Google", "google", "MY HUB")]
    assert slugs == ["github", "github-app", "google", "google", "hub"]


def test_a_name_that_several_providers_share_means_none_of_them(own_file: Path) -> None:
    """Nobody could tell which one gets the secret."""
    text = "".join(TOKEN_URL.replace("acme", slug, 1) + 'name = "Acme"\n' for slug in ("acme-eu", "acme-us", "acme_us"))
    catalog = catalog_of(own_file, text)
    assert [catalog.slug_of(name) for name in ("Acme", "acme-eu", "ACME EU", "acme-us", "acme_us", "Acme US")] == [
        *(None, "acme-eu", "acme-eu", "acme-us", "acme_us", None),
    ]


@pytest.mark.parametrize(
    ("name", "meant"), [("gohighlevl", "gohighlevel"), ("Gogle", "google"), ("gitub", "github-app")]
)
def test_an_unknown_name_is_quoted_and_the_one_that_is_near_suggested(name: str, meant: str) -> None:
    with pytest.raises(ProviderError, match="there is no provider") as caught:
        Catalog().get(name)
    assert repr(name) in str(caught.value)
    assert f"Did you mean {meant}?" in caught.value.action


def test_a_name_that_resembles_none_lists_those_there_are(own_file: Path) -> None:
    catalog = catalog_of(own_file, TOKEN_URL)
    with pytest.raises(ProviderError) as caught:
        catalog.get("x" * 1000)
    assert len(str(caught.value)) < 100
    assert "acme" in caught.value.action
    assert "PROVIDERS_FILE" in caught.value.action


# What is read when


def test_the_index_says_what_the_files_say() -> None:
    names = [field.name for field in fields(ProviderSummary)]
    built_in = {one.slug: ProviderSummary(**{name: getattr(one, name) for name in names}) for one in read_catalog()}
    assert Catalog().summaries == built_in


def test_every_quirk_is_of_a_provider_that_is_there() -> None:
    classes = {one.slug: type(one) for one in read_catalog()}
    assert {slug for slug, kind in classes.items() if kind is not Provider} == set(QUIRKS)


def test_only_what_is_asked_for_is_read() -> None:
    """A start with a hundred entries reads the index, and the files of the providers that it meets."""
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, of: opened.append(str(of[0])) if event == 'open' else None)\n"
        "from providers import Catalog\n"
        "catalog = Catalog()\n"
        "catalog.slug_of('GitHub'), catalog.get('ghl'), catalog.get('gohighlevel')\n"
        f"print(*(name for name in opened if name.startswith({str(CATALOG_FOLDER)!r})))\n"
        "print(*(name for name in sys.modules if name.startswith('providers.')))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files, modules = (line.split() for line in run.stdout.splitlines())
    assert [Path(name).name for name in files] == ["index.json", "gohighlevel.toml"]
    light = ("base", "addresses", "login", "times", "answer_words", "entries", "index", "registry", "gohighlevel")
    assert set(modules) == {f"providers.{name}" for name in light}


# Overrides


def test_settings_override_addresses_and_bring_placeholders_of_their_own(own_file: Path) -> None:
    override = Override("https://login.example/{tenant}/token", "https://login.example/{tenant}/authorize")
    provider = acme(own_file, TOKEN_URL, ACME=override)
    assert provider.placeholders == {"tenant": None}
    assert provider.endpoint({"tenant": "t1"}).url == "https://login.example/t1/token"
    assert provider.endpoint({"tenant": "t1"}).is_fixed
    assert provider.authorize_url == "https://login.example/{tenant}/authorize"
    with pytest.raises(ProviderError, match="acme needs tenant"):
        provider.endpoint({})


def test_an_override_uses_the_defaults_of_the_catalogue(own_file: Path) -> None:
    text = '[acme]\ntoken_url = "https://{instance}/token"\nplaceholders = { instance = "acme.example" }'
    provider = acme(own_file, text, ACME=Override("https://{instance}/v2/token"))
    assert provider.endpoint({}).url == "https://acme.example/v2/token"


def test_an_override_of_the_login_alone_leaves_the_token_url(own_file: Path) -> None:
    provider = acme(own_file, TOKEN_URL, ACME=Override(authorize_url="https://login.example/authorize"))
    assert (provider.token_url, provider.authorize_url) == (
        "https://acme.example/token",
        "https://login.example/authorize",
    )


def test_a_hyphen_in_a_name_is_an_underscore_in_its_settings(own_file: Path) -> None:
    text = '[acme-two]\ntoken_url = "https://acme.example/token"\n'
    catalog = catalog_of(own_file, text, ACME_TWO=Override("https://two.example/token"))
    assert catalog.get("acme-two").token_url == "https://two.example/token"


@pytest.mark.parametrize("name", ["GOHIGHLEVEL", "HIGHLEVEL", "GHL", "GO_HIGH_LEVEL"])
def test_settings_may_use_any_name_of_a_provider(name: str) -> None:
    catalog = Catalog(overrides={name: Override("https://highlevel.example/token")})
    assert catalog.get("gohighlevel").token_url == "https://highlevel.example/token"


def test_settings_of_one_provider_under_two_names_are_refused() -> None:
    with pytest.raises(CatalogError) as caught:
        Catalog(overrides={"GHL": Override(), "GOHIGHLEVEL": Override("https://highlevel.example/token")})
    assert str(caught.value) == "GHL_… and GOHIGHLEVEL_… are settings of one provider, gohighlevel"
    assert caught.value.action == "Keep one of the two names."


def test_settings_that_look_like_a_providers_and_are_not_are_left_alone() -> None:
    assert Catalog(overrides={"MAIL": Override("nonsense")}).get("google") == Catalog().get("google")


@pytest.mark.parametrize(
    "url", ["http://acme.example/token", "https://a@b.example/t", "https://a.example/t?x", "nonsense"]
)
def test_an_override_that_cannot_be_used_is_refused(own_file: Path, url: str) -> None:
    with pytest.raises(CatalogError, match="Provider acme: token_url: "):
        acme(own_file, TOKEN_URL, ACME=Override(url))


# What a row may put into an address

WHOLE_HOST = Provider("acme", "Acme", "https://{instance}/oauth/token", placeholders={"instance": "acme.example"})
SUBDOMAIN = Provider("shop", "Shop", "https://{shop}.shops.example/oauth/token", placeholders={"shop": None})
PATH = Provider("login", "Login", "https://login.example/{tenant}/token", placeholders={"tenant": "common"})
ESCAPES = [
    "evil.example/", "/evil.example", "a@b", "x#", "x?", "../", "..", "a/../b", "%2f", "a%2fb", "a%00b",
    "evil.example\\", "a b", " ", "a\n", "\na", "a\r\nHost: evil.example", "a\tb", "evil\u3002example",
    "evil\uff0eexample",
    "\uff45vil.example", "exämple", "a\u200b", "a\u2024b", "[::1]", "::1", ".evil", "evil.", "-a", "a-", ":80", "a:",
    "https://evil.example", "//evil.example", "a;b", "a&b", "a=b", "{tenant}", "$x", "a" * 254,
    "@evil.example", "a." * 2000 + "a", "\ud800",
]  # fmt: skip


ADDRESSES = ("evil.example/", "https://evil.example")  # of a host, which may be written so where a whole host stands


@pytest.mark.parametrize("value", ESCAPES, ids=ascii)
@pytest.mark.parametrize("provider", [WHOLE_HOST, SUBDOMAIN, PATH], ids=lambda entry: str(entry.slug))
def test_a_value_that_tries_to_leave_its_place_is_refused(provider: Provider, value: str) -> None:
    [name] = provider.placeholders
    if provider is WHOLE_HOST and value in ADDRESSES:
        assert provider.endpoint({name: value}).origin == "https://evil.example"
        return
    with pytest.raises(ProviderError) as caught:
        provider.refresh_request(Credential("app", "secret", "refresh", {name: value}))
    assert value not in str(caught.value) or len(value) < 3
    assert caught.value.action


@pytest.mark.parametrize("value", ["evil.example:443", "a:1", "evil.example:80:90", "a..b", "a" * 64, "1::1"])
def test_a_value_that_makes_no_host_is_refused_in_a_subdomain(value: str) -> None:
    with pytest.raises(ProviderError):
        SUBDOMAIN.endpoint({"shop": value})


@given(value=st.text(max_size=40))
def test_no_value_moves_a_subdomain_or_a_path_to_another_host(value: str) -> None:
    for provider, ending in ((SUBDOMAIN, ".shops.example"), (PATH, "login.example")):
        [name] = provider.placeholders
        try:
            request = provider.refresh_request(Credential("app", "secret", "refresh", {name: value}))
        except ProviderError:
            continue
        seen = requests.Request("POST", request.url).prepare().url
        assert seen is not None
        assert (urlsplit(seen).hostname or "").endswith(ending)
        assert urlsplit(seen).path.endswith("/token")
        assert len(urlsplit(seen).path.split("/")) == 3


def test_the_host_is_fixed_unless_the_row_names_a_part_of_it() -> None:
    assert WHOLE_HOST.endpoint({}).is_fixed
    assert WHOLE_HOST.endpoint({"instance": ""}).is_fixed
    assert WHOLE_HOST.endpoint({"tenant": "x", "host": "evil.example"}).is_fixed
    assert not WHOLE_HOST.endpoint({"instance": "other.example"}).is_fixed
    assert not WHOLE_HOST.endpoint({"instance": "acme.example"}).is_fixed
    assert not SUBDOMAIN.endpoint({"shop": "one"}).is_fixed
    assert PATH.endpoint({"tenant": "t1"}).is_fixed
    assert PATH.endpoint({}).url == "https://login.example/common/token"


def test_is_fixed_reaches_the_request() -> None:
    for params in ({}, {"instance": "other.example"}):
        request = WHOLE_HOST.refresh_request(Credential("app", "s", "r", params))
        assert request.host_is_fixed == WHOLE_HOST.endpoint(params).is_fixed


def test_a_required_placeholder_that_the_row_lacks_is_named_with_the_fix() -> None:
    for params in ({}, {"shop": ""}):
        with pytest.raises(ProviderError, match="Shop needs shop") as caught:
            SUBDOMAIN.endpoint(params)
        assert '{"shop": "…"}' in caught.value.action


def test_params_are_filled_from_row_and_defaults_without_being_an_address() -> None:
    provider = Provider(
        "acme", "Acme", "https://acme.example/token",
        params={"audience": "{audience}", "resource": "x-{region}"},
        placeholders={"audience": None, "region": "eu"},
    )  # fmt: skip
    request = provider.refresh_request(Credential("app", "", "r", {"audience": "https://api.example/?a=b&c"}))
    assert dict(parse_qsl(request.body.decode()))["audience"] == "https://api.example/?a=b&c"
    assert dict(parse_qsl(request.body.decode()))["resource"] == "x-eu"


def test_braces_that_are_no_placeholder_stay_in_a_parameter(own_file: Path) -> None:
    provider = acme(own_file, TOKEN_URL + "params = { claims = '{\"a\": {}}' }")
    assert provider.placeholders == {}
    assert provider.filled(provider.params, {}) == {"claims": '{"a": {}}'}


# Origins


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://acme.example/token", "https://acme.example"),
        ("HTTPS://ACME.Example/Token", "https://acme.example"),
        ("https://acme.example", "https://acme.example"),
        ("https://acme.example:443/token", "https://acme.example"),
        ("https://acme.example:0443/token", "https://acme.example"),
        ("https://acme.example:/token", "https://acme.example"),
        ("https://acme.example:8443/token", "https://acme.example:8443"),
        ("https://acme.example./token", "https://acme.example"),
        ("https://xn--cme-qla.example/token", "https://xn--cme-qla.example"),
        ("https://[2001:DB8::1]/token", "https://[2001:db8::1]"),
        ("https://[2001:db8:0:0:0:0:0:1]:443/token", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:8443/token", "https://[2001:db8::1]:8443"),
        ("https://192.0.2.1/token", "https://192.0.2.1"),
        ("http://127.0.0.1:8080/token", "http://127.0.0.1:8080"),
        ("http://localhost:80/token", "http://localhost"),
        ("http://[::1]:8080/token", "http://[::1]:8080"),
        ("https://my_host.example/token", "https://my_host.example"),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert origin_of(url) == origin
    assert origin_of(origin) == origin


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "https:acme.example", "//acme.example", "ftp://acme.example", "http://acme.example",
        "http://127.0.0.2/", "http://localhost.evil.example/", "http://127.0.0.1.evil.example/", "http://[::2]/",
        "https://me:pw@acme.example/", "https://acme.example/?a", "https://acme.example/#a", "https://acme.example:x/",
        "https://acme.example:65536/", "https://acme.example:-1/", "https://äcme.example/", "https://acme\u3002example/",
        "https://acme.example\\@evil.example/", "https://acme.example\\evil/", "https://acme%2eexample/",
        "https://ac me.example/", "https://acme.example/a b", "https://acme.example\n/", " https://acme.example/",
        "https://acme..example/", "https://.acme.example/", "https://acme.example../", "https://-acme.example/",
        "https://[fe80::1%25eth0]/", "https://[::1", "https://::1/", "https://[127.0.0.1]/", "https://{host}/",
        "https://" + "a" * 64 + ".example/", "https://" + "a." * 127 + "ab/", "https://acme.example/\ud800",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_plain_https_address_has_no_origin(url: str) -> None:
    with pytest.raises(ProviderError, match="not a plain https address"):
        origin_of(url)


LABEL = r"[A-Za-z]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?"
HOSTS = st.from_regex(rf"{LABEL}(\.{LABEL}){{0,3}}", fullmatch=True)


@given(host=HOSTS, port=st.none() | st.integers(1, 65_535), path=st.sampled_from(["", "/", "/a/B"]))
def test_an_origin_does_not_depend_on_case_default_port_or_path(host: str, port: int | None, path: str) -> None:
    suffix = "" if port in (None, 443) else f":{port}"
    wanted = f"https://{host.lower()}{suffix}"
    written = f"https://{host}" + (f":{port}" if port is not None else "") + path
    assert origin_of(written) == origin_of(written.swapcase().replace("HTTPS", "https")) == wanted
    assert origin_of(wanted) == wanted


@given(rest=st.text(max_size=30))
def test_whatever_has_an_origin_is_sent_to_exactly_that_host(rest: str) -> None:
    url = f"https://{rest}"
    try:
        origin = origin_of(url)
    except ProviderError:
        return
    sent: Any = requests.Request("POST", url).prepare().url
    assert origin_of(sent.partition("?")[0]) == origin
