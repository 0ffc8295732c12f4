"""From rows to jobs: what a cell of parameters may hold and whose secret is sent."""

from __future__ import annotations

import base64
import dataclasses
import functools
import itertools
import json
import os
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import Context, Keyring, generate_key, parse_key
from providers import Catalog
from providers.base import Credential, Provider, ProviderError, TokenRequest
from providers.introspection import introspection_request
from providers.revocation import revocation_requests
from tests.callers import Listed
from token_refresh.refresh.jobs import Client, Job, JobFactory, UnusableRow, read_params
from token_refresh.stores.base import Row, Store
from token_refresh.stores.sealed import SealedStore

KEY = parse_key(generate_key())
KEYRING = Keyring(KEY)
OTHER_KEYRING = Keyring(parse_key(generate_key()))
FIXED = Provider("acme", "Acme", "https://acme.example/token")
NEVER = Provider("never", "Never", "https://never.example/token", rotates="never", replay="safe")
OWN_HOST = Provider("own", "Own", "https://{instance}/token", placeholders={"instance": None})
AUDIENCE = Provider(
    "audience", "Audience", "https://aud.example/token",
    params={"audience": "{audience}"}, placeholders={"audience": None},
)  # fmt: skip
TENANT = Provider("tenant", "Tenant", "https://acme.example/{tenant}/token", placeholders={"tenant": "common"})
REGIONAL = Provider("regional", "Regional", "https://{region}.acme.example/token", placeholders={"region": "eu"})
PROVIDERS = {provider.slug: provider for provider in (FIXED, NEVER, OWN_HOST, AUDIENCE, TENANT, REGIONAL)}
DEFAULT_CLIENT = Client("default-app", "default secret")
NUMBERS = itertools.count()


def revoke_request(provider: Provider, credential: Credential) -> TokenRequest | None:
    """The one request that ends the grant of this refresh token, if any."""
    requests = revocation_requests(provider, credential, "")
    return requests[0] if requests else None


def bench(client: Client = DEFAULT_CLIENT, accept_legacy: bool = True) -> JobFactory:
    # Opening a cell never asks the plain store.
    store = SealedStore(cast(Store, None), KEYRING, accept_legacy=accept_legacy, seal_access_tokens=False)
    return JobFactory(
        store,
        Listed(*PROVIDERS.values()),
        "acme",
        lambda name: client if name in ("acme", "own", "regional") else Client(),
    )


def row(
    token: str = "refresh-1",
    secret: str = "row secret",
    client_id: str = "row-app",
    location_id: str = "loc",
    provider: str = "acme",
    origin: str = "",
    **more: Any,
) -> Row:
    origin = origin or PROVIDERS[provider or "acme"].token_url.removesuffix("/token")
    return Row(
        key=f"rec{next(NUMBERS)}",
        location_id=location_id,
        client_id=client_id,
        encrypted_secret=KEYRING.seal(secret, Context("encrypted_secret", location_id, origin)) if secret else "",
        encrypted_refresh=KEYRING.seal(token, Context("encrypted_refresh", location_id, origin)),
        provider=provider,
        **more,
    )


def job(stored: Row, of: JobFactory | None = None) -> Job:
    made = (of or bench()).job(stored)
    assert isinstance(made, Job), made
    return made


def fault(stored: Row, of: JobFactory | None = None) -> UnusableRow:
    made = (of or bench()).job(stored)
    assert isinstance(made, UnusableRow)
    assert made.row is stored
    assert made.error.action
    return made


# Parameters


@pytest.mark.parametrize(
    ("cell", "params"),
    [
        ("", {}),
        ("{}", {}),
        ('{"tenant": "common"}', {"tenant": "common"}),
        (' {"a": "b", "c": ""} ', {"a": "b", "c": ""}),
        ('{"a": "1", "a": "2"}', {"a": "2"}),
    ],
)
def test_an_object_of_texts_is_read(cell: str, params: dict[str, str]) -> None:
    assert read_params(cell) == params


MISTAKEN = [
    "tenant=common", "null", "[]", '"tenant"', "42", "true", '{"a": 1}', '{"a": true}', '{"a": null}', '{"a": ["b"]}',
    '{"a": {"b": "c"}}', "{'a': 'b'}", '{"a": "b"', '{"a": "b",}', '{"a": ' + "9" * 5000 + "}", "[" * 100_000, "{a: b}",
]  # fmt: skip


@pytest.mark.parametrize("cell", MISTAKEN, ids=lambda cell: cell[:20])
def test_anything_else_in_the_cell_is_the_rows_fault_with_an_example(cell: str) -> None:
    told = fault(row(provider_params=cell))
    assert str(told.error) == "provider_params is not a JSON object of texts"
    assert '{"tenant": "common"}' in told.error.action


def test_a_parameter_that_a_row_lacks_for_its_address_or_request_is_named() -> None:
    missing = fault(row(provider="own", origin="https://one.example"))
    assert str(missing.error) == "Own needs instance, which the row does not name"
    assert str(fault(row(provider="audience")).error) == "Audience needs audience, which the row does not name"
    assert job(row(provider="audience", provider_params='{"audience": "api"}')).credential.params == {"audience": "api"}


def test_an_unknown_provider_is_the_rows_fault() -> None:
    told = fault(dataclasses.replace(row(), provider="acmee"))
    assert (told.provider, str(told.error)) == ("acmee", "there is no provider 'acmee'")


def test_a_row_without_provider_is_the_defaults() -> None:
    assert job(row(provider="")).provider is FIXED


# Whose secret goes where


@pytest.mark.parametrize(
    ("client_id", "secret", "sent"),
    [
        ("row-app", "row secret", ("row-app", "row secret")),
        ("row-app", "", ("row-app", "")),  # never the default's secret for another client
        ("", "", ("default-app", "default secret")),
        ("default-app", "", ("default-app", "default secret")),
        ("", "row secret", ("default-app", "row secret")),
        ("DEFAULT-APP", "", ("DEFAULT-APP", "")),
    ],
)
def test_the_default_secret_goes_with_the_default_client_alone(
    client_id: str, secret: str, sent: tuple[str, str]
) -> None:
    made = job(row(client_id=client_id, secret=secret))
    assert (made.credential.client_id, made.credential.client_secret) == sent
    form = parse_qs(made.provider.refresh_request(made.credential).body.decode())
    assert (form["client_id"], form.get("client_secret", [""])) == ([sent[0]], [sent[1]])


def test_the_default_client_of_one_provider_is_not_anothers() -> None:
    assert str(fault(row(provider="never", client_id="", secret="")).error) == "client_id is empty"
    assert job(row(provider="never", client_id="default-app", secret="")).credential.client_secret == ""


@pytest.mark.parametrize(
    ("client_id", "secret", "sent"),
    [
        ("row-app", "row secret", ("row-app", "row secret")),
        ("row-app", "", ("row-app", "")),
        ("", "row secret", ("default-app", "row secret")),
        ("default-app", "row secret", ("default-app", "row secret")),
        ("", "", None),
        ("default-app", "", None),
    ],
)
@pytest.mark.parametrize(("provider", "name"), [("own", "instance"), ("regional", "region")])
def test_the_default_secret_goes_to_no_host_that_the_row_names(
    provider: str, name: str, client_id: str, secret: str, sent: tuple[str, str] | None
) -> None:
    params = json.dumps({name: "us.acme.example"})
    origin = PROVIDERS[provider].endpoint(json.loads(params)).origin
    stored = row(
        provider=provider, origin=origin, provider_params=params, client_id=client_id, secret=secret
    )  # fmt: skip
    if sent is not None:
        made = job(stored)
        assert (made.credential.client_id, made.credential.client_secret) == sent
        return
    refused = fault(stored)
    setting = provider.upper()
    assert str(refused.error) == (
        f"it has no client secret of its own, and {setting}_CLIENT_SECRET is not sent to {origin}, "
        "which its provider_params name"
    )
    assert "onboard_client.py" in refused.error.action
    assert f"{setting}_TOKEN_URL" in refused.error.action


def test_a_default_client_without_a_secret_is_used_at_any_host() -> None:
    """A public client: there is nothing to keep from anybody."""
    params = '{"instance": "one.example"}'
    stored = row(
        provider="own", origin="https://one.example", provider_params=params, client_id="", secret=""
    )  # fmt: skip
    assert job(stored, bench(Client("default-app"))).credential.client_id == "default-app"


def test_the_host_of_a_default_is_the_catalogue_s() -> None:
    stored = row(provider="regional", origin="https://eu.acme.example", client_id="", secret="", provider_params="{}")
    assert job(stored).credential.client_secret == "default secret"


VALUES = st.sampled_from(["", "evil.example", "evil.example:8443", "common", "acme"]) | st.from_regex(
    r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,12}[A-Za-z0-9])?", fullmatch=True
)
OVERRIDES = st.sampled_from(
    ["", "https://proxy.example/token", "https://{instance}/token", "https://a.{host}/token", "https://b.example/{x}/t"]
)


@functools.cache
def overridden(slug: str, token_url: str) -> Provider:
    """A provider of the catalogue, its token address from the settings where one is given."""
    said = SimpleNamespace(token_url=token_url or None, authorize_url=None, scope=None)
    return Catalog(overrides={slug.upper().replace("-", "_"): said}).get(slug)


# Where an address has no placeholder a row decides nothing about it.
EACH_PROVIDER = pytest.mark.parametrize(
    "slug",
    [
        pytest.param(slug, marks=() if Catalog().get(slug).placeholders else pytest.mark.long)
        for slug in Catalog().summaries
    ],
)


@settings(max_examples=settings().max_examples * 3 // 10)
@given(data=st.data(), client_id=st.sampled_from(["", "default-app"]), override=OVERRIDES)
@EACH_PROVIDER
def test_whatever_a_row_names_the_default_secret_leaves_only_for_hosts_of_catalogue_and_settings(
    slug: str, data: st.DataObject, client_id: str, override: str
) -> None:
    """Over all providers, and every request that is made of a row's credential.

    The row's own cells open wherever it points: somebody once had it onboarded there.
    """
    provider = overridden(slug, override)
    names = [*provider.placeholders, "instance", "host", "login_host", "country", "tenant", "realm"]
    params = data.draw(st.dictionaries(st.sampled_from(names), VALUES))
    try:
        origin = provider.endpoint(params).origin
    except ProviderError:
        return  # no address, and so no request
    store = SealedStore(cast(Store, None), KEYRING, accept_legacy=True, seal_access_tokens=False)
    stored = Row("rec", "loc", client_id, provider=slug, provider_params=json.dumps(params))
    cell = KEYRING.seal("refresh-1", Context("encrypted_refresh", "loc", origin))
    made = JobFactory(store, Listed(provider), slug, lambda _: DEFAULT_CLIENT).job(
        replace(stored, encrypted_refresh=cell)
    )
    usual = _usual_hosts(provider)
    if isinstance(made, UnusableRow):
        assert usual == set() or any(params.values())
        return
    credential = made.credential
    asked = [
        provider.refresh_request(credential),
        revoke_request(provider, credential),
        introspection_request(provider, credential, "access"),
    ]
    for request in filter(None, asked):
        host = urlsplit(request.url).netloc
        # Each shop has a host below Shopify's own domain, and nobody else can have one there.
        assert host in usual or (slug == "shopify" and re.fullmatch(r"[\w-]+\.myshopify\.com", host))


def _usual_hosts(provider: Provider) -> set[str]:
    """Where the provider's requests go for a row that names nothing of their hosts, read off its addresses."""
    hosts = set()
    for address in filter(
        None, (provider.token_url, provider.refresh_url, provider.revoke_url, provider.introspect_url)
    ):
        host = urlsplit(address).netloc
        for name, default in provider.placeholders.items():
            host = host.replace(f"{{{name}}}", default or "{}")
        hosts |= set() if "{" in host else {host}
    return hosts


def test_no_client_id_anywhere_is_the_rows_fault() -> None:
    told = fault(row(client_id="", secret=""), bench(Client()))
    assert str(told.error) == "client_id is empty"
    assert str(fault(row(client_id="", secret=""), bench(Client("", "default secret"))).error) == "client_id is empty"


# Cells


def test_a_row_that_points_at_another_host_does_not_open_and_makes_no_job() -> None:
    stored = row(provider="own", origin="https://one.example", provider_params='{"instance": "one.example"}')
    assert not job(stored).endpoint.is_fixed
    moved = fault(dataclasses.replace(stored, provider_params='{"instance": "evil.example"}'))
    assert "encrypted_refresh" in str(moved.error)
    assert not moved.is_key_unknown


def test_a_cell_copied_to_another_row_or_field_makes_no_job() -> None:
    stored = row()
    assert "encrypted_refresh" in str(fault(dataclasses.replace(stored, location_id="other")).error)
    assert "encrypted_secret" in str(
        fault(dataclasses.replace(stored, encrypted_secret=stored.encrypted_refresh)).error
    )


def test_a_cell_of_an_unknown_key_says_so() -> None:
    cell = OTHER_KEYRING.seal("refresh-1", Context("encrypted_refresh", "loc", "https://acme.example"))
    assert fault(dataclasses.replace(row(), encrypted_refresh=cell)).is_key_unknown


def test_nothing_secret_shows_in_what_a_job_or_fault_prints() -> None:
    shown = repr(job(row())) + repr(job(row()).client) + repr(fault(row(provider_params="x"))) + repr(DEFAULT_CLIENT)
    assert not any(secret in shown for secret in ("refresh-1", "row secret", "default secret", "sealed:v1"))


def test_rows_of_one_client_share_its_key_and_others_do_not() -> None:
    assert job(row()).client == job(row(location_id="loc2", token="refresh-2")).client
    assert job(row()).client != job(row(secret="other")).client
    assert job(row()).client != job(row(client_id="other")).client


def legacy_cell(text: str) -> str:
    """A cell of an older form: it is bound to nothing, so a copy of it opens in any row."""
    nonce = os.urandom(12)
    return base64.b64encode(nonce + AESGCM(KEY).encrypt(nonce, text.encode(), None)).decode()


LEGACY_CELL = legacy_cell("shared")


def test_an_older_cell_opens_only_where_the_host_is_fixed() -> None:
    assert job(dataclasses.replace(row(), encrypted_refresh=LEGACY_CELL)).credential.refresh_token == "shared"
    params = '{"instance": "one.example"}'
    supplied = row(provider="own", origin="https://one.example", provider_params=params)
    assert "the row itself names the token host" in str(
        fault(dataclasses.replace(supplied, encrypted_refresh=LEGACY_CELL))
    )
