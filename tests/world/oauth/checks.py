"""What RFC 6749 asks of a request with a client's credentials, checked without mercy.

Every function raises `Violation` with a plain sentence that names the rule and holds no value from the request.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from tests.world.http import Request
from tests.world.oauth.dialects import Manner
from tests.world.oauth.refusals import Refusal, Violation

MEDIA_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
Params = Mapping[str, str]


@dataclass
class Client:
    """A registered client. `redirect_uris` are compared exactly, save for a loopback port (RFC 8252, section 7.3)."""

    client_id: str
    secret: str = field(repr=False)
    redirect_uris: tuple[str, ...] = ()


Clients = Mapping[str, Client]  # by client id


def read_pairs(manner: Manner, request: Request) -> list[tuple[str, Any]]:
    """The parameters in the body or, with GET, the query, in order. Raises `ValueError` where it cannot be read."""
    if request.method == "GET":
        return list(request.query)
    if manner.encoding == "form":
        return list(request.form())
    pairs: list[tuple[str, Any]] = json.loads(request.body, object_pairs_hook=_Pairs)
    if not isinstance(pairs, _Pairs):
        raise ValueError("not an object")
    return pairs


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, doubled ones too."""


def check_envelope(manner: Manner, request: Request) -> None:
    """Method, place of the parameters, and media type."""
    if request.method != manner.method:
        sentence = f"the endpoint was asked with {request.method}, not {manner.method} (RFC 6749, 3.2)"
        raise Violation("method", sentence, allow=manner.method)
    if manner.method == "GET":
        if request.body:
            raise Violation("invalid_request", "a GET request has a body")
        return
    if request.query:
        raise Violation("invalid_request", "parameters came in the query of the URL (RFC 6749, 2.3.1)")
    wanted = MEDIA_TYPES[manner.encoding]
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted and request.body:
        raise Violation("invalid_request", f"the Content-Type is {given or 'missing'}, not {wanted}")


def read_params(manner: Manner, request: Request) -> Params:
    """The parameters, each once; those without a value count as absent (RFC 6749, section 3.2)."""
    try:
        pairs = read_pairs(manner, request)
    except ValueError:
        raise Violation("invalid_request", f"the body is no readable {manner.encoding}") from None
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            sentence = f"the parameter {name} came {count} times (RFC 6749, 3.2)"
            raise Violation("invalid_request", sentence, parameter=name)
    for name, value in pairs:
        if not isinstance(value, str):
            raise Violation("invalid_request", f"the parameter {name} is not a string", parameter=name)
    return {name: value for name, value in pairs if value}


def check_client(manner: Manner, request: Request, params: Params, clients: Clients) -> Client:
    """The authenticated client (RFC 6749, section 2.3). Raises `Refusal` (`invalid_client`) for wrong credentials."""
    client_id, secret = _CREDENTIALS[manner.auth](manner, request, params)
    if manner.auth == "basic_secret":
        client_id = next((client.client_id for client in clients.values() if _same(client.secret, secret)), client_id)
    client = clients.get(client_id)
    known = client is not None and (manner.auth == "none" or _same(client.secret, secret))
    if client is None or not known:
        words = "The client secret is wrong." if client else "The client is not known."
        parameter = "client_secret" if client else manner.client_id_param
        raise Refusal("invalid_client", words, parameter=parameter, basic=manner.auth.startswith("basic"))
    return client


def check_no_client(request: Request, params: Params) -> None:
    """Where no client authenticates, its secret must not be sent."""
    if "authorization" in request.headers or "client_secret" in params:
        sentence = "the client sent a secret that nobody asked for (RFC 6749, 2.3)"
        raise Violation("invalid_request", sentence, parameter="client_secret")


def require(params: Params, name: str) -> str:
    """The value of a parameter that must be there."""
    if name not in params:
        raise Violation("invalid_request", f"the parameter {name} is missing", parameter=name, missing=True)
    return params[name]


def check_required(required: Mapping[str, tuple[str, ...]], params: Params) -> None:
    """Parameters that must be there, each with an allowed value."""
    for name, allowed in required.items():
        if require(params, name) not in allowed and allowed:
            raise Violation("invalid_request", f"the parameter {name} has a value that is not allowed", parameter=name)


def check_scope(params: Params, granted: frozenset[str]) -> None:
    """A refresh must not ask for more than was granted (RFC 6749, section 6)."""
    if frozenset(params.get("scope", "").split()) - granted:
        raise Violation("invalid_scope", "the scope asks for more than was granted (RFC 6749, 6)", parameter="scope")


def peek(manner: Manner, request: Request) -> Params:
    """What can be read of a request, however wrong it is, the client as `client_id`; of doubled parameters the last."""
    try:
        given = {name: value for name, value in read_pairs(manner, request) if isinstance(value, str)}
    except ValueError:
        given = {}
    if manner.client_id_param in given:
        given["client_id"] = given[manner.client_id_param]
    elif "authorization" in request.headers:
        with contextlib.suppress(ValueError):
            given["client_id"] = _basic_parts(request, is_encoded=manner.auth == "basic")[0]
    return given


def _body_credentials(manner: Manner, request: Request, params: Params) -> tuple[str, str]:
    if "authorization" in request.headers:
        raise Violation("invalid_request", "the client authenticates in a header, this provider wants it in the body")
    return require(params, manner.client_id_param), require(params, "client_secret")


def _public_client(manner: Manner, request: Request, params: Params) -> tuple[str, str]:
    check_no_client(request, params)
    return require(params, manner.client_id_param), ""


def _basic_credentials(manner: Manner, request: Request, params: Params) -> tuple[str, str]:
    """Both parts are form-encoded before they are joined and put in base64 (RFC 6749, section 2.3.1).

    With `basic_plain` they are joined as they are, as many servers read them.
    """
    if "client_secret" in params:
        sentence = "the client secret is in the body, this provider wants HTTP Basic (RFC 6749, 2.3)"
        raise Violation("invalid_request", sentence, parameter="client_secret", basic=True)
    if not request.headers.get("authorization", "").lower().startswith("basic "):
        raise Violation("invalid_client", "the client did not authenticate with HTTP Basic", basic=True)
    try:
        client_id, secret = _basic_parts(request, is_encoded=manner.auth == "basic")
    except ValueError:
        raise Violation("invalid_client", "the HTTP Basic credentials are not readable", basic=True) from None
    if params.get(manner.client_id_param, client_id) != client_id:
        sentence = "the client id in the body is not the one of HTTP Basic"
        raise Violation("invalid_request", sentence, parameter=manner.client_id_param, basic=True)
    return client_id, secret


def _secret_for_user(manner: Manner, request: Request, params: Params) -> tuple[str, str]:
    joined = ":".join(_basic_credentials(manner, request, params))
    if not joined.endswith(":"):
        raise Violation("invalid_client", "there is a password beside the secret", basic=True)
    return "", joined[:-1]


def _secret_in_header(manner: Manner, request: Request, params: Params) -> tuple[str, str]:
    """`Authorization: Client SECRET`, as Square has it."""
    if "client_secret" in params:
        raise Violation("invalid_request", "the client secret is in the body, too", parameter="client_secret")
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme != "Client":
        raise Violation("invalid_client", "the header has no client secret of the scheme Client")
    return require(params, manner.client_id_param), secret


def _basic_parts(request: Request, *, is_encoded: bool) -> tuple[str, str]:
    """Raises `ValueError`."""
    encoded = request.headers["authorization"].partition(" ")[2].strip()
    client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    if not colon:
        raise ValueError("no colon")
    return (unquote_plus(client_id), unquote_plus(secret)) if is_encoded else (client_id, secret)


_CREDENTIALS: Mapping[str, Callable[[Manner, Request, Params], tuple[str, str]]] = {
    "body": _body_credentials,
    "basic": _basic_credentials,
    "basic_plain": _basic_credentials,
    "basic_secret": _secret_for_user,
    "secret": _secret_in_header,
    "none": _public_client,
}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
