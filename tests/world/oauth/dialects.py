"""What one provider's token endpoint asks and answers, as data, and the providers that are ready to use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.world.oauth import refusals

Auth = Literal["body", "basic", "none"]
Encoding = Literal["form", "json"]
Rotation = Literal["never", "single_use", "family", "grace", "until_used"]
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
    - `until_used`: it stays valid until one of the tokens it was exchanged for is used.
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
    access_token_dies: bool = False  # the old access token ends with the refresh
    lifetime: int = 3600  # seconds, of an access token
    sends_expires_in: bool = True
    refresh_lifetime: float = math.inf  # seconds, of a refresh token, from its issue
    errors: refusals.ErrorShape = refusals.rfc6749
    extras: Callable[[Facts], dict[str, Any]] = no_extras  # more members of a successful answer
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
    "gitlab", path="/oauth/token", required={"redirect_uri": ()}, access_token_dies=True, lifetime=7200, extras=_scope
)
# https://www.keycloak.org/docs/latest/server_admin/#_timeouts, with "Revoke Refresh Token" on
KEYCLOAK = Dialect("keycloak", auth="basic", rotation="family", lifetime=300, extras=_keycloak_extras)
# https://developer.xero.com/documentation/guides/oauth2/token-types: 30 minutes of grace
XERO = Dialect(
    "xero",
    path="/connect/token",
    auth="basic",
    rotation="grace",
    grace_seconds=1800,
    lifetime=1800,
    refresh_lifetime=60 * DAY_SECONDS,
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
    Dialect("acme-public", auth="none"),
    Dialect("acme-json", encoding="json"),
    Dialect("acme-no-expiry", sends_expires_in=False),
    Dialect("acme-audience", required={"audience": ("api",)}),
)
DIALECTS = (GOHIGHLEVEL, GOOGLE, MICROSOFT, GITHUB_APP, GITLAB, KEYCLOAK, XERO, *GENERIC)
