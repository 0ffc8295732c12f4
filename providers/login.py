"""What a login at a provider needs (RFC 6749 section 4.1, RFC 7636, RFC 8628), as the catalogue says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Pkce = Literal["required", "supported", "none", "unknown"]
Redirect = Literal["127.0.0.1", "localhost", "https", "unknown"]


@dataclass(frozen=True)
class Login:
    """See the table of keys in docs/providers.md.

    Attributes:
        authorize_params: of the authorization request, beyond RFC 6749 section 4.1.1.
        code_params: of the request that exchanges the code, beyond RFC 6749 section 4.1.3.
        code_param: the name under which the callback brings the code.
        scopes: without these no refresh token comes.
        pkce: RFC 7636; it is sent unless `none`.
        redirect: the host of a redirect URI that the provider takes without https; `unknown` counts as `https`.
        any_port: the provider takes any port of a loopback redirect URI (RFC 8252 section 7.3).
        issuer: the `iss` of a callback (RFC 9207); `iss_required`: a callback without one is refused.
        account: where it stands whose login it is: `answer.PATH` or `callback.NAME`.
        account_is_location: the account is the row's location id.
        callback_hosts: the only hosts that a callback may name.
        client_id_pattern: what a client id matches in full.
    """

    authorize_params: Mapping[str, str] = field(default_factory=dict)
    code_params: Mapping[str, str] = field(default_factory=dict)
    code_param: str = "code"
    scopes: tuple[str, ...] = ()
    scope_separator: str = " "
    pkce: Pkce = "unknown"
    redirect: Redirect = "unknown"
    any_port: bool = False
    issuer: str | None = None
    iss_required: bool = False
    account: str | None = None
    account_is_location: bool = False
    callback_hosts: tuple[str, ...] = ()
    client_id_pattern: str | None = None
    checked: date | None = None
    unsure: tuple[str, ...] = ()
