"""`git-connections`: the table `git_connections`, logins at GitHub, GitLab and others, some on their own hosts, Fernet.

A connection's id, which its callers know, becomes the location id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from providers.base import Provider, ProviderError, origin_of
from token_refresh.transfer.layouts.base import TOKEN_CELLS, Found, Source, flag, some, text, time_with_zone, words

_COLUMNS = (
    *("id", "provider", "instance_url", "username", "email", "access_token_encrypted", "refresh_token_encrypted"),
    *("token_expires_at", "scopes", "is_active"),
)
_NAMES = {"github": "github-app"}  # only its Apps have refresh tokens
_INSTANCE = "instance"


def read(source: Source) -> Iterator[Found]:
    """The records of the table."""
    for record in source.rows("git_connections", _COLUMNS):
        found = _found(source, record)
        if not flag(record["is_active"]):
            found = replace(
                found,
                reason="the connection is not active",
                action="If it is wanted: connect anew, onboard it.",
            )
        yield found


def _found(source: Source, record: Mapping[str, Any]) -> Found:
    known = {provider.slug: provider for provider in source.context.catalog}
    name = text(record["provider"]).lower()
    slug = name if name in known else _NAMES.get(name, name)
    found = Found(
        name=f"git_connections {record['id']}",
        location_id=text(record["id"]),
        provider=slug,
        refresh_token=text(record["refresh_token_encrypted"]),
        access_token=text(record["access_token_encrypted"]),
        cells=TOKEN_CELLS,
        expiry=time_with_zone(record["token_expires_at"]),
        params=some(
            redirect_uri=source.redirect_uri,
            username=text(record["username"]),
            email=text(record["email"]),
        ),
        scope=words(record["scopes"]),
    )
    address = text(record["instance_url"])
    return _on_instance(found, known, address) if address and slug in known else found


def _on_instance(found: Found, known: Mapping[str, Provider], address: str) -> Found:
    """With the host that the record names, where it is another than the provider's own."""
    provider, host = known[found.provider], _host(address)
    if host is None:
        return replace(
            found, is_wrong=True, reason="its instance_url is no https address of a host alone",
            action="Correct it in the source: https://HOST. One with a path: describe it in PROVIDERS_FILE.",
        )  # fmt: skip
    if host in (provider.placeholders.get(_INSTANCE), urlsplit(provider.token_url).netloc):
        return found
    described = [name for name in known if name.startswith(f"{provider.slug}-")]
    described = [name for name in described if urlsplit(known[name].token_url).netloc == host]
    if described:
        return replace(found, provider=described[0])
    if _INSTANCE not in provider.placeholders:
        return replace(
            found, is_wrong=True, reason=f"{provider.name} has no place for the record's own host, {host}",
            action=f"Describe it in PROVIDERS_FILE as {provider.slug}-NAME, with a token_url at that host.",
        )  # fmt: skip
    return replace(found, params={_INSTANCE: host, **found.params})


def _host(address: str) -> str | None:
    address = address.rstrip("/")
    try:
        origin = origin_of(address)
    except ProviderError:
        return None
    return origin.partition("://")[2] if not urlsplit(address).path else None
