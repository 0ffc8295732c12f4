"""The revocation endpoint of each provider: RFC 7009, or whatever a provider asks for in its place."""

from __future__ import annotations

from collections.abc import Mapping

from tests.world.http import Request
from tests.world.oauth import checks
from tests.world.oauth.checks import Clients, Params
from tests.world.oauth.dialects import Dialect, Manner, Revocation
from tests.world.oauth.refusals import Refusal, Violation
from tests.world.oauth.tokens import AccessToken, RefreshToken, TokenBook

Token = RefreshToken | AccessToken
_PLACES = ("refresh-1", "access-1")  # what stands for a token in `Revocation.sends`


def named_token(
    dialect: Dialect, told: Revocation, request: Request, book: TokenBook, clients: Clients
) -> Token | None:
    """The token that is to end; None for one that is not known, which is no error (RFC 7009, section 2.2).

    Raises `Refusal` for a client or request that is not accepted.
    """
    manner = told.manner or dialect.login_manner
    checks.check_envelope(manner, request)
    params = checks.read_params(manner, request) if request.body else {}
    client_id = _client_id(dialect, manner, request, params, book, clients)
    token = _find(dialect, book, *_place_and_value(manner, told, request, params))
    if token is not None and client_id not in (None, book.grants[token.family].client_id):
        raise Refusal("unauthorized_client", "The token belongs to another client.")
    return token


def _place_and_value(manner: Manner, told: Revocation, request: Request, params: Params) -> tuple[str, str]:
    """What kind of token is asked for (empty: any), and the one that came."""
    if told.sends is None:
        return "", checks.require(params, "token")
    sends = told.sends
    if told.either and params.get("token_type_hint") == "access_token":
        sends = {"token": "access-1", "token_type_hint": "access_token"}
    checks.check_required({name: () if place in _PLACES else (place,) for name, place in sends.items()}, params)
    for name in params:
        if name not in (*sends, manner.client_id_param, "client_secret"):
            raise Violation("invalid_request", f"the revocation knows no parameter {name}", parameter=name)
    named = ((place, params[name]) for name, place in sends.items() if place in _PLACES)
    return next(named, None) or ("access-1", _bearer(request))


def _client_id(
    dialect: Dialect, manner: Manner, request: Request, params: Params, book: TokenBook, clients: Clients
) -> str | None:
    """Who asks; None where the provider does not ask for that."""
    if manner.auth == "none":
        checks.check_no_client(request, params)
        return params.get(manner.client_id_param)
    if manner.auth != "bearer":
        return checks.check_client(manner, request, params, clients).client_id
    token = book.access_tokens.get(_bearer(request))
    if token is None or not book.is_live(token.value) or book.grants[token.family].provider != dialect.name:
        raise Refusal("invalid_client", "The bearer token is not an access token that lives.")
    return book.grants[token.family].client_id


def _bearer(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Violation("invalid_client", "no access token came as a bearer token (RFC 6750, 2.1)")
    return value


def _check_exact(manner: Manner, sends: Mapping[str, str], params: Params) -> None:
    checks.check_required({name: () if place in _PLACES else (place,) for name, place in sends.items()}, params)
    for name in params:
        if name not in (*sends, manner.client_id_param, "client_secret"):
            raise Violation("invalid_request", f"the revocation knows no parameter {name}", parameter=name)


def _find(dialect: Dialect, book: TokenBook, place: str, value: str) -> Token | None:
    books: dict[str, Mapping[str, Token]] = {"refresh-1": book.refresh_tokens, "access-1": book.access_tokens}
    found = {kind: tokens[value] for kind, tokens in books.items() if value in tokens}
    if found and place and place not in found:
        raise Violation("invalid_request", f"the token to revoke is none of the kind of {place}")
    token = found.get(place) or next(iter(found.values()), None)
    mine = token is not None and book.grants[token.family].provider == dialect.name
    return token if mine else None
