"""A customer's login: a link, the page that it opens, the way to the provider and back, and what it came to.

A login belongs to the browser that began it, by a cookie: nobody can have another person's consent stored for a login
of their own. The code leaves the browser's history by a redirect to an address without a query.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from itsdangerous import BadData

from token_refresh.access.links import Link, link_url
from token_refresh.access.pending_logins import PendingLogin
from token_refresh.base.errors import ActionableError, Kind, NoSuchTokenError
from token_refresh.clients.login.attempt import s256
from token_refresh.library import TokenView
from token_refresh.service.access import Caller, needs
from token_refresh.service.answers import problem_content
from token_refresh.service.context import Service, Shared, in_thread
from token_refresh.service.documentation import ERRORS, PAGE_ERRORS
from token_refresh.service.models import LinkCreated, LoggedIn, NewLink, RowId
from token_refresh.service.rendering import render
from token_refresh.service.routing import KeyFirstRoute, PageRoute, is_json_wanted
from token_refresh.service.sessions import SESSION
from token_refresh.service.tokens import row_of

api = APIRouter(route_class=KeyFirstRoute, responses=ERRORS, tags=["login"])
pages = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, responses=PAGE_ERRORS, tags=["login"])

DONE = "/auth/done"
_RESULT = "login-result"
_SECONDS = 600  # that a login may take, and that what it came to is shown


@api.post("/links", status_code=201, dependencies=[needs("clients")])
async def make_link(new: NewLink, caller: Caller, service: Shared) -> LinkCreated:
    """A one-time link with which a customer logs in for a client. It is shown only now."""
    view = await row_of(service, new)
    whose, address = (view.row_id, view.location_id, view.provider), service.public_url
    token, end = await in_thread(service.links.create, *whose, new.expires, caller.key.name)
    return LinkCreated(message="Link created", url=link_url(address, token), expires_at=end)


@pages.get("/connect")
async def connect(service: Shared, link: str = "") -> HTMLResponse:
    """Who asks for what, and the way on. Opening it spends nothing: mail programs do."""
    found, view = await _linked(service, link)
    begun = await service.manager.begin_login(view.row_id, service.callback_url)
    asked = parse_qs(urlsplit(begun.address).query)
    page = render(
        "connect.html",
        asker=urlsplit(service.public_url).hostname,
        scopes=asked.get("scope", [""])[0].split(),
        expires_at=found.expires_at,
        login_url=f"/oauth/login/{view.row_id}?{urlencode({'link': link})}",
        **_whose(service, view),
    )
    return HTMLResponse(page)


@pages.get("/oauth/login/{client_id}")
async def log_in(client_id: RowId, request: Request, service: Shared, link: str = "") -> Response:
    """On to the provider: with a link of this client, or signed in with a key that may change clients."""
    found = await _permission(request, service, link)
    if found is not None and found.row_id != client_id:
        raise _bad_link()
    return await _begin(service, client_id, found)


@pages.get("/auth/login")
async def log_in_by_location(
    request: Request, service: Shared, location: str = "", provider: str | None = None, link: str = ""
) -> Response:
    """The same by location; a link says itself which client it is for."""
    found = await _permission(request, service, link)
    if found is None:
        return await _begin(service, (await service.manager.get(location, provider)).row_id, None)
    if location not in ("", found.location_id):
        raise _bad_link()
    return await _begin(service, found.row_id, found)


@pages.get("/auth/callback")
async def callback(request: Request, service: Shared) -> RedirectResponse:
    """Where the provider sends the browser back to. What it came to is at the address that this one leads to."""
    query = request.url.query
    state_hash = s256("".join(parse_qs(query).get("state", [])))
    cookie = _cookie_name(service, state_hash)
    try:
        login = await _own_login(service, state_hash, request.cookies.get(cookie, ""))
        view = await service.manager.finish_login(login.content, query, partial(_spend, service, login.link_id))
        result = LoggedIn.model_validate(view).model_dump(mode="json") | {"shown": _whose(service, view)}
    except ActionableError as error:
        result = problem_content(error)
    answer = RedirectResponse(DONE, 303)
    answer.delete_cookie(cookie, secure=_is_secure(service))
    _set_cookie(service, answer, _RESULT, str(service.signer.dumps(result)))
    return answer


@pages.get(DONE)
async def done(request: Request, service: Shared) -> Response:
    """What the login of this browser came to."""
    try:
        result: dict[str, Any] = service.signer.loads(request.cookies.get(_RESULT, ""))
    except BadData:
        raise ActionableError("there is no login to show", "Open your link again.", Kind.NOT_FOUND) from None
    if not result["success"]:
        raise ActionableError(result["message"], result["action"], Kind(result["code"]))
    shown = result.pop("shown")
    return JSONResponse(result) if is_json_wanted(request) else HTMLResponse(render("connected.html", **shown))


def _spend(service: Service, link_id: int | None) -> None:
    """A link serves one login: this one is stored, or will be by the next run."""
    if link_id is not None:
        with suppress(ActionableError):  # of the login nothing is lost
            service.links.end(link_id)


async def _begin(service: Service, row_id: str, link: Link | None) -> RedirectResponse:
    begun = await service.manager.begin_login(row_id, service.callback_url)
    browser = secrets.token_urlsafe(32)  # a new one each time: a cookie that somebody planted is never taken over
    link_id = link.id if link is not None else None
    login = PendingLogin(begun.state_hash, s256(browser), link_id, begun.content, begun.ends_at)
    await in_thread(service.pending_logins.add, login)
    answer = RedirectResponse(begun.address, 303)
    _set_cookie(service, answer, _cookie_name(service, begun.state_hash), browser)
    return answer


async def _own_login(service: Service, state_hash: str, browser: str) -> PendingLogin:
    """The login that a callback ends; whoever comes second has none. Raises `ActionableError`."""
    login = await in_thread(service.pending_logins.find, state_hash)
    is_own = login is not None and hmac.compare_digest(s256(browser), login.browser_hash)
    if login is None or not is_own or not await in_thread(service.pending_logins.end, state_hash):
        what = "this answers no login that this browser began less than ten minutes ago, and that is still open"
        raise ActionableError(what, "Open your link again, and log in with the same browser.", Kind.USAGE)
    if login.link_id is not None and not await in_thread(service.links.still, login.link_id):
        raise _bad_link()  # of two logins that began with it, one has been stored
    return login


async def _permission(request: Request, service: Service, link: str) -> Link | None:
    """The link that permits a login; None where somebody does who is signed in. Raises `ActionableError`."""
    if link:
        return (await _linked(service, link))[0]
    session = service.sessions.read(request, SESSION)
    key = await service.key_check.still(session.key_id) if session is not None else None
    if key is None or not key.allows("clients"):
        what = "a login needs a link, or somebody who is signed in with the scope clients"
        raise ActionableError(what, "Ask for a link.", Kind.FORBIDDEN)
    return None


async def _linked(service: Service, token: str) -> tuple[Link, TokenView]:
    """A link, and the client that it is for. Raises the same error for each link that is not valid."""
    link = await in_thread(service.links.find, token)
    if link is None:
        raise _bad_link()
    try:
        view = await service.manager.find(link.row_id)
    except NoSuchTokenError:
        raise _bad_link() from None
    if (view.location_id, view.provider) != (link.location_id, link.provider):  # a number may name another row by now
        raise _bad_link()
    return link, view


def _bad_link() -> ActionableError:
    what = "this link does not work: it was used, it has ended, or it is not whole"
    return ActionableError(what, "Ask whoever sent it for another one.", Kind.FORBIDDEN)


def _whose(service: Service, view: TokenView) -> dict[str, str]:
    """What a customer knows a client by."""
    name = service.installation.catalog.get(view.provider).name
    return {"provider": name, "account": view.workspace_name or view.location_id}


def _is_secure(service: Service) -> bool:
    return service.public_url.startswith("https://")


def _cookie_name(service: Service, state_hash: str) -> str:
    """One for each login: two may be open in two tabs. With TLS no other host of the domain sets it (RFC 6265bis)."""
    return f"{'__Host-' if _is_secure(service) else ''}login-{state_hash[:16]}"


def _set_cookie(service: Service, answer: Response, name: str, value: str) -> None:
    """Out of reach for scripts. Lax: the browser sends it when the provider leads it back here."""
    answer.set_cookie(name, value, _SECONDS, secure=_is_secure(service), httponly=True, samesite="lax")
