"""The apps and workspaces whose tokens are kept: registered, listed, changed, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from token_refresh.service.access import needs
from token_refresh.service.answers import Success
from token_refresh.service.context import Shared, in_thread
from token_refresh.service.documentation import ERRORS
from token_refresh.service.models import (
    Client,
    ClientChanges,
    ClientList,
    ClientShown,
    CreatedClient,
    Listed,
    NewClient,
    RowId,
)
from token_refresh.service.routing import KeyFirstRoute

api = APIRouter(route_class=KeyFirstRoute, responses=ERRORS, tags=["clients"])


@api.post("/clients", status_code=201, dependencies=[needs("clients")])
async def register(new: NewClient, service: Shared) -> CreatedClient:
    """Register an app and the workspace that it is for. Its tokens come with a login."""
    named = new.model_dump(exclude={"branch_id"})
    return CreatedClient.model_validate(await service.manager.register(new.branch_id, **named, **service.allowed))


@api.get("/clients", dependencies=[needs("read")])
async def list_clients(listed: Annotated[Listed, Query()], service: Shared) -> ClientList:
    """The clients, in the order of their ids."""
    views, after = await service.manager.page(**listed.model_dump())
    return ClientList(message="Clients listed", clients=list(map(Client.model_validate, views)), next=after)


@api.get("/clients/{client_id}", dependencies=[needs("read")])
async def show(client_id: RowId, service: Shared) -> ClientShown:
    """One client."""
    return ClientShown(message="Client found", client=Client.model_validate(await service.manager.find(client_id)))


@api.patch("/clients/{client_id}", dependencies=[needs("clients")])
async def update(client_id: RowId, changes: ClientChanges, service: Shared) -> ClientShown:
    """Change what is named of a client; its location and its provider stay."""
    view = await service.manager.update(client_id, **changes.model_dump(), **service.allowed)
    return ClientShown(message="Client changed", client=Client.model_validate(view))


@api.delete("/clients/{client_id}", dependencies=[needs("clients")])
async def delete(client_id: RowId, service: Shared, revoke: bool = False) -> Success:
    """Delete a client with its tokens; with `revoke` they are ended at the provider first."""
    await service.manager.delete(client_id, revoke=revoke)
    await in_thread(service.links.end_of_row, client_id)
    return Success(message="Client deleted")
