"""What one provider's endpoints ask and answer, as data: what its canned answers cannot say, and plain providers.

The dialect of a provider of the catalogue is made of its canned answers: `tests.world.oauth.answered`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.world.oauth import refusals, shapes

# basic_secret: Stripe's, the secret for the user and no password; secret: Square's, `Authorization: Client SECRET` and
# the client id in the body; anonymous: not even a client id
Auth = Literal["body", "basic", "basic_plain", "basic_secret", "bearer", "secret", "none", "anonymous"]
Encoding = Literal["form", "json"]
Rotation = Literal[
    "never", "single_use", "family", "grace", "grace_family", "until_used", "where_set", "family_where_set", "aged"
]
Facts = Mapping[str, Any]

SHORT_LIVED_SECONDS = 3600  # of a login's token that is to be exchanged for a long-lived one
DAY_SECONDS = 86_400
YEAR_SECONDS = 365 * DAY_SECONDS


def no_extras(_: Facts) -> dict[str, Any]:
    """Nothing beyond the answer as it is."""
    return {}


@dataclass(frozen=True)
class Manner:
    """How an endpoint is asked. With `GET` the parameters are in the query."""

    method: Literal["POST", "GET", "DELETE"] = "POST"
    auth: Auth = "body"
    encoding: Encoding = "form"
    client_id_param: str = "client_id"


@dataclass(frozen=True)
class Login:
    """The authorization code grant (RFC 6749 section 4.1; RFC 7636).

    Attributes:
        path: of the authorization endpoint, below /<name>.
        token_path: of the endpoint that takes the code, where it is not that of a refresh.
        asks: parameters of the authorization request, and `scopes`, without which no refresh token is given.
        separator: of scopes.
        pkce: `required`: insisted on; `none`: not looked at; else it is checked where it comes.
        callback: what the callback brings beside code, state and `iss`.
        code_param: the code's name there.
        exchange_code_param: the code's name in its exchange.
        client_id_param: the client id's in the authorization request, where it is another than elsewhere.
        lands_at: where the browser is sent back to, where a redirect URI is only the name of that address.
        issuer: the `iss` (RFC 9207).
        sends: what the exchange of the code carries beyond RFC 6749.
        body: its answer, as in `Dialect.fresh`.
        any_port: of a redirect URI on loopback (RFC 8252, section 7.3).
    """

    path: str = "/authorize"
    token_path: str | None = None
    asks: Mapping[str, str] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset()
    separator: str = " "
    pkce: Literal["required", "supported", "none", "unknown"] = "required"
    callback: Mapping[str, str] = field(default_factory=dict)
    code_param: str = "code"
    exchange_code_param: str = "code"
    client_id_param: str = ""
    lands_at: str = ""
    issuer: str | None = None
    sends: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    any_port: bool = True


@dataclass(frozen=True)
class Revocation:
    """A revocation endpoint; by default that of RFC 7009.

    Attributes:
        path: below /<name>.
        manner: None: as the token endpoint is asked.
        sends: the whole request but for the client, `refresh-1` and `access-1` in the place of tokens; None: a `token`
            of either kind, and whatever else.
        either: a token of the other kind is taken, too, with its own hint.
        body: the answer.
        ends_grant: an access token's revocation ends the grant, too.
    """

    path: str = "/revoke"
    manner: Manner | None = None
    sends: Mapping[str, str] | None = None
    either: bool = False
    body: str = ""
    ends_grant: bool = False


@dataclass(frozen=True)
class Dialect:
    """One provider.

    `rotation` says what a refresh does to the refresh token that was sent:

    - `never`: nothing, and the answer holds no new one;
    - `single_use`: it dies; sent again, it is refused;
    - `family`: it dies; sent again, every token of its grant dies too (RFC 9700, section 4.14.2);
    - `grace`: sent again within `grace_seconds` of the first time, it is answered with another new pair;
    - `grace_family`: the same, and later as `family`;
    - `until_used`: it stays valid until one of the tokens it was exchanged for is used;
    - `where_set`: `single_use` for grants with the fact `rotates`, `never` for the others;
    - `family_where_set`: the same with `family` for `single_use`;
    - `aged`: `single_use` once it is `rotates_after_seconds` old, `never` before.

    `fresh` and `steady` are the answers to a refresh that brings a new refresh token and to one that does not: JSON or
    a form, see `tests.world.oauth.templates`. Without them it is RFC 6749's.
    """

    name: str
    path: str = "/token"  # below /<name>
    method: Literal["POST", "GET"] = "POST"  # of a refresh
    auth: Auth = "body"
    refresh_auth: Auth | None = None  # where it is another
    encoding: Encoding = "form"
    client_id_param: str = "client_id"
    grant: Literal["refresh_token", "exchange", "none"] = "refresh_token"  # exchange: the access token itself is traded
    token_param: str = "refresh_token"
    required: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> allowed values; (): any
    facts: Facts = field(default_factory=dict)  # of every grant that names no others
    mismatch: str = "invalid_grant"  # the refusal where a required parameter is not the grant's
    rotation: Rotation = "single_use"
    grace_seconds: float = 0.0
    rotates_after_seconds: float = 0.0
    repeats_refresh_token: bool = False  # an answer names the refresh token that stays, too
    access_token_dies: bool = False  # the old access token ends with the refresh, or with the grace after it
    earliest: float = 0.0  # seconds before the access token's end that a refresh is accepted; 0: any time
    lifetime: int = 3600  # seconds, of an access token
    sends_expires_in: bool = True
    refresh_lifetime: float = math.inf  # seconds, of a refresh token, from its issue
    errors: refusals.ErrorShape = refusals.rfc6749
    fresh: str = ""
    steady: str = ""
    extras: Callable[[Facts], dict[str, Any]] = no_extras  # more members of a successful answer; None: one less
    long_tokens: bool = False  # about 1 kB, in three parts as a JWT has them
    tells_end_in_token: bool = False  # an access token has the claims of a JWT, and among them `exp`
    form_unless_asked: bool = False  # answers form-encoded unless Accept names application/json
    login: Login | None = Login()
    signs_callback: bool = False  # with an `hmac`, as Shopify does
    long_lived: tuple[str, str] | None = None  # path and grant type that make a long-lived token of that of a login
    device_path: str | None = "/device_authorization"  # RFC 8628
    revocation: Revocation | None = Revocation()

    @property
    def manner(self) -> Manner:
        """Of a refresh."""
        return Manner(self.method, self.refresh_auth or self.auth, self.encoding, self.client_id_param)

    @property
    def login_manner(self) -> Manner:
        """Of every other request with the client's credentials."""
        return Manner("POST", self.auth, self.encoding, self.client_id_param)

    @property
    def code_path(self) -> str:
        """Where a code or device code is exchanged."""
        return (self.login.token_path if self.login else None) or self.path


def _highlevel_extras(facts: Facts) -> dict[str, Any]:
    extras = {
        "userType": facts["user_type"],
        "companyId": facts.get("company_id", "company-1"),
        "userId": facts.get("user_id", "user-1"),
        "planId": "plan-1",
        "scope": facts.get("scope", "contacts.readonly"),
    }
    if facts["user_type"] == "Company":
        return {**extras, "locationId": None, "approvedLocations": [], "isBulkInstallation": True}
    return {**extras, **({"locationId": facts["location_id"]} if "location_id" in facts else {})}


def _scope(facts: Facts) -> dict[str, Any]:
    return {"scope": facts["scope"]} if "scope" in facts else {}


# What these providers do beyond their canned answers, by slug.
QUIRKS: Mapping[str, Mapping[str, Any]] = {
    # https://marketplace.gohighlevel.com/docs/ghl/oauth/get-access-token
    "gohighlevel": {
        "required": {"user_type": ("Location", "Company")},
        "facts": {"user_type": "Location"},
        "mismatch": "invalid_client",  # reported to look like a credential error
        "refresh_lifetime": YEAR_SECONDS,
        "errors": refusals.highlevel,
        "extras": _highlevel_extras,
        "long_tokens": True,
    },
    # https://developers.google.com/identity/protocols/oauth2/web-server#offline
    "google": {"errors": refusals.google, "extras": _scope},
    # https://learn.microsoft.com/entra/identity-platform/refresh-tokens: the old one is not revoked
    "microsoft": {
        "required": {},  # a scope may be named
        "grace_seconds": math.inf,
        "refresh_lifetime": 90 * DAY_SECONDS,
        "errors": shapes.microsoft,
        "extras": _scope,
    },
    # https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    "github-app": {"access_token_dies": True, "errors": refusals.github, "form_unless_asked": True},
    # https://docs.gitlab.com/api/oauth2/
    "gitlab": {"required": {"redirect_uri": ()}, "access_token_dies": True, "extras": _scope},
    # https://docs.slack.dev/authentication/using-token-rotation
    "slack": {"errors": shapes.slack},
    # https://developers.zoom.us/docs/integrations/oauth/
    "zoom": {
        "access_token_dies": True,  # reported
        "refresh_lifetime": 90 * DAY_SECONDS,
        "errors": shapes.zoom,
    },
    # https://www.keycloak.org/docs/latest/server_admin/#_timeouts, with "Revoke Refresh Token" on
    "keycloak": {"errors": shapes.keycloak, "extras": _scope},
    # https://developer.monday.com/apps/docs/oauth-2-1
    "monday": {"tells_end_in_token": True},
    # https://developer.xero.com/documentation/guides/oauth2/token-types: 30 minutes of grace
    "xero": {"grace_seconds": 1800, "refresh_lifetime": 60 * DAY_SECONDS},
    # https://developers.hubspot.com/docs/api-reference/auth-oauth-v1/guide
    "hubspot": {"errors": shapes.hubspot},
    # https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_refresh_token_flow.htm
    # https://github.com/restforce/restforce/issues/957: a rotating app ends the family
    "salesforce": {"lifetime": 7200, "errors": shapes.salesforce},  # the org's session time-out, which it does not tell
    # https://support.exactonline.com/community/s/knowledge-base: one refresh in nine and a half minutes
    "exact-online": {"refresh_lifetime": 30 * DAY_SECONDS, "errors": shapes.exact_online},
    # https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens: both old tokens live ten more minutes
    "atlassian": {
        "grace_seconds": 600,
        "access_token_dies": True,
        "refresh_lifetime": 90 * DAY_SECONDS,
        "extras": _scope,
    },
    # https://developers.facebook.com/docs/instagram-platform/reference/access_token
    "instagram": {"refresh_auth": "anonymous", "long_lived": ("/access_token", "ig_exchange_token")},
    # https://developers.facebook.com/docs/threads/get-started/long-lived-tokens
    "threads": {"refresh_auth": "anonymous", "long_lived": ("/access_token", "th_exchange_token")},
    # https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant
    "shopify": {"rotation": "until_used", "signs_callback": True},
    # https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/faq
    "quickbooks": {"rotation": "aged", "rotates_after_seconds": DAY_SECONDS, "refresh_lifetime": 100 * DAY_SECONDS},
}

# Plain providers, each with one thing of its own.
ACME = Dialect("acme")
GENERIC = (
    ACME,
    Dialect("acme-never", rotation="never"),
    Dialect("acme-family", rotation="family"),
    Dialect("acme-grace", rotation="grace", grace_seconds=60),
    Dialect("acme-window", rotation="grace_family", grace_seconds=30),
    Dialect("acme-until-used", rotation="until_used", access_token_dies=True),
    Dialect("acme-dies", access_token_dies=True),
    Dialect("acme-basic", auth="basic"),
    Dialect("acme-basic-plain", auth="basic_plain"),
    Dialect("acme-public", auth="none"),
    Dialect("acme-json", encoding="json"),
    Dialect("acme-no-expiry", sends_expires_in=False),
    Dialect("acme-audience", required={"audience": ("api",)}),
)
