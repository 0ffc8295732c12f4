"""The authorization endpoint, which consents by itself, and the codes it hands out (RFC 6749, 4.1; RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.world.http import Request, Response
from tests.world.oauth.checks import Client, Clients, Params, require
from tests.world.oauth.dialects import Facts, Login, Manner
from tests.world.oauth.refusals import Refusal, Violation

CODE_LIFETIME_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SEPARATORS = " ,;+|"  # of scopes, somewhere
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # an unpadded SHA-256
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, section 4.1


@dataclass
class Code:
    """One authorization code."""

    client_id: str
    redirect_uri: str
    challenge: str | None
    facts: Facts
    offline: bool  # a refresh token will be given
    expires_at: float
    family: str | None = None  # of the grant it was exchanged for


@dataclass
class CodeBook:
    """The codes that were issued. Its owner holds a lock around every call."""

    codes: dict[str, Code] = field(default_factory=dict)

    def issue(self, code: Code) -> str:
        """A fresh code."""
        value = f"code-{os.urandom(16).hex()}"
        self.codes[value] = code
        return value

    def redeem(self, login: Login, params: Params, client: Client, now: float) -> Code:
        """The code of a token request. Raises `Refusal` (`invalid_grant`); whoever redeems it sets its `family`."""
        redirect_uri = require(params, "redirect_uri")
        code = self.codes.get(require(params, login.exchange_code_param))
        wrong = Refusal("invalid_grant", "The code is wrong, used or expired.", parameter="code")
        if code is None or code.client_id != client.client_id or now >= code.expires_at:
            raise wrong
        if code.redirect_uri != redirect_uri:
            raise Violation("invalid_grant", "another redirect_uri than the code was asked for with", parameter="code")
        if login.pkce == "required" or code.challenge is not None:
            _check_verifier(code, params)
        return code


def authorize(login: Login, manner: Manner, request: Request, clients: Clients) -> tuple[Params, Client]:
    """The checked parameters of an authorization request.

    Raises `Violation` where the user must not be sent back (unknown client or address), `BadRequest` where it is told
    to the client by a redirect (RFC 6749, section 4.1.2.1).
    """
    if request.method != "GET":
        raise Violation("method", f"the authorization endpoint was asked with {request.method}, not GET", allow="GET")
    doubled = [name for name, count in Counter(name for name, _ in request.query).items() if count > 1]
    if doubled:
        raise Violation("invalid_request", f"the parameter {doubled[0]} came more than once (RFC 6749, 3.1)")
    params = {name: value for name, value in request.query if value}
    client = clients.get(require(params, login.client_id_param or manner.client_id_param))
    if client is None:
        raise Refusal("unauthorized_client", "The client is not known.")
    given = require(params, "redirect_uri")
    if not any(_same_address(known, given, any_port=login.any_port) for known in client.redirect_uris):
        raise Violation("invalid_request", "the redirect_uri is not registered (RFC 6749, 3.1.2.4)")
    _check_rest(login, params)
    return params, client


def scopes_of(login: Login, params: Params) -> frozenset[str]:
    """What is asked for."""
    return frozenset(filter(None, params.get("scope", "").split(login.separator)))


def why_online(login: Login, params: Params) -> str | None:
    """Why the provider gives no refresh token, though it gives an access token; None where it gives one."""
    for name, value in login.asks.items():
        if params.get(name) != value:
            return f"no refresh token without {name}={value} in the authorization request"
    for scope in sorted(login.scopes - scopes_of(login, params)):
        return f"no refresh token without the scope {scope}"
    return None


def send_back(login: Login, params: Params, answer: Mapping[str, str], key: str | None = None) -> str:
    """Where the browser lands, with the answer and the state added, and with Shopify's `hmac` where there is a key."""
    members = {**answer, **({"state": params["state"]} if "state" in params else {})}
    if key is not None:
        members["hmac"] = hmac.new(key.encode(), urlencode(sorted(members.items())).encode(), "sha256").hexdigest()
    page = login.lands_at or params["redirect_uri"]
    return f"{page}{'&' if urlsplit(page).query else '?'}{urlencode(members)}"


class BadRequest(Violation):
    """A violation that is told to the client by a redirect with `answer`."""

    def __init__(self, code: str, description: str, params: Params) -> None:
        super().__init__(code, description)
        self.params = params
        self.answer = {"error": code, "error_description": description}


def found(location: str) -> Response:
    """A redirect of a browser."""
    return Response(302, b"", {"Location": location, "Cache-Control": "no-store"})


def _check_rest(login: Login, params: Params) -> None:
    if params.get("response_type") != "code":
        raise BadRequest("unsupported_response_type", "response_type is not code", params)
    if "state" not in params:
        raise BadRequest("invalid_request", "state is missing (RFC 6749, 10.12)", params)
    if "client_secret" in params:
        raise BadRequest("invalid_request", "the client secret came through the browser", params)
    others = set(_SEPARATORS) - set(login.separator)
    if any(sign in scope for scope in scopes_of(login, params) for sign in others):
        raise BadRequest("invalid_scope", f"scopes are not separated by {login.separator!r}", params)
    if login.pkce == "required" or (login.pkce != "none" and "code_challenge" in params):
        _check_challenge(params)


def _check_challenge(params: Params) -> None:
    if params.get("code_challenge_method") != "S256":
        raise BadRequest("invalid_request", "code_challenge_method is not S256 (RFC 9700, 2.1.1)", params)
    if not _CHALLENGE.fullmatch(params.get("code_challenge", "")):
        raise BadRequest("invalid_request", "code_challenge is no unpadded SHA-256 (RFC 7636, 4.2)", params)


def _check_verifier(code: Code, params: Params) -> None:
    verifier = require(params, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise Violation("invalid_request", "code_verifier is malformed (RFC 7636, 4.1)", parameter="code_verifier")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    if not hmac.compare_digest(digest, code.challenge or ""):
        raise Violation("invalid_grant", "code_verifier does not match (RFC 7636, 4.6)", parameter="code")


def _same_address(known: str, given: str, *, any_port: bool) -> bool:
    """Equal, or equal but for the port of a loopback address where the provider takes any."""
    if known == given or not any_port:
        return known == given
    one, other = urlsplit(known), urlsplit(given)
    return one.hostname in LOOPBACK and (
        (one.scheme, one.hostname, one.path, parse_qsl(one.query))
        == (other.scheme, other.hostname, other.path, parse_qsl(other.query))
    )
