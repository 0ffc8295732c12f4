"""How each provider says no: one `Refusal`, and a function for every provider's own shape of error body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.world.http import Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1
TOO_MANY_REQUESTS = 429


class Refusal(Exception):  # noqa: N818 - an answer, not an error of the server
    """The service refuses a request.

    Args:
        code: an error code of RFC 6749, section 5.2, or `paused`, `uninstalled`, `method`, `early`, `throttled`, which
            only some know.
        description: what `error_description` will say; never a secret.
        parameter: the parameter at fault, where there is one.
        missing: the parameter was absent or empty.
        subtype: Google's `error_subtype`.
        why: of a refresh token that is refused: `unknown`, `used`, `expired` or `revoked`; only some tell.
        basic: the client authenticated with HTTP Basic, so a 401 names the scheme.
        allow: the method that would be right.
    """

    def __init__(
        self,
        code: str,
        description: str,
        *,
        parameter: str | None = None,
        missing: bool = False,
        subtype: str | None = None,
        why: str = "",
        basic: bool = False,
        allow: str = "",
    ) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameter = parameter
        self.missing = missing
        self.subtype = subtype
        self.why = why
        self.basic = basic
        self.allow = allow


class Violation(Refusal):
    """A refusal because the request itself breaks a rule; the description is a plain sentence naming the rule."""


ErrorShape = Callable[[Refusal], Response]


def rfc6749(refusal: Refusal) -> Response:
    """Error bodies as in RFC 6749, section 5.2. A paused grant is a 503 with `temporarily_unavailable`."""
    code, status = {
        "paused": ("temporarily_unavailable", 503),
        "throttled": ("temporarily_unavailable", TOO_MANY_REQUESTS),
        "uninstalled": ("invalid_grant", 400),
        "method": ("invalid_request", 405),
        "invalid_client": ("invalid_client", 401),
    }.get(refusal.code, (refusal.code, 400))
    headers = dict(NO_STORE)
    if status == 401 and refusal.basic:
        headers["WWW-Authenticate"] = 'Basic realm="token"'
    if status == 405:
        headers["Allow"] = refusal.allow
    return Response.of_json(status, {"error": code, "error_description": refusal.description}, headers)


def google(refusal: Refusal) -> Response:
    """Google's bodies: RFC 6749, with its own words and `error_subtype`.

    https://developers.google.com/identity/protocols/oauth2#expiration
    """
    if refusal.code == "invalid_grant" and refusal.subtype:
        content = {
            "error": "invalid_grant",
            "error_description": f"reauth related error ({refusal.subtype})",
            "error_uri": "https://support.google.com/a/answer/9368756",
            "error_subtype": refusal.subtype,
        }
        return Response.of_json(400, content, NO_STORE)
    if refusal.code in ("invalid_grant", "uninstalled"):
        words = "Token has been expired or revoked." if refusal.parameter != "code" else "Malformed auth code."
        return rfc6749(Refusal("invalid_grant", words))
    if refusal.code == "invalid_client":
        return rfc6749(Refusal("invalid_client", "Unauthorized"))
    if refusal.missing:
        return rfc6749(Refusal("invalid_request", f"Missing required parameter: {refusal.parameter}"))
    return rfc6749(refusal)


def github(refusal: Refusal) -> Response:
    """GitHub answers failures with status 200 and error codes of its own.

    https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
    """
    code, words = {
        "invalid_grant": ("bad_refresh_token", "The refresh token passed is incorrect or expired."),
        "uninstalled": ("bad_refresh_token", "The refresh token passed is incorrect or expired."),
        "invalid_client": (
            "incorrect_client_credentials",
            "The client_id and/or client_secret passed are incorrect.",
        ),
    }.get(refusal.code, (refusal.code, refusal.description))
    if code == "bad_refresh_token" and refusal.parameter == "code":
        code, words = "bad_verification_code", "The code passed is incorrect or expired."
    if refusal.code == "method":
        return Response(404, b"Not Found", {"Content-Type": "text/plain"})
    return Response.of_json(200, {"error": code, "error_description": words, "error_uri": "https://docs.github.com"})


# HighLevel checks these before its OAuth code sees the request, and answers 422 with a list of messages.
_HIGHLEVEL_VALIDATED = ("client_id", "client_secret", "grant_type")
_HIGHLEVEL_CHOICES = {
    "grant_type": "authorization_code, refresh_token, client_credentials",
    "user_type": "Company, Location",
}


def highlevel(refusal: Refusal) -> Response:
    """HighLevel's bodies: {statusCode, message[, error]}, the message a list of strings in a 422.

    https://github.com/GoHighLevel/highlevel-api-docs: apps/oauth.json, common/common-schemas.json
    """
    if refusal.code == "method":
        return _highlevel(404, "Cannot find that", "Not Found")
    if refusal.code in ("invalid_client", "uninstalled"):
        return _highlevel(401, "Invalid client credentials!", "Unauthorized")
    if refusal.code == "invalid_grant":
        words = "authorization code is invalid" if refusal.parameter == "code" else "refresh token is invalid"
        return _highlevel(400, f"Invalid grant: {words}", None)
    if refusal.code == "paused":
        return _highlevel(400, "Location is not active", None)
    if refusal.code == "invalid_scope":
        return _highlevel(400, "Invalid scope: Requested scope is invalid", None)
    if refusal.missing and refusal.parameter not in _HIGHLEVEL_VALIDATED:
        return _highlevel(400, f"Missing parameter: {refusal.parameter}", None)
    return _highlevel(422, [_highlevel_message(refusal)], "Unprocessable Entity")


def _highlevel_message(refusal: Refusal) -> str:
    if refusal.missing:
        return f"{refusal.parameter} should not be empty"
    if refusal.parameter in _HIGHLEVEL_CHOICES:
        return f"{refusal.parameter} must be one of the following values: {_HIGHLEVEL_CHOICES[refusal.parameter]}"
    return f"{refusal.parameter} must be a string" if refusal.parameter else refusal.description


def _highlevel(status: int, message: str | list[str], label: str | None) -> Response:
    content: dict[str, Any] = {"statusCode": status, "message": message}
    if label:
        content["error"] = label
    return Response.of_json(status, content)
