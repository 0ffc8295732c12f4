"""Asking a provider whether a token is active (RFC 7662)."""

from __future__ import annotations

from dataclasses import replace

from providers.base import Credential, Provider, TokenRequest


def introspection_request(provider: Provider, credential: Credential, token: str) -> TokenRequest | None:
    """The request of RFC 7662 section 2.1 for `token`; None where the provider has no such endpoint.

    It carries the client secret, so it only goes to the host that the secret is bound to.

    Raises:
        ProviderError: see `Provider.endpoint`.
    """
    if provider.introspect_url is None:
        return None
    bound = provider.endpoint(credential.params)
    endpoint = provider.endpoint_at(provider.introspect_url, credential.params)
    if endpoint.origin != bound.origin:
        return None
    return provider.request(replace(bound, url=endpoint.url), {"token": token}, credential)
