"""The server: many providers behind one port, each at its own path."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from tests.world.http import HTTPServer, Request
from tests.world.oauth.answered import DIALECTS
from tests.world.oauth.checks import Client
from tests.world.oauth.dialects import Dialect
from tests.world.oauth.endpoints import Endpoints
from tests.world.oauth.faults import Call, Chance, Fault, Script
from tests.world.oauth.tokens import AccessToken, Grant, RefreshToken

Matches = Callable[[Call], bool]


class OAuthServer:
    """Serves the token endpoints of `dialects` over HTTP on loopback while used as a context manager.

    Below `/<provider>` it answers at the dialect's paths for tokens, logins and revocation (RFC 6749, 8628, 7009),
    and `/introspect` (RFC 7662); `/api/<provider>/whoami` accepts an access token while it is live.

    Args:
        dialects: the providers.
        port: 0 for a free one.
        clock: Unix seconds; every lifetime is measured on it.
        latency: seconds before each answer; `jitter`, up to so many more, from `seed`.
    """

    def __init__(
        self,
        dialects: Iterable[Dialect] = DIALECTS,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        latency: float = 0.0,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._world = Endpoints(dialects, clock)
        self._book = self._world.book
        self._lock = self._world.lock
        self.violations = self._world.violations
        self.agencies = self._world.agencies
        self._http = HTTPServer(self._world.serve, jittered(latency, jitter, seed), port)
        self._http.now = clock
        self.url = self._http.url

    def __enter__(self) -> OAuthServer:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._world.closing.set()
        self._http.__exit__(kind, error, trace)

    # What a test says.

    def token_url(self, provider: str) -> str:
        """Where the provider refreshes."""
        return f"{self.url}/{provider}{self._world.dialects[provider].path}"

    def endpoint(self, provider: str, name: str) -> str:
        """The provider's `authorize`, `code` (where one is exchanged), `device`, `revoke`, `introspect` or `whoami`.

        Raises `LookupError`: it has none.
        """
        if name == "whoami":
            return f"{self.url}/api/{provider}/whoami"
        dialect = self._world.dialects[provider]
        paths = {
            "authorize": dialect.login and dialect.login.path,
            "code": dialect.code_path,
            "device": dialect.device_path,
            "revoke": dialect.revocation and dialect.revocation.path,
            "introspect": "/introspect",
        }
        if paths[name] is None:
            raise LookupError(f"{provider} has no endpoint {name}")
        return f"{self.url}/{provider}{paths[name]}"

    def add_client(self, provider: str, client_id: str, secret: str = "", redirect_uris: Iterable[str] = ()) -> None:
        """Register a client, or change its secret."""
        with self._lock:
            self._world.clients[provider][client_id] = Client(client_id, secret, tuple(redirect_uris))

    def grant(self, provider: str, client_id: str, **facts: Any) -> str:
        """A consent; returns its first refresh token, or its access token where nothing is refreshed.

        Facts that are known: `location_id`, `scope` (blank-separated), `user_type` and `company_id` (HighLevel),
        `redirect_uri` (a refresh must repeat it where the dialect asks for one), `rotates` (where the dialect leaves
        that to the app).
        """
        with self._lock:
            if client_id not in self._world.clients[provider]:
                raise LookupError(f"{provider} has no client {client_id}: call add_client first")
            dialect = self._world.dialects[provider]
            grant = self._book.new_grant(dialect, client_id, facts)
            pair = self._book.issue(dialect, grant, rotate=dialect.grant != "none")
        return pair.refresh_token or pair.access_token

    def consent(self, provider: str, **facts: Any) -> None:
        """What the next logins at this provider are for: the facts of `grant`."""
        self._world.consents[provider] = facts

    def approve(self, provider: str, user_code: str = "") -> None:
        """The person agrees on their device; without a user code to the newest login. Raises `LookupError`."""
        with self._lock:
            self._world.devices.answer(provider, user_code, is_approved=True)

    def deny(self, provider: str, user_code: str = "") -> None:
        """The person says no; see `approve`."""
        with self._lock:
            self._world.devices.answer(provider, user_code, is_approved=False)

    def slow_down(self, latency: float, jitter: float = 0.0, seed: int = 0) -> None:
        """Answer so many seconds late from now on, with up to `jitter` more."""
        self._http.latency = jittered(latency, jitter, seed)

    def pause(self, location_id: str) -> None:
        """Refreshes of this location are refused ("Location is not active") and consume nothing, until `resume`."""
        self._world.paused.add(location_id)

    def resume(self, location_id: str) -> None:
        """The end of `pause`."""
        self._world.paused.discard(location_id)

    def revoke(self, key: str, *, why: str = "revoked by its owner", subtype: str | None = None) -> None:
        """End a whole grant, named by a refresh token, family or location; or one access token.

        `subtype` is Google's `error_subtype`, e.g. `invalid_rapt`.
        """
        with self._lock:
            if key in self._book.access_tokens and key not in self._book.refresh_tokens:
                self._book.end_access_token(key, why)
                return
            grant = self._book.find(key)
            grant.subtype = subtype
            self._book.end_grant(grant, why)

    def uninstall(self, key: str) -> None:
        """End a grant as removing the app does: HighLevel answers 401 "Invalid client credentials!" from then on."""
        with self._lock:
            grant = self._book.find(key)
            grant.uninstalled = True
            self._book.end_grant(grant, "the app was uninstalled")

    def fail(
        self,
        fault: Fault,
        *,
        times: float = 1,
        provider: str | None = None,
        client_id: str | None = None,
        token: str | None = None,
        when: Matches | None = None,
    ) -> Script:
        """The next `times` (`math.inf`: all) token requests that match everything given meet this fault.

        `token` is a refresh token, family or location. Scripts are asked in the order they were told.
        """
        script = Script(fault, _matcher(provider, client_id, token, when), times)
        with self._lock:
            self._world.faults.add(script)
        return script

    def fail_at_random(
        self,
        odds: Mapping[Fault, float],
        *,
        seed: int,
        provider: str | None = None,
        client_id: str | None = None,
        token: str | None = None,
        when: Matches | None = None,
    ) -> Chance:
        """Each token request that matches meets each fault with its probability. See `Chance`."""
        chance = Chance(seed, odds, _matcher(provider, client_id, token, when))
        with self._lock:
            self._world.faults.add_chance(chance)
        return chance

    def behave(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._world.faults.clear()

    # What a test reads.

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived."""
        return self._http.requests

    @property
    def tokens(self) -> Mapping[str, RefreshToken]:
        """Every refresh token that was issued, by value: live records, to be read only."""
        return MappingProxyType(self._book.refresh_tokens)

    @property
    def access_tokens(self) -> Mapping[str, AccessToken]:
        """Every access token that was issued, by value: live records, to be read only."""
        return MappingProxyType(self._book.access_tokens)

    def family(self, key: str) -> Grant:
        """The grant of a refresh token, family or location (its newest). Raises `LookupError`."""
        with self._lock:
            return self._book.find(key)

    def current(self, key: str) -> str:
        """The newest refresh token of a grant (see `family`) that is valid now. Raises `LookupError`: there is none."""
        with self._lock:
            for token in reversed(self._book.find(key).refresh_tokens):
                if self._book.is_usable(token):
                    return token.value
        raise LookupError(f"no refresh token of {key[:40]} is valid")

    def current_access(self, key: str) -> str:
        """The newest access token of a grant (see `family`) that is live. Raises `LookupError`: there is none."""
        with self._lock:
            for token in reversed(self._book.find(key).access_tokens):
                if self._book.is_live(token.value):
                    return token.value
        raise LookupError(f"no access token of {key[:40]} is live")

    def is_live(self, access_token: str) -> bool:
        """An API would accept this access token now."""
        with self._lock:
            return self._book.is_live(access_token)

    def sent_twice(self) -> list[RefreshToken]:
        """The refresh tokens that reached the token endpoint more than once, whatever was answered."""
        with self._lock:
            return [token for token in self._book.refresh_tokens.values() if token.times_sent > 1]

    def replayed(self) -> list[RefreshToken]:
        """The refresh tokens that were sent again after they had been exchanged for another."""
        with self._lock:
            return [token for token in self._book.refresh_tokens.values() if token.replays]


def jittered(latency: float, jitter: float, seed: int) -> Callable[[], float]:
    """Draws seconds between `latency` and `latency + jitter`, the same row of them for the same seed."""
    rng = random.Random(seed)
    return lambda: latency + jitter * rng.random()


def _matcher(provider: str | None, client_id: str | None, token: str | None, when: Matches | None) -> Matches:
    def matches(call: Call) -> bool:
        return (
            provider in (None, call.dialect.name)
            and client_id in (None, call.client_id)
            and (token is None or token in (call.refresh_token, call.family, call.location_id))
            and (when is None or when(call))
        )

    return matches
