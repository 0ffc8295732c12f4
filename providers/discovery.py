"""What an authorization server says of itself (RFC 8414, OpenID Connect Discovery), as a table of a PROVIDERS_FILE."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from providers.addresses import ProviderError, origin_of
from token_refresh.base.errors import Kind

_AUTH = {"client_secret_post": "body", "client_secret_basic": "basic", "none": "none"}
_ADDRESSES = {
    "token_url": "token_endpoint",
    "authorize_url": "authorization_endpoint",
    "revoke_url": "revocation_endpoint",
    "introspect_url": "introspection_endpoint",
    "device_url": "device_authorization_endpoint",
}


class DiscoveryError(ProviderError):
    """The server does not describe itself in a way that can be used."""

    kind = Kind.RETRY_LATER


def metadata_urls(issuer: str) -> list[str]:
    """Where the description may be: RFC 8414 section 3.1, then OpenID Connect Discovery section 4.

    Raises:
        ProviderError: the issuer is no https address (http on loopback) without query and fragment.
    """
    origin = origin_of(issuer)
    path = urlsplit(issuer).path.rstrip("/")
    return [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ]


def metadata_in(body: bytes) -> Mapping[str, Any] | None:
    """What a server's answer holds; None where it is no JSON object, as a page that stands for every address."""
    try:
        metadata = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return metadata if isinstance(metadata, dict) else None


def described(issuer: str, metadata: Mapping[str, Any]) -> str:
    """A table for a PROVIDERS_FILE, out of a server's description of itself. Nothing is used that nobody puts there.

    Raises:
        DiscoveryError: it is another server's, or names no token endpoint.
    """
    if metadata.get("issuer") != issuer:  # RFC 8414 section 3.3: identical, or a server may speak for another
        raise DiscoveryError(
            "the description names another issuer than the one that was asked for",
            "Write the issuer exactly as its server does, with or without a slash at the end.",
        )
    if not isinstance(metadata.get("token_endpoint"), str):
        raise DiscoveryError("the description names no token endpoint", "Check the issuer's address.")
    head = [f"[{_slug(issuer)}]", f"name = {_quoted(urlsplit(issuer).hostname or '')}"]
    return "\n".join([*head, *_addresses(metadata), *_ways(issuer, metadata)]) + "\n"


def _addresses(metadata: Mapping[str, Any]) -> list[str]:
    found = {key: metadata.get(name) for key, name in _ADDRESSES.items()}
    for address in found.values():
        if isinstance(address, str):
            origin_of(address.partition("?")[0])
    return [f"{key} = {_quoted(address)}" for key, address in found.items() if isinstance(address, str)]


def _ways(issuer: str, metadata: Mapping[str, Any]) -> list[str]:
    lines = [
        f'auth = "{_auth(metadata)}"',
        'rotates = "always"    # if its refresh tokens never change: "never"',
        'replay = "once"       # if a used one ends the whole login: "last_minute"',
    ]
    if "offline_access" in _texts(metadata, "scopes_supported"):
        lines.append('scopes = ["offline_access"]')
        lines.append('authorize_params = { prompt = "consent" }  # else it is ignored: OpenID Connect, section 11')
    if "S256" in _texts(metadata, "code_challenge_methods_supported"):
        lines.append('pkce = "supported"')
    lines.append(f"issuer = {_quoted(issuer)}")
    if metadata.get("authorization_response_iss_parameter_supported") is True:
        lines.append("iss_required = true   # RFC 9207")
    return lines


def _auth(metadata: Mapping[str, Any]) -> str:
    """RFC 8414 section 2: without the member it is HTTP Basic."""
    offered = _texts(metadata, "token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return next(
        (_AUTH[method] for method in ("client_secret_post", *offered) if method in offered and method in _AUTH), "body"
    )


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    listed = metadata.get(name)
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def _slug(issuer: str) -> str:
    parts = urlsplit(issuer)
    return re.sub(r"[^a-z0-9]+", "-", f"{parts.hostname}{parts.path}".lower()).strip("-")


def _quoted(text: str) -> str:
    """As TOML has it: a basic string is one of JSON, in ASCII."""
    return json.dumps(text)
