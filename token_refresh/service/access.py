"""Who a request is from: its key, what that allows, and how many wrong ones came from where.

The key is judged first, then its scope, then the body: who has no right to ask learns nothing of what there is.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from token_refresh.access.api_keys import ApiKey, ApiKeys
from token_refresh.base.clock import Clock
from token_refresh.base.errors import ActionableError, Kind, RetryLaterError
from token_refresh.base.events import CredentialUsed, Subscriber

WRONG_KEYS, WINDOW_SECONDS = 20, 60.0  # more than so many from one network in so long are not answered
MOST_NETWORKS = 10_000  # that are remembered; the oldest give way
LOOK_UP_SECONDS = 5.0  # a database that is away must not keep a request waiting for longer
THREADS = 4  # as many as there are connections to look a key up by
_ADVICE = "Send it as: Authorization: Bearer trk_…"
_LOG = logging.getLogger("token_refresh")
_T = TypeVar("_T")


class WrongKeysError(RetryLaterError):
    """Too many wrong keys came from one network.

    Attributes:
        after: in how many seconds another one is looked at.
    """

    kind = Kind.TOO_MANY_REQUESTS

    def __init__(self, after: float) -> None:
        super().__init__("too many wrong keys came from this address", "Correct the key, then wait a minute.")
        self.after = after


class WrongKeys:
    """Counts wrong keys by network: one IPv4 address, or the /64 that one IPv6 customer has."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, address: str) -> None:
        """One more came from there.

        Raises:
            WrongKeysError: too many did.
        """
        now, network = self._clock.monotonic(), network_of(address)
        times = self._times.setdefault(network, deque(maxlen=WRONG_KEYS))
        self._times.move_to_end(network)
        if len(self._times) > MOST_NETWORKS:
            self._times.popitem(last=False)
        if len(times) == WRONG_KEYS and now - times[0] < WINDOW_SECONDS:
            raise WrongKeysError(math.ceil(times[0] + WINDOW_SECONDS - now))
        times.append(now)


class KeyCheck:
    """Finds keys, and notes who used one.

    Args:
        keys: those that are kept.
        audit: the security log.
        clock: the time.
    """

    def __init__(self, keys: ApiKeys, audit: Subscriber, clock: Clock) -> None:
        self._keys = keys
        self.audit = audit
        self._wrong = WrongKeys(clock)
        self._threads = anyio.CapacityLimiter(THREADS)  # of its own: whoever waits for a provider is in others
        self._looks: dict[bytes, asyncio.Task[ApiKey | None]] = {}  # under way, by the hash of what was sent

    async def find(self, text: str, address: str) -> ApiKey:
        """The key that somebody sent from this address; a right one is found however many wrong ones came before.

        Raises:
            ActionableError: `unauthorized`, `too_many_requests`; `store_unavailable`: the database was not reached in
                time.
        """
        key = await self._looked_up(text)
        if key is None:
            self._wrong.count(address)
            raise ActionableError("the key is not known, or was revoked", _ADVICE, Kind.UNAUTHORIZED)
        return key

    async def still(self, key_id: str) -> ApiKey | None:
        """The key of a session; None once it is revoked. Raises `ActionableError`: `store_unavailable`."""
        return await self._in_thread(lambda: self._keys.still(key_id))

    async def _looked_up(self, text: str) -> ApiKey | None:
        """Requests that come while the same key is looked up share that look, which costs more than all else of them.

        None is kept for later requests: a key that is revoked ends at once.
        """
        name = hashlib.sha256(text.encode()).digest()
        look = self._looks.get(name)
        if look is None:
            look = asyncio.create_task(self._in_thread(lambda: self._noted(self._keys.find(text))))
            self._looks[name] = look
            look.add_done_callback(lambda done: self._end(name, done))
        return await asyncio.shield(look)

    def _end(self, name: bytes, look: asyncio.Task[ApiKey | None]) -> None:
        self._looks.pop(name)
        if not look.cancelled():
            look.exception()  # whoever asked may have gone

    def _noted(self, key: ApiKey | None) -> ApiKey | None:
        if key is not None:
            self.audit(CredentialUsed("key used", key=key.name))
        else:
            self.audit(CredentialUsed("access refused", outcome=Kind.UNAUTHORIZED))
        return key

    async def _in_thread(self, act: Callable[[], _T]) -> _T:
        try:
            with anyio.fail_after(LOOK_UP_SECONDS):
                return await to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError:
            problem = "the database did not answer in time"
        except ActionableError as error:  # its words may say how the database is reached, which concerns nobody here
            problem = str(error)
        _LOG.warning("a key cannot be looked up: %s", problem)
        raise RetryLaterError("keys cannot be looked up at the moment", "Ask again.", Kind.STORE_UNAVAILABLE)


@dataclass(frozen=True)
class KeyHolder:
    """Whoever sent a request with a key that is known; `audit` notes what the key does not allow."""

    key: ApiKey
    audit: Subscriber = field(repr=False)

    @property
    def only_location(self) -> str | None:
        """The one location whose tokens the key is for; None where it is for those of several, or all."""
        locations = [scope.partition(":")[2] for scope in self.key.scopes if scope.startswith("tokens:")]
        return locations[0] if len(locations) == 1 and not self.key.allows("tokens") else None

    def require(self, scope: str, location_id: str | None = None) -> None:
        """For what only the request's body, or a row, tells: the location.

        Raises:
            ActionableError: `forbidden`.
        """
        if not self.key.allows(scope, location_id):
            raise self.refusal(location_id)

    def refusal(self, location_id: str | None = None) -> ActionableError:
        """What is said of a request that the key does not allow."""
        self.audit(CredentialUsed("access refused", location_id, outcome=Kind.FORBIDDEN, key=self.key.name))
        return ActionableError("the key does not allow this", "Use one with the scope that it needs.", Kind.FORBIDDEN)


class Needs(SecurityBase):
    """A dependency: the request has a key with this scope; of `tokens`, for one location at least.

    A route whose body is read by FastAPI calls it before that: see `KeyFirstRoute`.

    Raises:
        ActionableError: `unauthorized`, `forbidden`, `too_many_requests`, `store_unavailable`.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.scheme_name = "API key"
        self.model = HTTPBearer(description="A key of `token_manager.py api-key create`: trk_…")

    async def __call__(self, request: Request) -> KeyHolder:
        """Judge the request, once."""
        known: KeyHolder | None = getattr(request.state, "key_holder", None)
        if known is None:
            check: KeyCheck = request.app.state.service.key_check
            known = KeyHolder(await check.find(_key_in(request), address_of(request)), check.audit)
            if not known.key.allows_some(self.scope):
                raise known.refusal()
            request.state.key_holder = known
        return known


def needs(scope: str) -> Any:
    """For `dependencies=[…]` of a route."""
    return Depends(Needs(scope))


def caller_of(request: Request) -> KeyHolder:
    """Who sent a request to a route that `needs` a scope."""
    holder: KeyHolder = request.state.key_holder
    return holder


async def _caller_of(request: Request) -> KeyHolder:
    return caller_of(request)


Caller = Annotated[KeyHolder, Depends(_caller_of)]
"""A parameter of a route that `needs` a scope."""


def address_of(request: Request) -> str:
    """Where a request comes from: the peer, or whom a trusted proxy names; empty where nobody says."""
    return request.client.host if request.client is not None else ""


def network_of(address: str) -> str:
    """What is counted together; an address that cannot be read as it stands."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or f"{int(found) >> 64:x}/64")


def _key_in(request: Request) -> str:
    """The key that a request sends (RFC 6750 section 2.1). Raises `ActionableError`."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise ActionableError("this needs an API key", _ADVICE, Kind.UNAUTHORIZED)
    return text.strip()
