"""The page for operators: the list of clients and what can be done to each. HTML alone; it works without JavaScript."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from token_refresh.access.api_keys import ApiKey
from token_refresh.access.links import USUAL_LIFE, link_url
from token_refresh.base.errors import ActionableError, Kind, http_status
from token_refresh.library import TokenView
from token_refresh.library.async_manager import AsyncTokenManager
from token_refresh.service.access import KeyHolder, address_of
from token_refresh.service.answers import error_of, headers_of
from token_refresh.service.context import Service
from token_refresh.service.rendering import STATES, render
from token_refresh.service.routing import failed
from token_refresh.service.sessions import SESSION, SIGN_IN, Session

CLIENTS_A_PAGE = 100
_ASKED = ("q", "provider", "status", "after")
_SIGN_IN = "/sign-in"


@dataclass(frozen=True)
class Visit:
    """A request of somebody who is signed in, and the form that it sends; empty for a GET."""

    request: Request
    session: Session
    key: ApiKey
    form: FormData

    @property
    def here(self) -> str:
        """The query of the list that the form stood in: made again, so that it is a query and nothing else."""
        return urlencode(parse_qsl(str(self.form.get("here", ""))))

    def html(self, name: str, **values: Any) -> HTMLResponse:
        """A page in the frame of signed_in.html."""
        return _html(name, None, key=self.key, form_token=self.session.form_token, **values)


@dataclass(frozen=True)
class Change:
    """What a button does to a client; the scope of the endpoint that does the same; what is said once it is done."""

    scope: str
    done: str
    make: Callable[[AsyncTokenManager, TokenView], Awaitable[object]]


CHANGES = {
    "refresh": Change(
        "tokens", "Refreshed.", lambda manager, view: manager.refresh_now(view.location_id, view.provider)
    ),
    "disable": Change("clients", "Disabled.", lambda manager, view: manager.update(view.row_id, is_active=False)),
    "enable": Change("clients", "Enabled.", lambda manager, view: manager.update(view.row_id, is_active=True)),
    "revoke": Change("clients", "Revoked, and disabled.", lambda manager, view: manager.revoke(view.row_id)),
}


class Page:
    """The routes of the page.

    Args:
        service: what all routes share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._manager, self._sessions, self._check = service.manager, service.sessions, service.key_check

    def router(self) -> APIRouter:
        """The page, and its sign-in."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        posts = {"/sign-out": self._sign_out, "/page/ask": self._ask, "/page/link": self._make_link}
        posts |= {f"/page/{name}": self._change for name in CHANGES}
        router.get("/")(self._guarded(self._list))
        router.get(_SIGN_IN)(self._show_sign_in)
        router.post(_SIGN_IN)(self._sign_in)
        for path, handle in posts.items():
            router.post(path)(self._guarded(handle))
        return router

    # Signing in and out

    async def _show_sign_in(self, request: Request) -> Response:
        return self._sign_in_form(request)

    def _sign_in_form(self, request: Request, error: ActionableError | None = None) -> Response:
        session = self._sessions.read(request, SIGN_IN) or self._sessions.begin()
        response = _html("sign_in.html", error, form_token=session.form_token, problem=str(error or ""))
        self._sessions.keep(session, SIGN_IN, request, response)
        return response

    async def _sign_in(self, request: Request) -> Response:
        before, form = self._sessions.read(request, SIGN_IN), await _form(request)
        if before is None:
            what = "the browser sent no cookie back: it has to allow them, and the address has to begin with https"
            return self._sign_in_form(request, ActionableError(what, "", Kind.FORBIDDEN))
        try:
            before.require(form)
            key = await self._check.find(str(form.get("key", "")).strip(), address_of(request))
            KeyHolder(key, self._check.audit).require("read")
        except ActionableError as error:
            return self._sign_in_form(request, error)
        response = RedirectResponse("/", 303)
        self._sessions.keep(self._sessions.begin(key.id), SESSION, request, response)
        return response

    async def _sign_out(self, visit: Visit) -> Response:
        response = RedirectResponse(_SIGN_IN, 303)
        self._sessions.keep(self._sessions.begin(), SESSION, visit.request, response)
        return response

    def _guarded(self, handle: Callable[[Visit], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Only for who is signed in, and a POST only from a form of theirs. An error becomes a page."""

        async def endpoint(request: Request) -> Response:
            try:
                visit = await self._visit(request)
                return await handle(visit) if visit is not None else RedirectResponse(_SIGN_IN, 303)
            except (ActionableError, HTTPException) as error:
                return failed(error_of(error), "/")

        return endpoint

    async def _visit(self, request: Request) -> Visit | None:
        session = self._sessions.read(request, SESSION)
        key = await self._check.still(session.key_id) if session is not None else None
        if session is None or key is None or not key.allows("read"):
            return None
        form = await _form(request)
        if request.method == "POST":
            session.require(form)
        return Visit(request, session, key, form)

    # The list

    async def _list(self, visit: Visit) -> Response:
        query = visit.request.query_params
        asked = {name: query.get(name, "").strip() for name in _ASKED}
        asked["status"] = asked["status"] if asked["status"] in STATES else ""
        given = {name: text for name, text in asked.items() if text}
        views, after = await self._manager.page(CLIENTS_A_PAGE, **given)
        change = CHANGES.get(query.get("done", ""))
        return visit.html(
            "clients.html",
            views=views,
            counts=await self._manager.counts(),
            now=self._service.clock.now(),
            asked=asked,
            after=after,
            done=change.done if change is not None else "",
            client=query.get("client", ""),
        )

    # What can be done to a client

    async def _client(self, visit: Visit, scope: str) -> TokenView:
        """The client that the form is for. Raises `ActionableError` where the key does not have the scope."""
        view: TokenView = await self._manager.find(str(visit.form.get("client", "")))
        KeyHolder(visit.key, self._check.audit).require(scope, view.location_id)
        return view

    async def _change(self, visit: Visit) -> Response:
        name = visit.request.url.path.rpartition("/")[2]
        view = await self._client(visit, CHANGES[name].scope)
        await CHANGES[name].make(self._manager, view)
        there = [*parse_qsl(visit.here), ("done", name), ("client", view.row_id)]
        return RedirectResponse(f"/?{urlencode(there)}", 303)

    async def _ask(self, visit: Visit) -> Response:
        return visit.html("revoke.html", view=await self._client(visit, "clients"), here=visit.here)

    async def _make_link(self, visit: Visit) -> Response:
        view = await self._client(visit, "clients")
        row = (view.row_id, view.location_id, view.provider)
        token, ends_at = await run_in_threadpool(self._service.links.create, *row, USUAL_LIFE, visit.key.name)
        url = link_url(self._service.public_url, token)
        return visit.html("link.html", view=view, url=url, expires_at=ends_at, here=visit.here)


def _html(name: str, error: ActionableError | None = None, **values: Any) -> HTMLResponse:
    if error is None:
        return HTMLResponse(render(name, **values))
    return HTMLResponse(render(name, **values), http_status(error.kind), headers_of(error))


async def _form(request: Request) -> FormData:
    """What a form of ours sends: a few short fields; empty for a GET."""
    return await request.form(max_files=0, max_fields=10)
