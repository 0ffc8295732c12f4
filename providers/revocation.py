"""Ending a grant at its provider (RFC 7009): the requests for it, and what their answers mean."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from providers.addresses import CLIENT_ID
from providers.base import (
    HTTP_OK,
    HTTP_REDIRECT,
    SERVER_ERROR,
    Answer,
    Credential,
    Endpoint,
    Provider,
    RawAnswer,
    TokenRequest,
    Verdict,
    error_code,
    is_refusal,
    parse_answer,
)
from token_refresh.base.clock import retry_after

_DEAD_ALREADY = ("invalid_token", "token_revoked", "invalid_auth")  # the latter two are Slack's


def revocation_requests(provider: Provider, credential: Credential, access_token: str) -> list[TokenRequest]:
    """The requests that end a grant, one for each token that is to be sent; none where the provider has no endpoint.

    They carry tokens and the client secret, so they go to the host that these are bound to, or to another only where
    nothing in the table chose either.

    Args:
        access_token: empty where there is none.

    Raises:
        ProviderError: see `Provider.endpoint`.
    """
    if provider.revoke_url is None:
        return []
    bound = provider.endpoint(credential.params)
    template = provider.revoke_url.replace(f"{{{CLIENT_ID}}}", quote(credential.client_id, safe=""))
    endpoint = provider.endpoint_at(template, credential.params)
    if endpoint.origin != bound.origin and not (bound.is_fixed and endpoint.is_fixed):
        return []
    where = replace(bound, url=endpoint.url)
    tokens = {"access": access_token, "refresh": credential.refresh_token}
    sent = [kind for kind in tokens if provider.revocation.token in ("both", kind) and tokens[kind]]
    return [_request(provider, where, credential, kind, tokens[kind]) for kind in sent]


def _request(provider: Provider, where: Endpoint, credential: Credential, kind: str, token: str) -> TokenRequest:
    own = provider.revocation
    fields = {own.param: token} if own.param else {}
    if own.param == "token":
        fields["token_type_hint"] = f"{kind}_token"  # RFC 7009 section 2.1
    is_client = own.auth not in ("bearer", "none")
    auth = {"client": provider.auth, "body": "body", "basic": "basic"}.get(own.auth, "none")
    asking = replace(provider, auth=auth, encoding=own.encoding)
    request = asking.request(where, fields, credential if is_client else None)
    schemes = {"bearer": f"Bearer {token}", "secret": f"Client {credential.client_secret}"}
    header = {"Authorization": schemes[own.auth]} if own.auth in schemes else {}
    return replace(request, headers={**request.headers, **header}, method=own.method)


def read_revocation(provider: Provider, raw: RawAnswer) -> Answer:
    """What an answer to such a request means: `DEAD_GRANT` is what was wanted.

    RFC 7009 section 2.2: any success, also for a token that was dead or unknown. `invalid_token` is how some say
    the latter. A server that is failing (503) has left the grant alive, and so has a success that says of itself that
    it is none (Slack's `ok`).
    """
    content, is_whole = parse_answer(raw)
    content = content if is_whole else {}
    if raw.status >= SERVER_ERROR:
        verdict = Verdict.NOT_ACTED
    elif error_code(content) in _DEAD_ALREADY or (HTTP_OK <= raw.status < HTTP_REDIRECT and not is_refusal(content)):
        verdict = Verdict.DEAD_GRANT
    else:
        verdict = provider.verdict_by_code(raw.status, content) or Verdict.UNCLEAR
    wait = retry_after(raw.headers.get("retry-after", ""), raw.received_at)
    return Answer(verdict, error=provider.error_in(raw, content), retry_after=wait, status=raw.status)
