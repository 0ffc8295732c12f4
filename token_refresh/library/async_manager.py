"""The same for programs with an event loop: every call works in a thread, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from token_refresh.base.clock import Clock
from token_refresh.base.errors import Kind, MisconfiguredError, RetryLaterError, TokenError, capture_error, unwrap
from token_refresh.base.events import RunFinished
from token_refresh.clients.row_login import LoginBegun
from token_refresh.library.batches import Batches
from token_refresh.library.manager import TokenManager
from token_refresh.library.pools import Lanes, Pool
from token_refresh.library.tokens import Asked
from token_refresh.library.views import AccessToken, TokenView

_T = TypeVar("_T")
THREADS = 32


class AsyncTokenManager:
    """See `TokenManager`, method by method. Used as `async with`, or closed with `aclose`.

    Threads of its own do the work, so a slow provider holds up neither the event loop nor its default threads.
    Whoever is cancelled stops waiting; what was begun goes on to its end, and its tokens are stored.

    Args:
        manager: does the work; it may be used by threads at the same time.
        threads: how many calls of a kind work at once: refreshes and revocations (half of them for one provider);
            logins and other writes; reads. None waits behind another kind. Who asks for the same token shares one.
    """

    def __init__(self, manager: TokenManager, threads: int = THREADS) -> None:
        self.manager = manager
        self._make = partial(_Threads, threads)
        self._made, self._process = self._make(), os.getpid()
        self._is_closed = False
        self._look_ups = Batches(self._look_up)

    @classmethod
    def from_settings(cls, environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> AsyncTokenManager:
        """See `TokenManager.from_settings`."""
        handed_in = [environ]
        del environ  # see there: no frame of an error shows it
        return cls(TokenManager.from_settings(handed_in.pop(), clock))

    async def __aenter__(self) -> AsyncTokenManager:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the rounds, and wait for what is open. May be repeated, as after a wait that was cut off."""
        self._is_closed = True
        await asyncio.to_thread(self.manager.stop)
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self.manager.close)

    async def get_valid_access_token(
        self, location_id: str, provider: str | None = None, min_valid: float | None = None
    ) -> str:
        """See `TokenManager.get_valid_access_token`."""
        return (await self.get_token(location_id, provider, min_valid)).access_token

    async def get_token(
        self, location_id: str, provider: str | None = None, min_valid: float | None = None
    ) -> AccessToken:
        """See `TokenManager.get_token`. Any number of tasks that ask for the same take one thread.

        Tokens that last are read by a thread of their own: many threads that read hinder each other.
        """
        self._refuse_closed()
        found = await self._look_ups.join(Asked(location_id.strip(), provider, min_valid))
        if isinstance(found, AccessToken):
            return found
        lane = unwrap(found)
        self._refuse_closed()
        flight = self.manager.token_flight(location_id, provider, min_valid)
        if not flight.is_handed_over:
            begun = self._threads.refreshes.begin(flight.lead, lane)
            if isinstance(begun, TokenError):
                flight.give_up(begun)
            flight.is_handed_over = True
        return unwrap(await asyncio.wrap_future(flight.answer))

    async def refresh_now(self, location_id: str, provider: str | None = None) -> AccessToken:
        """See `TokenManager.refresh_now`."""
        return await self._ask(partial(self.manager.refresh_now, location_id, provider), provider)

    async def find(self, row_id: str) -> TokenView:
        """See `TokenManager.find`."""
        return await self._read(partial(self.manager.find, row_id))

    async def page(
        self,
        limit: int,
        after: str | None = None,
        provider: str | None = None,
        status: str | None = None,
        q: str | None = None,
    ) -> tuple[list[TokenView], str | None]:
        """See `TokenManager.page`."""
        return await self._read(partial(self.manager.page, limit, after, provider, status, q))

    async def counts(self) -> dict[str, int]:
        """See `TokenManager.counts`."""
        return await self._read(self.manager.counts)

    async def register(self, location_id: str, provider: str | None = None, **client: Any) -> TokenView:
        """See `TokenManager.register`, also for what `client` may hold."""
        registering = self._write(partial(self.manager.register, location_id, provider, **client))
        client.clear()  # no frame of an error shows it
        return await registering

    async def update(self, row_id: str, **changes: Any) -> TokenView:
        """See `TokenManager.update`, also for what `changes` may hold."""
        updating = self._write(partial(self.manager.update, row_id, **changes))
        changes.clear()
        return await updating

    async def delete(self, row_id: str, *, revoke: bool = False) -> None:
        """See `TokenManager.delete`."""
        deleting = partial(self.manager.delete, row_id, revoke=revoke)
        await (self._ask(deleting) if revoke else self._write(deleting))

    async def revoke(self, row_id: str) -> TokenView:
        """See `TokenManager.revoke`."""
        return await self._ask(partial(self.manager.revoke, row_id))

    async def begin_login(self, row_id: str, redirect_uri: str) -> LoginBegun:
        """See `TokenManager.begin_login`."""
        return await self._read(partial(self.manager.begin_login, row_id, redirect_uri))

    async def finish_login(self, content: str, query: str, kept: Callable[[], None] = lambda: None) -> TokenView:
        """See `TokenManager.finish_login`. It is finished also when its caller is gone."""
        finishing = self._write(partial(self.manager.finish_login, content, query, kept))
        del content, query  # which hold a code
        return await finishing

    async def get(self, location_id: str, provider: str | None = None) -> TokenView:
        """See `TokenManager.get`."""
        return await self._read(partial(self.manager.get, location_id, provider))

    async def list_tokens(self) -> list[TokenView]:
        """See `TokenManager.list_tokens`."""
        return await self._read(self.manager.list_tokens)

    async def store_tokens(self, location_id: str, provider: str, **login: Any) -> None:
        """See `TokenManager.store_tokens`, also for what `login` may hold."""
        storing = self._write(partial(self.manager.store_tokens, location_id, provider, **login))
        login.clear()  # no frame of an error shows it
        await storing

    async def revoke_tokens(self, location_id: str, provider: str | None = None) -> None:
        """See `TokenManager.revoke_tokens`."""
        await self._ask(partial(self.manager.revoke_tokens, location_id, provider), provider)

    async def delete_tokens(self, location_id: str, provider: str | None = None) -> None:
        """See `TokenManager.delete_tokens`."""
        await self._write(partial(self.manager.delete_tokens, location_id, provider))

    async def refresh_due(self) -> RunFinished:
        """See `TokenManager.refresh_due`."""
        return await self._ask(self.manager.refresh_due)

    def start(self, interval: float | None = None) -> None:
        """See `TokenManager.start`."""
        self._refuse_closed()
        self.manager.start(interval)

    async def stop(self, timeout: float | None = None) -> bool:
        """See `TokenManager.stop`."""
        return await self._write(partial(self.manager.stop, timeout))

    @property
    def _threads(self) -> _Threads:
        """This process's threads: a child that was forked has none of its parent's, and would wait for them."""
        if self._process != os.getpid():
            self._made, self._process = self._make(), os.getpid()
        return self._made

    async def _look_up(self, asked: list[Asked]) -> list[AccessToken | TokenError | str]:
        if (closed := capture_error(self._refuse_closed)) is not None:
            return [closed] * len(asked)
        begun = self._threads.reader.begin(partial(self.manager.look_up, asked))
        if isinstance(begun, TokenError):
            return [begun] * len(asked)
        return await asyncio.wrap_future(begun)

    def _read(self, act: Callable[[], _T]) -> Awaitable[_T]:
        return self._do(act, lambda do: self._threads.reads.begin(do))

    def _write(self, act: Callable[[], _T]) -> Awaitable[_T]:
        return self._do(act, lambda do: self._threads.writes.begin(do))

    def _ask(self, act: Callable[[], _T], provider: str | None = None) -> Awaitable[_T]:
        """Do what waits for a provider."""
        return self._do(act, lambda do: self._threads.refreshes.begin(do, provider or ""))

    async def _do(self, act: Callable[[], _T], begin: Callable[[Callable[[], _T]], Future[_T] | RetryLaterError]) -> _T:
        """What waits for a thread is done as well when its caller is cancelled, for it may hold a login: see `Pool`."""
        self._refuse_closed()
        begun = begin(act)
        del act
        return await asyncio.wrap_future(unwrap(begun))

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise MisconfiguredError("this manager is closed", "Make another one.", Kind.USAGE)


class _Threads:
    """Those of one process."""

    def __init__(self, threads: int) -> None:
        self.reader = Pool(1, "token-refresh-reader")
        self.refreshes = Lanes(threads, "token-refresh")
        self.writes = Pool(threads, "token-refresh-writes")
        self.reads = Pool(threads, "token-refresh-reads")

    def shutdown(self) -> None:
        """Wait for what is open."""
        for pool in (self.reader, self.refreshes, self.writes, self.reads):
            pool.shutdown()
