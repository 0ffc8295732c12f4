"""How FastAPI's routes are made to keep the contract: the key is judged before the body, and people get pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute

from token_refresh.base.errors import ActionableError, http_status
from token_refresh.service.access import Needs
from token_refresh.service.answers import error_of, headers_of
from token_refresh.service.rendering import render

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyFirstRoute(APIRoute):
    """FastAPI reads the body before it asks any dependency: without a key, malformed JSON would be 422, not 401."""

    def get_route_handler(self) -> Handler:
        """See `APIRoute`."""
        handle = super().get_route_handler()
        checks = [one.call for one in self.dependant.dependencies if isinstance(one.call, Needs)]

        async def key_first(request: Request) -> Response:
            for check in checks:
                await check(request)
            return await handle(request)

        return key_first


class PageRoute(APIRoute):
    """What a browser opens: an error is a page, where nobody asks for JSON."""

    def get_route_handler(self) -> Handler:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def with_page(request: Request) -> Response:
            try:
                return await handle(request)
            except (ActionableError, RequestValidationError) as error:
                if is_json_wanted(request):
                    raise
                return failed(error_of(error))

        return with_page


def failed(error: ActionableError, back: str = "") -> HTMLResponse:
    """An error as a page; `back` is an address on this host to go on from."""
    page = render("failed.html", title="That did not work", message=str(error), action=error.action, back=back)
    return HTMLResponse(page, http_status(error.kind), headers_of(error))


def is_json_wanted(request: Request) -> bool:
    """Whether a program asks, not a browser."""
    return "application/json" in request.headers.get("accept", "")
