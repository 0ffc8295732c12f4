"""What monitors ask: does the store answer, can everything be used, and the numbers."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.service.access import Needs, needs
from token_refresh.service.answers import Success, problem
from token_refresh.service.context import Service, Shared, in_thread
from token_refresh.service.documentation import ERRORS
from token_refresh.service.routing import KeyFirstRoute
from token_refresh.wiring import Obstacle, find_obstacle, metrics_text

api = APIRouter(route_class=KeyFirstRoute, responses=ERRORS, tags=["health"])
ANSWER_SECONDS, KEY_SECONDS = 4.0, 1.0  # a store that is silent keeps monitors waiting no longer, nor whoever has a key
_KEPT_SECONDS, _KEPT_AT_AIRTABLE = 5.0, 600.0  # each look costs a call there
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_SILENT = ActionableError("the store does not answer", "It may be back in a moment.", Kind.STORE_UNAVAILABLE)


class Looks:
    """What was found lately; however many ask, one looks, and goes on when they have their answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept = _KEPT_SECONDS if service.settings.airtable is None else _KEPT_AT_AIRTABLE
        self._until = float("-inf")
        self._look: asyncio.Task[Obstacle | None] | None = None

    async def obstacle(self) -> Obstacle | None:
        """What keeps the service from its work; None where nothing does."""
        look = self._look
        if look is None or (look.done() and self._service.clock.monotonic() >= self._until):
            look = self._look = asyncio.create_task(self._find())
        done, _ = await asyncio.wait([look], timeout=ANSWER_SECONDS)
        return look.result() if done else Obstacle("store", _SILENT)

    async def _find(self) -> Obstacle | None:
        found = await in_thread(find_obstacle, self._service.installation)
        kept = self._kept if found is None else _KEPT_SECONDS
        self._until = self._service.clock.monotonic() + kept
        return found


@api.get("/health")
async def health(request: Request) -> Success:
    """Whether the service runs and its store answers."""
    found = await _obstacle(request)
    if found is not None and found.part == "store":
        raise _SILENT
    return Success(message="Healthy")


@api.get("/ready", response_model=Success)
async def ready(request: Request) -> Success | Response:
    """Whether store, encryption key and journal can be used. Which of them cannot is for keys with the scope `read`."""
    found = await _obstacle(request)
    if found is None:
        return Success(message="Ready")
    try:
        async with asyncio.timeout(KEY_SECONDS):
            await Needs("read")(request)
    except (ActionableError, TimeoutError):
        return problem(ActionableError("the service cannot work now", "Ask whoever runs it.", Kind.RETRY_LATER))
    return problem(ActionableError(str(found.error), found.error.action, Kind.RETRY_LATER), part=found.part)


@api.get("/metrics", dependencies=[needs("read")], response_class=PlainTextResponse)
async def metrics(service: Shared) -> Response:
    """The numbers of the last run, and of all clients, for Prometheus."""
    return Response(await in_thread(metrics_text, service.installation), media_type=_METRICS)


async def _obstacle(request: Request) -> Obstacle | None:
    looks: Looks = request.app.state.looks
    return await looks.obstacle()
