"""What all requests share: the library, the keys and links of the room `access`, and the settings."""

from __future__ import annotations

from dataclasses import replace
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
from token_refresh.wiring import Connections, Installation, runtime, service_audit, service_database

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
        self.installation = replace(installation, connections=Connections())  # library and access share them
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

    async def close(self) -> None:
        """Begin nothing new, wait for what is open, and release the connections."""
        await self.manager.aclose()
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


async def _service_of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(_service_of)]
"""A parameter of a route."""
