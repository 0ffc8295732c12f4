"""GoHighLevel (HighLevel, LeadConnector): errors that are not RFC 6749's, and two that mean something else.

Sources: GoHighLevel/highlevel-api-docs, apps/oauth.json and docs/oauth/Authorization.md. Seen in the field rather
than documented: the 401 of an uninstalled app, and bodies with `error_description`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.base import UNAUTHORIZED, Provider, Verdict
from providers.login import Login

# Billing is paused or the agency is inactive. The refresh token is not used up and works again afterwards.
_PAUSED = "location is not active"
_INVALID_GRANT = "invalid grant"
_CLIENT_REFUSED = "invalid client credentials"
_REQUEST_REFUSED = ("missing parameter", "invalid parameter")
_UNPROCESSABLE = 422


class GoHighLevel(Provider):
    """See `Provider`. Error bodies are `{statusCode, message[, error]}`; `message` is a list for 422."""

    # An uninstalled app answers like a wrong client secret. If another location of the same app is accepted,
    # the secret is right and this location's grant is gone.
    refusal_if_client_valid = Verdict.DEAD_GRANT

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


class GoHighLevelLogin(Login):
    """See `Login`. An agency that installs an app for sub-accounts gets a token of the kind `Company`."""

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
