"""What the tests of the library share: managers of a test's world, and what happens in the middle of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from providers.base import Provider, ProviderError, ProviderSummary
from tests.conftest import CLIENTS, World
from token_refresh.base.clock import Clock
from token_refresh.library import TokenManager


class Listed:
    """A catalogue of these providers, by their slugs, names and aliases as they stand."""

    def __init__(self, *providers: Provider) -> None:
        self._providers = {provider.slug: provider for provider in providers}

    def get(self, name: str) -> Provider:
        """See `ProviderIndex.get`."""
        slug = self.slug_of(name)
        if slug is None:
            raise ProviderError(f"there is no provider {name!r}", "Correct it.")
        return self._providers[slug]

    def slug_of(self, name: str) -> str | None:
        """See `ProviderIndex.slug_of`."""
        return next((slug for slug, one in self._providers.items() if name in one.spellings), None)

    @property
    def summaries(self) -> Mapping[str, ProviderSummary]:
        """See `ProviderIndex.summaries`."""
        return self._providers


class Meanwhile:
    """A world's clock; whoever sleeps on it lets something else happen."""

    def __init__(self, clock: Clock, act: Callable[[], None]) -> None:
        self._clock = clock
        self._act = act

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._clock.now()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        self._clock.sleep(seconds)
        self._act()


def once(act: Callable[[], object]) -> Callable[..., Any]:
    """A guard that does something in the middle of the first run only."""
    left = [act]

    @contextmanager
    def guard(_: Callable[[str], None]) -> Iterator[None]:
        if left:
            left.pop()()
        yield

    return guard


def manager_of(world: World, clock: Clock | None = None, **parts: Any) -> TokenManager:
    """The library on this world's settings; `parts` replace what its runtime holds."""
    made = TokenManager.from_settings(world.program.settings, clock or world.clock)
    if parts:
        return TokenManager(made._runtime._replace(**parts))
    return made


def log_in(world: World, manager: TokenManager, location: str = "loc1", provider: str = "acme", **more: Any) -> str:
    """A login that is over: the library keeps what it brought; returns the access token."""
    client_id, secret = CLIENTS.get(provider, (f"app-{provider}", f"{provider} secret"))
    token = world.oauth.grant(provider, client_id, location_id=location)
    access = world.oauth.current_access(token)
    login: dict[str, Any] = {
        "access_token": access,
        "expires_in": 3600.0,
        "client_id": client_id,
        "client_secret": secret,
    } | more
    manager.store_tokens(location, provider, refresh_token=token, **login)
    return access


def revocable(world: World, url: str = "", provider: str = "acme") -> None:
    """From now on the catalogue knows where this provider revokes, by default at the fake itself."""
    own = Path(world.program.settings["PROVIDERS_FILE"])
    line = f'revoke_url = "{url or world.oauth.endpoint(provider, "revoke")}"'
    own.write_text(own.read_text().replace(f"[{provider}]\n", f"[{provider}]\n{line}\n"))
