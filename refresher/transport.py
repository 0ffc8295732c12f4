"""One POST to a token endpoint: no redirects, nothing ambient, bounded in time and size.

Whatever is not a complete answer is told apart by one question: can the provider have acted on the request?
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from clock import Clock
from providers.base import RawAnswer, TokenRequest

CONNECT_SECONDS = 10.0
EXCHANGE_SECONDS = 90.0
MAX_BODY_BYTES = 1024 * 1024
USER_AGENT = "token-refresh"

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class NoAnswer:
    """No complete answer came. `may_have_acted`: the request, or part of it, had left."""

    reason: str
    may_have_acted: bool


class Transport(Protocol):
    """What sends a token request."""

    def post(self, request: TokenRequest) -> RawAnswer | NoAnswer:
        """Send it once. Never raises for anything that the network or the provider does."""
        ...


class HTTPTransport:
    """See `Transport`; used by many threads.

    Args:
        clock: stamps answers.
        connections: how many threads use it.
        proxy: `https://…` proxy for all requests; none is taken from the environment.
        ca_bundle: certificates to trust instead of the usual ones.
        private_hosts: `host` or `host:port` that a row may name although they are not on the public internet.
        exchange_seconds: the limit of one whole exchange.
    """

    def __init__(
        self,
        clock: Clock,
        connections: int,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        private_hosts: frozenset[str] = frozenset(),
        exchange_seconds: float = EXCHANGE_SECONDS,
    ) -> None:
        self._clock = clock
        self._watchdog = _Watchdog(exchange_seconds)
        self._seconds = exchange_seconds
        self._private_hosts = private_hosts
        self._verify: bool | str = str(ca_bundle) if ca_bundle else True
        self._proxies = {"https": proxy} if proxy else {}
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc, no proxy variables
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _WatchedAdapter(connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def post(self, request: TokenRequest) -> RawAnswer | NoAnswer:
        """See `Transport.post`."""
        prepared = requests.Request("POST", request.url, dict(request.headers), data=request.body).prepare()
        prepared.headers["User-Agent"] = USER_AGENT
        with self._watchdog.watch() as watch:
            watch.public_only = not (request.host_is_fixed or self._proxies or self._is_listed(request.url))
            try:
                return self._exchange(prepared)
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if watch.met_private_address:
                    return NoAnswer("the row's host is not on the public internet", may_have_acted=False)
                if watch.bit:
                    return NoAnswer(f"no complete answer within {self._seconds:g} s", may_have_acted=True)
                return _no_answer(error)

    def close(self) -> None:
        """Release connections."""
        self._session.close()

    def _is_listed(self, url: str) -> bool:
        parts = urlsplit(url)
        return bool(self._private_hosts & {(parts.hostname or "").lower(), parts.netloc.lower()})

    def _exchange(self, prepared: requests.PreparedRequest) -> RawAnswer:
        with self._session.send(
            prepared,
            timeout=(min(CONNECT_SECONDS, self._seconds), self._seconds),
            allow_redirects=False,
            stream=True,
            verify=self._verify,
            proxies=self._proxies,
        ) as response:
            body = _read(response)
            headers = {name.lower(): value for name, value in response.headers.items() if name.lower() in _KEPT_HEADERS}
            return RawAnswer(response.status_code, headers, body, self._clock.now())


_KEPT_HEADERS = ("content-type", "retry-after", "date")


def _read(response: requests.Response) -> bytes:
    """What came of the body, at most 1 MiB.

    A body that breaks off is kept as far as it came: it is evidence, and whether it can be read is decided later.
    """
    parts: list[bytes] = []
    size = 0
    with contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        for part in response.iter_content(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_BYTES:
                break
    return b"".join(parts)[:MAX_BODY_BYTES]


def _no_answer(error: Exception) -> NoAnswer:
    reason = error.args[0] if error.args else error
    cause = getattr(reason, "reason", reason)  # urllib3.MaxRetryError wraps what happened
    if isinstance(error, requests.ConnectTimeout) or isinstance(cause, urllib3.exceptions.NewConnectionError):
        return NoAnswer("no connection to the provider", may_have_acted=False)
    if isinstance(error, requests.exceptions.SSLError):
        return NoAnswer("the provider's certificate is not accepted", may_have_acted=False)
    if isinstance(error, requests.exceptions.ProxyError):
        return NoAnswer("no connection through the proxy", may_have_acted=False)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return NoAnswer("the provider's address cannot be used", may_have_acted=False)
    return NoAnswer(f"the answer was lost ({type(error).__name__})", may_have_acted=True)


class _Watch:
    """One exchange under watch, and the connection that it uses."""

    def __init__(self, watchdog: _Watchdog) -> None:
        self._watchdog = watchdog
        self.connection: HTTPConnection | None = None
        self.bit = False
        self.public_only = False
        self.met_private_address = False

    def __enter__(self) -> _Watch:
        self._watchdog.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.end(self)

    def bite(self) -> None:
        """End the exchange: a blocked read on the socket returns at once."""
        self.bit = True
        sock = self.connection.sock if self.connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """Ends exchanges that last too long. requests bounds each read, not the whole: a drip would last for ever.

    It runs on the machine's own clock, because sockets hang in real time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: dict[_Watch, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self) -> _Watch:
        return _Watch(self)

    def begin(self, watch: _Watch) -> None:
        _CURRENT.watch = watch
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._guard, name="exchange-watchdog", daemon=True)
                self._thread.start()
            if not self._deadlines:  # otherwise it already waits for an earlier deadline than this one
                self._changed.notify()
            self._deadlines[watch] = time.monotonic() + self._seconds

    def end(self, watch: _Watch) -> None:
        _CURRENT.watch = None
        with self._changed:
            self._deadlines.pop(watch, None)

    def _guard(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for watch in [watch for watch, deadline in self._deadlines.items() if deadline <= now]:
                    watch.bite()
                    del self._deadlines[watch]
                next_at = min(self._deadlines.values(), default=None)
                self._changed.wait(None if next_at is None else next_at - now)


_CURRENT = threading.local()  # the watch of the exchange that this thread is in


class _WatchedHTTPConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _put_under_watch(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _put_under_watch(self)
        super().request(*args, **kwargs)


class _WatchedHTTPSConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _put_under_watch(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _put_under_watch(self)
        super().request(*args, **kwargs)


def _put_under_watch(connection: HTTPConnection) -> None:
    watch: _Watch | None = getattr(_CURRENT, "watch", None)
    if watch is None:
        return
    watch.connection = connection
    # Looked at on the connected socket, before a byte is sent: a name may resolve differently each time.
    if watch.public_only and connection.sock is not None and not _is_public(connection.sock.getpeername()[0]):
        watch.met_private_address = True
        connection.close()
        raise urllib3.exceptions.LocationValueError("not on the public internet")
    if watch.bit:
        raise urllib3.exceptions.ReadTimeoutError(None, None, "out of time")  # type: ignore[arg-type]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_global


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class _WatchedAdapter(HTTPAdapter):
    """Never resends: whether a refresh token may go out again is the schedule's decision."""

    def __init__(self, connections: int) -> None:
        super().__init__(pool_connections=connections, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
