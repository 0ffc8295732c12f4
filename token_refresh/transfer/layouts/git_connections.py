"""`git-connections`: the table `git_connections`, logins at GitHub, GitLab and others, some on their own hosts, Fernet.

A connection's id, which its callers know, becomes the location id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from providers.addresses import origin_of
from providers.base import ProviderError
from providers.index import ProviderIndex
from token_refresh.transfer.layouts.base import (
    TOKEN_CELLS,
    Found,
    Source,
    flag,
    moment,
    some,
    text,
    time_with_zone,
    words,
)

_COLUMNS = (
    *("id", "provider", "instance_url", "username", "email", "access_token_encrypted", "refresh_token_encrypted"),
    *("token_expires_at", "scopes", "connected_at", "last_used_at", "is_active"),
)
_INSTANCE = "instance"


def read(source: Source) -> Iterator[Found]:
    """The records of the table."""
    for record in source.rows("git_connections", _COLUMNS):
        yield _found(source, record)


def _found(source: Source, record: Mapping[str, Any]) -> Found:
    providers, name = source.providers, text(record["provider"])
    slug = providers.slug_of(name)
    found = Found(
        name=f"git_connections {record['id']}",
        location_id=text(record["id"]),
        provider=slug or name,
        refresh_token=text(record["refresh_token_encrypted"]),
        access_token=text(record["access_token_encrypted"]),
        cells=TOKEN_CELLS,
        expiry=time_with_zone(record["token_expires_at"]),
        has_no_end=not text(record["token_expires_at"]),
        params=some(redirect_uri=source.redirect_uri),
        details=some(
            username=text(record["username"]),
            email=text(record["email"]),
            scopes=words(record["scopes"]),
            connected_at=moment(time_with_zone(record["connected_at"])),
            last_used_at=moment(time_with_zone(record["last_used_at"])),
        ),
        is_active=flag(record["is_active"]),
    )
    address = text(record["instance_url"])
    return _on_instance(found, providers, address) if address and slug is not None else found


def _on_instance(found: Found, providers: ProviderIndex, address: str) -> Found:
    """With the host that the record names, where it is another than the provider's own."""
    provider, host = providers.get(found.provider), _host(address)
    if host is None:
        return replace(
            found, is_wrong=True, reason="its instance_url is no https address of a host alone",
            action="Correct it in the source: https://HOST. One with a path: describe it in PROVIDERS_FILE.",
        )  # fmt: skip
    if host in (provider.placeholders.get(_INSTANCE), urlsplit(provider.token_url).netloc):
        return found
    described = [slug for slug in providers.summaries if slug.startswith(f"{provider.slug}-")]
    described = [slug for slug in described if urlsplit(providers.get(slug).token_url).netloc == host]
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
