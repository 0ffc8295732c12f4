"""GoHighLevel (HighLevel, LeadConnector): errors that are not RFC 6749's, and two that mean something else.

Sources: GoHighLevel/highlevel-api-docs, apps/oauth.json and docs/oauth/Authorization.md. Seen in the field rather
than documented: the 401 of an uninstalled app, and bodies with `error_description`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.base import UNAUTHORIZED, Answer, Provider, RawAnswer, TokenRequest, Verdict, parse_answer
from providers.login import Login

# Billing is paused or the agency is inactive. The refresh token is not used up and works again afterwards.
_PAUSED = "location is not active"
_INVALID_GRANT = "invalid grant"
_CLIENT_REFUSED = "invalid client credentials"
_REQUEST_REFUSED = ("missing parameter", "invalid parameter")
_UNPROCESSABLE = 422
_API_VERSION = "2021-07-28"  # of the two requests of an agency; with `v3` they have other paths and names
PAGE_LOCATIONS = 100


class GoHighLevel(Provider):
    """See `Provider`. Error bodies are `{statusCode, message[, error]}`; `message` is a list for 422."""

    agency_param = "company"

    # An uninstalled app answers like a wrong client secret. If another location of the same app is accepted,
    # the secret is right and this location's grant is gone.
    refusal_if_client_valid = Verdict.DEAD_GRANT

    def read_answer(self, raw: RawAnswer) -> Answer:
        """See `Provider.read_answer`. Tokens of a location come with its id."""
        answer, location_id = super().read_answer(raw), parse_answer(raw)[0].get("locationId")
        if answer.verdict is not Verdict.GRANTED or not isinstance(location_id, str):
            return answer
        return replace(answer, location_id=location_id)

    def judge(self, status: int, content: Mapping[str, Any]) -> Verdict | None:
        """See `Provider.judge`. HighLevel says in words what others say in `error`."""
        message = _message(content).lower()
        if _PAUSED in message:
            return Verdict.NOT_ACTED
        if message.startswith(_INVALID_GRANT):
            return Verdict.DEAD_GRANT
        if status == UNAUTHORIZED and _CLIENT_REFUSED in message:
            return Verdict.CLIENT_REFUSED
        if (status == _UNPROCESSABLE and message) or message.startswith(_REQUEST_REFUSED):
            return Verdict.REQUEST_REFUSED
        return super().judge(status, content)

    def describe(self, content: Mapping[str, Any]) -> str:
        """See `Provider.describe`. Its `error` only repeats the status."""
        return _message(content) or super().describe(content)

    def advise(self, verdict: Verdict, content: Mapping[str, Any]) -> str | None:
        """See `Provider.advise`."""
        if verdict is Verdict.NOT_ACTED and _PAUSED in _message(content).lower():
            return "Reactivate the location in HighLevel; its stored refresh token works again then."
        message = _message(content).lower()
        if verdict is Verdict.REQUEST_REFUSED and (message.startswith(_REQUEST_REFUSED) or "user_type" in message):
            return "Check user_type in the row's provider_params: Location for a sub-account, Company for an agency."
        return None

    def installed_request(
        self, params: Mapping[str, str], access_token: str, company_id: str, app_id: str, skip: int
    ) -> TokenRequest:
        """The request for the locations of an agency that have the app, from the one with the number `skip` on.

        Args:
            params: of the agency's row.
            access_token: the agency's.

        Raises:
            ProviderError: see `Provider.endpoint`.
        """
        page = {"companyId": company_id, "appId": app_id, "isInstalled": "true"}
        page |= {"skip": str(skip), "limit": str(PAGE_LOCATIONS)}
        return replace(self._request_of_agency("installedLocations", page, params, access_token), method="GET")

    def mint_request(
        self, params: Mapping[str, str], access_token: str, company_id: str, location_id: str
    ) -> TokenRequest:
        """The request for a pair of tokens of one of an agency's locations. Arguments: see `installed_request`."""
        whose = {"companyId": company_id, "locationId": location_id}
        return self._request_of_agency("locationToken", whose, params, access_token)

    def _request_of_agency(
        self, name: str, fields: dict[str, str], params: Mapping[str, str], access_token: str
    ) -> TokenRequest:
        """Beside the token endpoint, wherever a setting has moved that."""
        endpoint = self.endpoint(params)
        url = f"{endpoint.url.rpartition('/')[0]}/{name}"
        request = self.request(replace(endpoint, url=url), fields, None)
        headers = {"Authorization": f"Bearer {access_token}", "Version": _API_VERSION}
        return replace(request, headers={**request.headers, **headers})


class GoHighLevelLogin(Login):
    """See `Login`. An agency that installs an app for sub-accounts gets a token of the kind `Company`."""

    def params_of(self, params: Mapping[str, str], client_id: str) -> Mapping[str, str]:
        """See `Login.params_of`. The id of an app is its client id up to the hyphen, for most apps."""
        return {**params, "app_id": params.get("app_id") or client_id.partition("-")[0]}

    def params_in_answer(self, content: Mapping[str, Any]) -> dict[str, str]:
        """See `Login.params_in_answer`."""
        user_type = content.get("userType")
        return {"user_type": user_type} if user_type in ("Location", "Company") else {}


def _message(content: Mapping[str, Any]) -> str:
    for name in ("error_description", "message", "error"):
        value = content.get(name)
        if isinstance(value, list):
            value = "; ".join(part for part in value if isinstance(part, str))
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""
