"""The requests of a login: the address that a person opens, and what is sent once they have agreed.

RFC 6749 section 4.1 (authorization code), RFC 7636 (PKCE), RFC 8628 (devices). A provider's own ways are in `Login`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from providers.addresses import fill
from providers.base import Credential, Provider, ProviderError, TokenRequest

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628 section 3.4
_SCOPE = re.compile(r"[!#-\[\]-~]+")
_PLAIN_SCOPES = ("openid", "email", "profile")


def scope_of(provider: Provider, asked: Sequence[str]) -> str:
    """What is asked for: the scopes without which no refresh token comes, then those of settings and person.

    A bare name gets the provider's prefix (Google's `https://www.googleapis.com/auth/`).

    Raises:
        ProviderError: a scope of `asked` cannot be one (RFC 6749 section 3.3).
    """
    login = provider.login
    for one in asked:
        if not _SCOPE.fullmatch(one):
            raise ProviderError("a scope holds a character that none can have", "Copy it from the provider's page.")
    named = [
        one if ":" in one or one in _PLAIN_SCOPES or one in login.scopes else f"{login.scope_prefix}{one}"
        for one in (*login.scopes, *login.more_scopes, *asked)
    ]
    return login.scope_separator.join(dict.fromkeys(named))


def authorization_url(
    provider: Provider,
    params: Mapping[str, str],
    client_id: str,
    *,
    redirect_uri: str,
    scope: str,
    state: str,
    challenge: str | None,
) -> str:
    """The address that a person opens (RFC 6749 section 4.1.1). It holds no secret but `state`.

    Args:
        provider: one that has such an address.
        params: of the row.
        challenge: RFC 7636 section 4.2, of method S256; None without PKCE.

    Raises:
        ProviderError: the row lacks a parameter of it.
    """
    assert provider.authorize_url is not None
    address, _, own_query = provider.authorize_url.partition("?")
    query = {
        "response_type": "code",
        provider.login.authorize_client_id_param or provider.client_id_param: client_id,
        "redirect_uri": redirect_uri,
        "scope": scope,
        "state": state,
    }
    if challenge is not None:
        query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    query |= provider.filled(provider.login.authorize_params, provider.login.params_of(params, client_id))
    address = fill(address, provider.values(params), provider.name)
    asked = urlencode({name: text for name, text in query.items() if text})
    return f"{address}?{own_query}&{asked}" if own_query else f"{address}?{asked}"


def code_request(
    provider: Provider, credential: Credential, code: str, redirect_uri: str, verifier: str | None
) -> TokenRequest:
    """The request that exchanges a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).

    Raises:
        ProviderError: see `Provider.endpoint`.
    """
    own = provider.login
    fields = {"grant_type": "authorization_code", own.exchange_code_param: code, "redirect_uri": redirect_uri}
    if verifier is not None:
        fields["code_verifier"] = verifier
    fields |= provider.filled(own.code_params, credential.params)
    return provider.request(provider.endpoint_at(provider.token_url, credential.params), fields, credential)


def device_request(provider: Provider, credential: Credential, scope: str) -> TokenRequest:
    """The request that begins a login on another device (RFC 8628 section 3.1), at a provider that has such a login.

    Raises:
        ProviderError: see `Provider.endpoint`.
    """
    assert provider.device_url is not None
    fields = {"scope": scope} if scope else {}
    return provider.request(provider.endpoint_at(provider.device_url, credential.params), fields, credential)


def device_token_request(provider: Provider, credential: Credential, device_code: str) -> TokenRequest:
    """The request that asks whether the person has agreed by now (RFC 8628 section 3.4)."""
    fields = {"grant_type": DEVICE_GRANT, "device_code": device_code}
    return provider.request(provider.endpoint_at(provider.token_url, credential.params), fields, credential)
