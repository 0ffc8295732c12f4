"""How more providers say no: each in its own shape of body, with its own statuses and words."""

from __future__ import annotations

from typing import Any

from tests.world.http import Response
from tests.world.oauth.refusals import NO_STORE, Refusal, rfc6749

_DEAD = ("invalid_grant", "uninstalled")


def _is_dead(refusal: Refusal) -> bool:
    return refusal.code in _DEAD and refusal.parameter != "code"


def microsoft(refusal: Refusal) -> Response:
    """One `error` for many causes; the AADSTS number and `error_codes` tell which.

    https://learn.microsoft.com/entra/identity-platform/reference-error-codes
    """
    if refusal.code == "paused":
        return _aadsts(503, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
    if _is_dead(refusal):
        number, words = {
            "expired": (700082, "The refresh token has expired due to inactivity."),
            "revoked": (50173, "The provided grant has expired due to it being revoked."),
        }.get(refusal.why, (70000, "The provided value for the input parameter 'refresh_token' is not valid."))
        return _aadsts(400, "invalid_grant", number, words)
    if refusal.code == "invalid_client" and refusal.parameter == "client_id":
        return _aadsts(400, "unauthorized_client", 700016, "The application was not found in the directory 'acme'.")
    if refusal.code == "invalid_client":
        return _aadsts(401, "invalid_client", 7000215, "Invalid client secret provided.")
    if refusal.code == "invalid_scope":
        return _aadsts(400, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.")
    if refusal.missing:
        words = f"The request body must contain the following parameter: '{refusal.parameter}'."
        return _aadsts(400, "invalid_request", 900144, words)
    return rfc6749(refusal)


def _aadsts(status: int, error: str, number: int, words: str) -> Response:
    content = {
        "error": error,
        "error_description": f"AADSTS{number}: {words}\r\nTrace ID: 0000\r\nTimestamp: 2026-03-01 12:00:00Z",
        "error_codes": [number],
        "trace_id": "0000",
        "error_uri": f"https://login.microsoftonline.com/error?code={number}",
    }
    return Response.of_json(status, content, NO_STORE)


def slack(refusal: Refusal) -> Response:
    """Every failure is `ok: false` with status 200."""
    code = {
        "invalid_grant": "token_revoked" if refusal.why == "revoked" else "invalid_refresh_token",
        "uninstalled": "account_inactive",
        "invalid_client": "invalid_client_id" if refusal.parameter == "client_id" else "bad_client_secret",
        "paused": "service_unavailable",
    }.get(refusal.code, refusal.code)
    return Response.of_json(200, {"ok": False, "error": code})


def zoom(refusal: Refusal) -> Response:
    """`reason` and `error`, or a number in the 4700 range."""
    if refusal.code == "uninstalled" or refusal.why == "revoked":
        content = {"status": False, "errorCode": 4741, "errorMessage": "The token has been revoked.", "result": None}
        return Response.of_json(401, content)
    if _is_dead(refusal):
        return Response.of_json(400, {"reason": "Invalid Token!", "error": "invalid_request"})
    if refusal.code == "invalid_client" and refusal.parameter == "client_id":
        content = {"status": False, "errorCode": 4702, "errorMessage": "Invalid client_id: x", "result": None}
        return Response.of_json(400, content)
    if refusal.code == "invalid_client":
        return Response.of_json(401, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"})
    return rfc6749(refusal)


def keycloak(refusal: Refusal) -> Response:
    """RFC 6749 in Keycloak's words; a wrong secret is `unauthorized_client`."""
    if _is_dead(refusal):
        words = {
            "used": "Maximum allowed refresh token reuse exceeded",
            "expired": "Token is not active",
            "revoked": "Session not active",
        }.get(refusal.why, "Invalid refresh token")
        return rfc6749(Refusal("invalid_grant", words))
    if refusal.code == "invalid_client" and refusal.parameter == "client_secret":
        content = {"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"}
        return Response.of_json(401, content, NO_STORE)
    return rfc6749(refusal)


def hubspot(refusal: Refusal) -> Response:
    """HubSpot's own objects."""
    if _is_dead(refusal):
        return _hubspot("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
    if refusal.code == "invalid_client" and refusal.parameter == "client_id":
        return _hubspot("BAD_CLIENT_ID", "missing or unknown client id")
    if refusal.code == "invalid_client":
        return _hubspot("BAD_CLIENT_SECRET", "missing or invalid client secret")
    return rfc6749(refusal)


def _hubspot(status: str, message: str) -> Response:
    content: dict[str, Any] = {"status": status, "message": message, "correlationId": "0000", "category": "BAD_REQUEST"}
    return Response.of_json(400, content)


def salesforce(refusal: Refusal) -> Response:
    """Always 400; an unknown client has a code of its own."""
    if _is_dead(refusal):
        return rfc6749(Refusal("invalid_grant", "expired access/refresh token"))
    if refusal.code == "invalid_client" and refusal.parameter == "client_id":
        content = {"error": "invalid_client_id", "error_description": "client identifier invalid"}
        return Response.of_json(400, content, NO_STORE)
    if refusal.code == "invalid_client":
        content = {"error": "invalid_client", "error_description": "invalid client credentials"}
        return Response.of_json(400, content, NO_STORE)
    return rfc6749(refusal)


def exact_online(refusal: Refusal) -> Response:
    """A refresh that comes early is `access_denied`; a used token is told in words."""
    if refusal.code == "early":
        words = "Rate limit exceeded: access_token not expired"
        return Response.of_json(400, {"error": "access_denied", "error_description": words}, NO_STORE)
    if refusal.why == "used":
        content = {"error": "unauthorized_client", "error_description": "Old refresh token used."}
        return Response.of_json(401, content, NO_STORE)
    return rfc6749(refusal)
