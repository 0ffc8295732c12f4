"""What a login at a provider needs (RFC 6749 section 4.1, RFC 7636, RFC 8628) and its end, by the catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Pkce = Literal["required", "supported", "none", "unknown"]
Redirect = Literal["127.0.0.1", "localhost", "https", "name", "unknown"]

USUAL_PORT = 8765  # of a callback, where the provider takes only the port that was entered there


@dataclass(frozen=True)
class Login:
    """See the table of keys in docs/providers.md.

    Attributes:
        authorize_params: of the authorization request, beyond RFC 6749 section 4.1.1.
        code_params: of the request that exchanges the code, beyond RFC 6749 section 4.1.3.
        authorize_client_id_param: the name of the client id in the authorization request; empty: as elsewhere.
        code_param: the name under which the callback brings the code.
        exchange_code_param: the name under which its exchange sends it.
        scopes: without these no refresh token comes.
        more_scopes: what the settings ask for beyond them.
        refresh_setting: the setting of the app without which none comes.
        scope_prefix: of a scope that is a bare name.
        pkce: RFC 7636; it is sent unless `none`.
        redirect: the host of a redirect URI that the provider takes without https; `unknown` counts as `https`;
            `name`: it is no address but a name that the provider gave to one (eBay's RuName).
        any_port: the provider takes any port of a loopback redirect URI (RFC 8252 section 7.3).
        issuer: the `iss` of a callback (RFC 9207); `iss_required`: a callback without one is refused.
        account: where it stands whose login it is: `answer.PATH` or `callback.NAME`; several with `|`, the first wins.
        account_is_location: the account is the row's location id.
        callback_hosts: the only hosts that a callback may name.
        refresh_lifetime: seconds that a refresh token lives, moved by each refresh; 0: not known.
        refresh_ends_anyway: seconds from the login to its end, moved by no refresh; 0: it has none.
        secret_lifetime: seconds that a client secret lives; 0: it has no end.
        app_steps: how the app is made at the provider, a sentence each.
        client_id_pattern: what a client id matches in full.
    """

    authorize_params: Mapping[str, str] = field(default_factory=dict)
    code_params: Mapping[str, str] = field(default_factory=dict)
    authorize_client_id_param: str = ""
    code_param: str = "code"
    exchange_code_param: str = "code"
    scopes: tuple[str, ...] = ()
    more_scopes: tuple[str, ...] = ()
    refresh_setting: str = ""
    scope_separator: str = " "
    scope_prefix: str = ""
    pkce: Pkce = "unknown"
    redirect: Redirect = "unknown"
    any_port: bool = False
    issuer: str | None = None
    iss_required: bool = False
    account: str | None = None
    account_is_location: bool = False
    callback_hosts: tuple[str, ...] = ()
    client_id_pattern: str | None = None
    app_steps: tuple[str, ...] = ()
    refresh_lifetime: int = 0
    refresh_ends_anyway: int = 0
    secret_lifetime: int = 0
    checked: date | None = None
    unsure: tuple[str, ...] = ()

    @property
    def loopback(self) -> str:
        """The usual redirect URI on this machine; port 0: any will do. Empty where the provider wants https."""
        if self.redirect not in ("127.0.0.1", "localhost"):
            return ""
        return f"http://{self.redirect}:{0 if self.any_port else USUAL_PORT}/callback"

    def is_strange(self, client_id: str) -> bool:
        """Whether a client id that somebody enters is not of the form that the provider's have."""
        pattern = self.client_id_pattern
        return pattern is not None and re.fullmatch(pattern, client_id) is None

    def account_in(self, content: Mapping[str, Any], callback: Mapping[str, str]) -> str:
        """Whose login it is, as the answer to the code or the callback says; empty where neither does."""
        return next(filter(None, (_text_at(place, content, callback) for place in (self.account or "").split("|"))), "")

    def params_in_callback(self, callback: Mapping[str, str], client_secret: str) -> dict[str, str]:  # noqa: ARG002 - for quirks
        """What the callback alone says, as parameters of the row.

        Raises:
            ProviderError: it is forged, or names a place that is not the provider's.
        """
        names = [
            name
            for source, _, name in (one.partition(".") for one in (self.account or "").split("|"))
            if source == "callback"
        ]
        return {name: callback[name] for name in names if callback.get(name)}

    def params_of(self, params: Mapping[str, str], client_id: str) -> Mapping[str, str]:  # noqa: ARG002 - for quirks
        """The row's parameters, as the address of a login takes them."""
        return params

    def params_in_answer(self, content: Mapping[str, Any]) -> dict[str, str]:  # noqa: ARG002 - for quirks
        """What the answer to the code says that every refresh has to repeat, as parameters of the row."""
        return {}


@dataclass(frozen=True)
class Revocation:
    """How a grant is ended at its provider (RFC 7009), as its own pages say it.

    Attributes:
        token: which one is sent; `both`: one after the other.
        param: the name that it is sent under; empty where it is only in the header.
        auth: who asks: the client as at the token endpoint, or in that way; `bearer`: the access token itself;
            `secret`: the client secret in the header, as Square wants it.
        ends: the page promises that the grant ends with it.
    """

    token: Literal["refresh", "access", "both"] = "refresh"  # noqa: S105 - which one
    param: str = "token"
    auth: Literal["client", "body", "basic", "bearer", "secret", "none"] = "client"
    encoding: Literal["form", "json"] = "form"
    method: Literal["POST", "DELETE"] = "POST"
    ends: bool = False


USUAL_REVOCATION = Revocation()
NO_LOGIN = Login()  # a provider whose login nobody described


def _text_at(place: str, content: Mapping[str, Any], callback: Mapping[str, str]) -> str:
    source, _, path = place.partition(".")
    if source == "callback":
        return callback.get(path, "")
    found: Any = content
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
