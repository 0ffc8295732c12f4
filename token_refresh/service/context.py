"""What all requests share: the library, the keys and links of the room `access`, and the settings."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from token_refresh.access.api_keys import ApiKeys
from token_refresh.access.links import Links
from token_refresh.access.pending_logins import PendingLogins
from token_refresh.base.errors import ActionableError, Kind
from token_refresh.library import AsyncTokenManager, TokenManager
from token_refresh.service.access import KeyCheck
from token_refresh.service.sessions import Sessions, signer
from token_refresh.wiring import Installation, runtime, service_audit, service_database, shared

OPEN_REFRESHES_SECONDS = 99.0  # after the wish for the end; by then each has ended by itself
_READERS_SECONDS, _TICK_SECONDS = 1.0, 0.1
in_thread = run_in_threadpool  # for what waits for a database or a file; the library has threads of its own


class Service:
    """What the routes work with. Nothing is opened yet: it starts also where its store cannot be reached.

    Attributes:
        manager: does the library's work, in threads.
        allowed: which hosts and origins a request may choose for a client.
        sessions: who is signed in to the page.
        signer: signs what a browser keeps for us and must not change; it is no secret.

    Raises:
        ActionableError: the settings cannot be used.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = shared(installation)
        self.settings, self.clock = installation.settings, installation.clock
        self.manager = AsyncTokenManager(TokenManager(runtime(self.installation)))
        self._database = service_database(self.installation)
        self.keys = ApiKeys(self._database, self.clock)
        self.links = Links(self._database, self.clock)
        self.pending_logins = PendingLogins(self._database, self.clock)
        self.key_check = KeyCheck(self.keys, service_audit(self.installation, self._database), self.clock)
        known = self.settings.service
        self.allowed: dict[str, Any] = {
            "allow_hosts": known.allowed_token_hosts,
            "allow_origins": {known.public_url} - {""},
        }
        secret = self.settings.encryption_key.reveal()
        self.sessions = Sessions(secret, self.clock)
        self.signer = signer(secret, "login")
        self._ends_at = math.inf

    def expect_end(self) -> None:
        """The program is to end: what holds a token has `OPEN_REFRESHES_SECONDS` from now. In a signal handler, too."""
        self._ends_at = min(self._ends_at, self.clock.monotonic() + OPEN_REFRESHES_SECONDS)

    async def close(self) -> None:
        """Begin nothing new, wait for what is open, and release the connections.

        What waits for a store and holds no token is left alone after a second: nobody waits for its answer any more.
        """
        self.expect_end()
        self.manager.manager.end_refreshes()
        closing = asyncio.ensure_future(self.manager.aclose())
        await asyncio.wait([closing], timeout=_READERS_SECONDS)
        while not closing.done() and self.manager.manager.is_at_work and self.clock.monotonic() < self._ends_at:
            await asyncio.wait([closing], timeout=_TICK_SECONDS)
        if closing.done():
            self._database.close()

    @property
    def public_url(self) -> str:
        """Where browsers reach the service, without a slash at its end.

        Raises:
            ActionableError: nobody said so, and it is not on this machine.
        """
        if origin := self.settings.service.origin:
            return origin
        action = "Set it to what browsers type, such as https://HOST."
        raise ActionableError("PUBLIC_URL is not set", action, Kind.CONFIGURATION)

    @property
    def callback_url(self) -> str:
        """The redirect URI of every login."""
        return f"{self.public_url}/auth/callback"


def service_of(request: Request) -> Service:
    """What a request shares with all others."""
    service: Service = request.app.state.service
    return service


async def _service_of(request: Request) -> Service:
    return service_of(request)


Shared = Annotated[Service, Depends(_service_of)]
"""A parameter of a route."""
