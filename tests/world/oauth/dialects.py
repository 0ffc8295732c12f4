"""What one provider's token endpoint asks and answers, as data, and the providers that are ready to use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.world.oauth import refusals, shapes

Auth = Literal["body", "basic", "basic_plain", "none"]
Encoding = Literal["form", "json"]
Rotation = Literal["never", "single_use", "family", "grace", "until_used", "where_set", "family_where_set", "aged"]
Facts = Mapping[str, Any]

DAY_SECONDS = 86_400
YEAR_SECONDS = 365 * DAY_SECONDS


def no_extras(_: Facts) -> dict[str, Any]:
    """Nothing beyond RFC 6749, section 5.1."""
    return {}


@dataclass(frozen=True)
class Dialect:
    """One provider.

    `rotation` says what a refresh does to the refresh token that was sent:

    - `never`: nothing, and the answer holds no new one;
    - `single_use`: it dies; sent again, it is refused;
    - `family`: it dies; sent again, every token of its grant dies too (RFC 9700, section 4.14.2);
    - `grace`: sent again within `grace_seconds` of the first time, it is answered with another new pair;
    - `until_used`: it stays valid until one of the tokens it was exchanged for is used;
    - `where_set`: `single_use` for grants with the fact `rotates`, `never` for the others;
    - `family_where_set`: the same with `family` for `single_use`;
    - `aged`: `single_use` once it is `rotates_after_seconds` old, `never` before.
    """

    name: str
    path: str = "/token"  # below /<name>
    auth: Auth = "body"
    encoding: Encoding = "form"
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
    extras: Callable[[Facts], dict[str, Any]] = no_extras  # more members of a successful answer; knows `issued_at`
    names: Mapping[str, str] = field(default_factory=dict)  # members that are spelt differently
    long_tokens: bool = False  # about 1 kB, in three parts as a JWT has them
    form_unless_asked: bool = False  # answers form-encoded unless Accept names application/json
    pkce: bool = True  # the authorization endpoint insists on it
    offline: Mapping[str, str] = field(default_factory=dict)  # authorization parameters without which no refresh token


def _highlevel_extras(facts: Facts) -> dict[str, Any]:
    user_type = facts["user_type"]
    extras = {
        "userType": user_type,
        "companyId": facts.get("company_id", "company-1"),
        "userId": facts.get("user_id", "user-1"),
        "planId": "plan-1",
        "scope": facts.get("scope", "contacts.readonly"),
    }
    if user_type == "Location":
        return {**extras, "locationId": facts.get("location_id", "location-1")}
    return {**extras, "approvedLocations": [], "isBulkInstallation": True}


def _scope(facts: Facts) -> dict[str, Any]:
    return {"scope": facts["scope"]} if "scope" in facts else {}


def _keycloak_extras(facts: Facts) -> dict[str, Any]:
    return {"refresh_expires_in": 0, "not-before-policy": 0, "session_state": "session-1", **_scope(facts)}


def _gitlab_extras(facts: Facts) -> dict[str, Any]:
    return {"created_at": int(facts["issued_at"]), **_scope(facts)}


def _slack_extras(_: Facts) -> dict[str, Any]:
    return {"ok": True, "token_type": "bot", "team": {"id": "T0001"}, "is_enterprise_install": False}


def _salesforce_extras(facts: Facts) -> dict[str, Any]:
    """`issued_at` is a string of epoch milliseconds."""
    milliseconds = str(int(facts["issued_at"] * 1000))
    return {"instance_url": "https://acme.my.salesforce.com", "issued_at": milliseconds, "signature": "c2ln"}


# https://marketplace.gohighlevel.com/docs/ghl/oauth/get-access-token
GOHIGHLEVEL = Dialect(
    "gohighlevel",
    path="/oauth/token",
    required={"user_type": ("Location", "Company")},
    facts={"user_type": "Location"},
    mismatch="invalid_client",  # reported to look like a credential error
    lifetime=86_399,
    refresh_lifetime=YEAR_SECONDS,
    errors=refusals.highlevel,
    extras=_highlevel_extras,
    long_tokens=True,
    pkce=False,
)
# https://developers.google.com/identity/protocols/oauth2/web-server#offline
GOOGLE = Dialect(
    "google",
    rotation="never",
    lifetime=3599,
    errors=refusals.google,
    extras=_scope,
    offline={"access_type": "offline"},
)
# https://learn.microsoft.com/entra/identity-platform/refresh-tokens: the old one is not revoked
MICROSOFT = Dialect(
    "microsoft",
    path="/common/oauth2/v2.0/token",
    rotation="grace",
    grace_seconds=math.inf,
    lifetime=3599,
    refresh_lifetime=90 * DAY_SECONDS,
    errors=shapes.microsoft,
    extras=_scope,
)
# https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
GITHUB_APP = Dialect(
    "github-app",
    path="/login/oauth/access_token",
    access_token_dies=True,
    lifetime=28_800,
    refresh_lifetime=15_897_600,
    errors=refusals.github,
    extras=lambda _: {"refresh_token_expires_in": 15_897_600, "scope": ""},
    form_unless_asked=True,
)
# https://docs.gitlab.com/api/oauth2/
GITLAB = Dialect(
    "gitlab",
    path="/oauth/token",
    required={"redirect_uri": ()},
    access_token_dies=True,
    lifetime=7200,
    errors=shapes.gitlab,
    extras=_gitlab_extras,
)
# https://docs.slack.dev/authentication/using-token-rotation
SLACK = Dialect(
    "slack",
    path="/api/oauth.v2.access",
    auth="basic",
    lifetime=43_200,
    errors=shapes.slack,
    extras=_slack_extras,
    pkce=False,
)
# https://developers.zoom.us/docs/integrations/oauth/
ZOOM = Dialect(
    "zoom",
    path="/oauth/token",
    auth="basic",
    access_token_dies=True,  # reported
    refresh_lifetime=90 * DAY_SECONDS,
    errors=shapes.zoom,
)
# https://www.keycloak.org/docs/latest/server_admin/#_timeouts, with "Revoke Refresh Token" on
KEYCLOAK = Dialect(
    "keycloak",
    path="/realms/acme/protocol/openid-connect/token",
    auth="basic",
    rotation="family",
    lifetime=300,
    errors=shapes.keycloak,
    extras=_keycloak_extras,
)
# https://developer.xero.com/documentation/guides/oauth2/token-types: 30 minutes of grace
XERO = Dialect(
    "xero",
    path="/connect/token",
    auth="basic",
    rotation="grace",
    grace_seconds=1800,
    lifetime=1800,
    refresh_lifetime=60 * DAY_SECONDS,
    errors=shapes.xero,
)
# https://developers.hubspot.com/docs/api-reference/auth-oauth-v1/guide
HUBSPOT = Dialect(
    "hubspot",
    path="/oauth/2026-03/token",
    rotation="never",
    repeats_refresh_token=True,
    lifetime=1800,
    errors=shapes.hubspot,
)
# As the samples of its reference spell the same answer; served where a test asks for it.
HUBSPOT_CAMEL_CASE = replace(
    HUBSPOT,
    name="hubspot-camel-case",
    names={
        "access_token": "accessToken",
        "refresh_token": "refreshToken",
        "expires_in": "expiresIn",
        "token_type": "tokenType",
    },
)
# https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_refresh_token_flow.htm
SALESFORCE = Dialect(
    "salesforce",
    path="/services/oauth2/token",
    rotation="family_where_set",  # https://github.com/restforce/restforce/issues/957
    lifetime=7200,  # the org's session time-out
    sends_expires_in=False,
    errors=shapes.salesforce,
    extras=_salesforce_extras,
)
# https://support.exactonline.com/community/s/knowledge-base: one refresh in nine and a half minutes
EXACT_ONLINE = Dialect(
    "exact-online",
    path="/api/oauth2/token",
    auth="basic",
    earliest=30,
    lifetime=600,
    refresh_lifetime=30 * DAY_SECONDS,
    errors=shapes.exact_online,
    extras=lambda _: {"expires_in": "600"},
    pkce=False,
)
# https://developer.atlassian.com/cloud/oauth/getting-started/refresh-tokens: both old tokens live ten more minutes
ATLASSIAN = Dialect(
    "atlassian",
    path="/oauth/token",
    encoding="json",
    rotation="grace",
    grace_seconds=600,
    access_token_dies=True,
    refresh_lifetime=90 * DAY_SECONDS,
    errors=shapes.atlassian,
    extras=_scope,
    pkce=False,
)
# https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/faq
QUICKBOOKS = Dialect(
    "quickbooks",
    path="/oauth2/v1/tokens/bearer",
    auth="basic",
    rotation="aged",
    rotates_after_seconds=DAY_SECONDS,
    repeats_refresh_token=True,
    refresh_lifetime=100 * DAY_SECONDS,
    errors=shapes.quickbooks,
    extras=lambda _: {"x_refresh_token_expires_in": 100 * DAY_SECONDS},
    pkce=False,
)

# Plain providers, each with one thing of its own.
ACME = Dialect("acme")
GENERIC = (
    ACME,
    Dialect("acme-never", rotation="never"),
    Dialect("acme-family", rotation="family"),
    Dialect("acme-grace", rotation="grace", grace_seconds=60),
    Dialect("acme-until-used", rotation="until_used", access_token_dies=True),
    Dialect("acme-dies", access_token_dies=True),
    Dialect("acme-basic", auth="basic"),
    Dialect("acme-basic-plain", auth="basic_plain"),
    Dialect("acme-public", auth="none"),
    Dialect("acme-json", encoding="json"),
    Dialect("acme-no-expiry", sends_expires_in=False),
    Dialect("acme-audience", required={"audience": ("api",)}),
)
REAL = (
    *(GOHIGHLEVEL, GOOGLE, MICROSOFT, GITHUB_APP, GITLAB, SLACK, ZOOM, XERO, HUBSPOT, SALESFORCE),
    *(EXACT_ONLINE, KEYCLOAK, ATLASSIAN, QUICKBOOKS),
)
DIALECTS = (*REAL, *GENERIC)
