"""Access tokens: a valid one now, refreshed where needed, revoked; and how all of them are."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from token_refresh.base.errors import ActionableError, Kind, LoginAgainError
from token_refresh.library import TokenView
from token_refresh.service.access import Caller, KeyHolder, caller_of, needs
from token_refresh.service.answers import Success, problem
from token_refresh.service.context import Service, Shared, service_of
from token_refresh.service.documentation import ERRORS
from token_refresh.service.models import (
    MIN_VALID_SECONDS,
    Authenticated,
    Client,
    Listed,
    Name,
    NamedRow,
    TokenList,
    ValidToken,
)
from token_refresh.service.routing import KeyFirstRoute

api = APIRouter(route_class=KeyFirstRoute, responses=ERRORS, tags=["tokens"])
_Seconds = Annotated[int, Field(ge=0, le=86_400)]


@api.get("/auth/token", dependencies=[needs("tokens")], response_model=Authenticated)
async def check(
    caller: Caller, service: Shared, location: Name | None = None, provider: Name | None = None
) -> Authenticated | JSONResponse:
    """Whether a location has a valid token, refreshed first where needed; 401 where somebody has to log in."""
    location = _location(location, caller)
    caller.require("tokens", location)
    try:
        token = await service.manager.get_token(location, provider)
    except LoginAgainError as error:
        named = {"location": location} | ({"provider": provider} if provider else {})
        address = f"{service.public_url}/auth/login?{urlencode(named)}"
        return problem(error, authenticated=False, needs_login=True, login_url=address)
    return Authenticated(message="Authenticated", expires_at=token.expires_at)


@api.post("/auth/revoke", dependencies=[needs("clients")])
async def revoke(
    caller: Caller,
    service: Shared,
    named: NamedRow | None = None,
    location: Name | None = None,
    provider: Name | None = None,
) -> Success:
    """End a grant at its provider; the client stays, disabled. The body names it, or the query by its location."""
    row = named or NamedRow(branch_id=_location(location, caller), provider=provider)
    await service.manager.revoke((await row_of(service, row)).row_id)
    return Success(message="Tokens revoked")


@api.get("/tokens", dependencies=[needs("read")])
async def list_tokens(listed: Annotated[Listed, Query()], service: Shared) -> TokenList:
    """How the tokens of all clients are, in the order of the clients' ids. No token is shown."""
    views, after = await service.manager.page(**listed.model_dump())
    return TokenList(message="Tokens listed", tokens=list(map(Client.model_validate, views)), next=after)


@api.post("/tokens/refresh", dependencies=[needs("tokens")])
async def refresh(named: NamedRow, caller: Caller, service: Shared) -> ValidToken:
    """Refresh a token now, however long it still lives. A key for one location alone names that, not the row's id."""
    caller.require("tokens", named.branch_id)
    view = await row_of(service, named)
    return ValidToken.model_validate(await service.manager.refresh_now(view.location_id, view.provider))


@api.get("/tokens/{branch_id:path}", dependencies=[needs("tokens")])
async def get(
    request: Request, branch_id: Name, provider: Name | None = None, min_valid: _Seconds = MIN_VALID_SECONDS
) -> ValidToken:
    """The access token of a location, refreshed first where it would not live `min_valid` seconds more.

    Asked for most by far, so it does without dependencies: each that FastAPI solves would cost a twentieth of it.
    """
    caller_of(request).require("tokens", branch_id)
    return ValidToken.model_validate(await service_of(request).manager.get_token(branch_id, provider, min_valid))


async def row_of(service: Service, named: NamedRow) -> TokenView:
    """The row that a request names."""
    if named.client_id is not None:
        return await service.manager.find(named.client_id)
    return await service.manager.get(named.branch_id or "", named.provider)


def _location(named: str | None, caller: KeyHolder) -> str:
    """Callers that have one user name no location: their key is for that one."""
    location = named or caller.only_location
    if location is None:
        what = "the request names no location, and the key is for more than one"
        raise ActionableError(what, "Name it: ?location=…", Kind.SEVERAL)
    return location
