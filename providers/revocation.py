"""Ending a grant at its provider (RFC 7009): the request for it, and what the answer means."""

from __future__ import annotations

from dataclasses import replace

from providers.base import (
    HTTP_OK,
    HTTP_REDIRECT,
    SERVER_ERROR,
    Answer,
    Credential,
    Provider,
    RawAnswer,
    TokenRequest,
    Verdict,
    error_code,
    parse_answer,
)
from token_refresh.base.clock import retry_after


def revocation_request(provider: Provider, credential: Credential) -> TokenRequest | None:
    """The request of RFC 7009 section 2.1 for the refresh token; None where the provider has no such endpoint.

    It carries the token and the client secret, so it goes to the host that they are bound to, or to another
    only where nothing in the table chose either.

    Raises:
        ProviderError: see `Provider.endpoint`.
    """
    if provider.revoke_url is None:
        return None
    bound = provider.endpoint(credential.params)
    endpoint = provider.endpoint_at(provider.revoke_url, credential.params)
    if endpoint.origin != bound.origin and not (bound.is_fixed and endpoint.is_fixed):
        return None
    fields = {"token": credential.refresh_token, "token_type_hint": "refresh_token"}
    return replace(provider, encoding="form").request(replace(bound, url=endpoint.url), fields, credential)


def read_revocation(provider: Provider, raw: RawAnswer) -> Answer:
    """What an answer to `revocation_request` means: `DEAD_GRANT` is what was wanted.

    RFC 7009 section 2.2: any success, also for a token that was dead or unknown. `invalid_token` is how some say
    the latter. A server that is failing (503) has left the grant alive.
    """
    content, is_whole = parse_answer(raw)
    content = content if is_whole else {}
    if raw.status >= SERVER_ERROR:
        verdict = Verdict.NOT_ACTED
    elif HTTP_OK <= raw.status < HTTP_REDIRECT or error_code(content) == "invalid_token":
        verdict = Verdict.DEAD_GRANT
    else:
        verdict = provider.verdict_by_code(raw.status, content) or Verdict.UNCLEAR
    wait = retry_after(raw.headers.get("retry-after", ""), raw.received_at)
    return Answer(verdict, error=provider.error_in(raw, content), retry_after=wait, status=raw.status)
