"""The application: all routes, and what every one of them keeps to.

Defaults of FastAPI, Starlette and uvicorn that would break the contract, and where each is changed:

- A body is read before the key is judged: `routing.py:KeyFirstRoute`.
- Errors are `{"detail": …}`, and those of fields repeat what was sent: `answers.py`, `_answer_error` below.
- `Allow` of a 405 names the methods of one route, not those of the address: `_methods_at`.
- The traceback of a 500 goes to the log, with what the request held: `CatchAll`.
- `/path/` redirects to `/path` at whatever host the request names: `redirect_slashes=False`.
- `/docs` and `/redoc` load scripts and fonts from other hosts, and have scripts inside: `documentation.py`.
- `/docs/oauth2-redirect` is a page that nobody needs: `swagger_ui_oauth2_redirect_url=None`.
- HEAD is refused where GET is not: `CatchAll`.
- OpenAPI says that 422 is another object than it is: `documentation.py`.
- A function that is no coroutine, also a dependency, takes a thread: all of ours are coroutines.
- Requests are logged with their query: `__main__.py`.
- Whoever sets FASTAPI_OTEL_AUTO_CONFIGURE is sent addresses, what was refused and tracebacks: `_NOT_TRACED`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from token_refresh.base.errors import ActionableError, Kind, http_status
from token_refresh.base.text import one_line, sentences
from token_refresh.service import clients, documentation, health, logins, tokens
from token_refresh.service.answers import error_of, problem
from token_refresh.service.context import Service
from token_refresh.service.limits import Limits
from token_refresh.service.page import Page
from token_refresh.service.rendering import STATIC

_LOG = logging.getLogger("token_refresh.service")
_NOT_TRACED = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)


def create_app(service: Service) -> FastAPI:
    """The service as an ASGI application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="token-refresh",
        description="Valid OAuth access tokens for every client. Send an API key as a bearer token.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        telemetry=_NOT_TRACED,
        lifespan=lifespan,
        exception_handlers=dict.fromkeys((ActionableError, RequestValidationError, HTTPException), _answer_error),
    )
    app.state.service, app.state.looks = service, health.Looks(service)
    own = (tokens.api, clients.api, logins.api, logins.pages, health.api, documentation.pages, Page(service).router())
    for router in own:  # flat: to look into each included router would cost a request as much as its key
        app.router.routes.extend(router.routes)
    app.mount(documentation.ASSETS, documentation.assets())
    app.mount("/static", StaticFiles(directory=STATIC))
    documentation.describe(app)
    app.add_middleware(CatchAll)
    app.add_middleware(Limits, settings=service.settings.service)  # around it
    return app


class CatchAll:
    """Answers what nobody foresaw, without its words, and in the log by type and place alone. Lets HEAD be a GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        try:
            await self._app(scope, receive, note)
        except Exception as error:
            known = error_of(error)
            _log(scope, known)
            if not has_begun:
                await problem(known)(scope, receive, send)


def _log(scope: Scope, error: ActionableError) -> None:
    """For whoever runs the service; the query may hold a link."""
    _LOG.error("%s", one_line(sentences(f"{scope['method']} {scope['path']}: {error}", error.action)))


async def _answer_error(request: Request, error: Exception) -> Response:
    """The one handler of errors."""
    known = error_of(error)
    if http_status(known.kind) == 500:
        _log(request.scope, known)
    answer = problem(known)
    if known.kind is Kind.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(_methods_at(request))
    return answer


def _methods_at(request: Request) -> list[str]:
    """What an address takes: several routes may share it."""
    path, routes = request.scope["route"].path, iter_route_contexts(request.app.routes)
    methods = {method for one in routes if one.path == path for method in one.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
