"""One POST to a token endpoint: no redirects, nothing ambient, bounded in time and size.

Whatever is not a complete answer is told apart by one question: can the provider have acted on the request?
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from providers.base import Answer, RawAnswer, TokenRequest, Verdict
from token_refresh.base.clock import Clock
from token_refresh.net import tls

CONNECT_SECONDS = 10.0
EXCHANGE_SECONDS = 90.0
OVERSLEPT_SECONDS = 1.0  # beyond the end of an exchange: the watchdog did not sleep so long by its own will, and
AWAKE_SECONDS = 10.0  # gives every exchange so much time after that
MAX_BODY_BYTES = 1024 * 1024
USER_AGENT = "token-refresh"

_DEFAULT_PORTS = {"https": 443, "http": 80}
_CHUNK_BYTES = 64 * 1024
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last four bytes
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True)
class NoAnswer:
    """No complete answer came.

    Attributes:
        may_have_acted: the request, or part of it, had left.
        action: what somebody must mend before it can ever leave; None where it may pass.
    """

    reason: str
    may_have_acted: bool
    action: str | None = field(default=None, compare=False)

    def as_answer(self) -> Answer:
        """What follows for the refresh token."""
        if self.action is not None:
            return Answer(Verdict.REQUEST_REFUSED, error=self.reason, action=self.action)
        return Answer(Verdict.UNCLEAR if self.may_have_acted else Verdict.NOT_ACTED, error=self.reason)


_PRIVATE_ACTION = "Correct the host in the row's provider_params, or list it in ALLOWED_PRIVATE_HOSTS."


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
        private_hosts: `host`, or `host:port` where the port is not the default, that a row may name although it is
            not on the public internet.
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
        self._proxies = {"https": proxy} if proxy else {}
        self._session = _Session()
        self._session.trust_env = False  # no .netrc, no proxy variables
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _WatchedAdapter(ca_bundle, connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def post(self, request: TokenRequest) -> RawAnswer | NoAnswer:
        """See `Transport.post`."""
        with self._watchdog.watch() as watch:
            try:
                self._limit(watch, request)
                return self._exchange(request)
            except _PrivateAddressError:
                return NoAnswer("the row's host is not on the public internet", False, _PRIVATE_ACTION)
            except Exception as error:  # whatever it is, the request may have left, and only this row is concerned
                return NoAnswer(_reason(error, watch, self._seconds), watch.may_have_acted)

    def close(self) -> None:
        """Release connections and the watching thread; no exchange may be under way."""
        self._session.close()
        self._watchdog.close()

    def _limit(self, watch: _Watch, request: TokenRequest) -> None:
        """Keep a request whose host the table supplied on the public internet."""
        parts = urlsplit(request.url)
        host = parts.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        if parts.port not in (None, _DEFAULT_PORTS.get(parts.scheme)):
            shown = f"{shown}:{parts.port}"
        watch.public_only = not (request.host_is_fixed or shown in self._private_hosts)
        if watch.public_only and self._proxies and parts.scheme == "https":
            # The proxy looks the name up, so only an address in the request itself can be judged.
            watch.public_only = False
            if not _may_be_public(host):
                raise _PrivateAddressError

    def _exchange(self, request: TokenRequest) -> RawAnswer:
        prepared = requests.Request("POST", request.url, dict(request.headers), data=request.body).prepare()
        prepared.headers["User-Agent"] = USER_AGENT
        with self._session.send(
            prepared,
            timeout=(min(CONNECT_SECONDS, self._seconds), None),  # the watchdog alone ends what takes too long
            allow_redirects=False,
            stream=True,
            verify=True,
            proxies=self._proxies,
        ) as response:
            body = _read(response)
            headers = {name.lower(): value for name, value in response.headers.items() if name.lower() in _KEPT_HEADERS}
            return RawAnswer(response.status_code, headers, body, self._clock.now())


_KEPT_HEADERS = ("content-type", "retry-after", "date")


def _read(response: requests.Response) -> bytes:
    """What came of the body, at most 1 MiB.

    A body that breaks off is kept as far as it came: it is evidence, and whether it can be read is decided later.
    requests and urllib3 would drop the part before the break, and what does not unpack.
    """
    body = bytearray()
    with contextlib.suppress(urllib3.exceptions.HTTPError, HTTPException, OSError):
        while len(body) < MAX_BODY_BYTES and (part := response.raw.read1(_CHUNK_BYTES, decode_content=False)):
            body += part
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    return _unpacked(bytes(body), packing)[:MAX_BODY_BYTES]


def _unpacked(body: bytes, packing: str) -> bytes:
    """The body without the packing that nobody asked for; as it came where that is not what it claims to be."""
    if packing not in ("gzip", "x-gzip", "deflate"):
        return body
    unpacked, rest = bytearray(), body
    with contextlib.suppress(zlib.error):
        while rest and len(unpacked) < MAX_BODY_BYTES:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # of gzip or zlib
            unpacked += unpacker.decompress(rest, MAX_BODY_BYTES - len(unpacked))
            rest = unpacker.unused_data
    return bytes(unpacked) or body


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (requests.exceptions.SSLError, "the provider's certificate is not accepted, or it speaks no TLS"),
    (ssl.SSLError, "CA_BUNDLE holds no certificates that can be read"),
    (requests.exceptions.ProxyError, "no connection through the proxy"),
    (requests.exceptions.InvalidURL, "the provider's address cannot be used"),
    (urllib3.exceptions.LocationValueError, "the provider's address cannot be used"),
)


class _PrivateAddressError(urllib3.exceptions.HTTPError):
    """The table supplied a host that is not on the public internet."""


def _reason(error: Exception, watch: _Watch, seconds: float) -> str:
    if watch.bit:
        return f"no complete {'answer' if watch.may_have_acted else 'connection'} within {seconds:g} s"
    if watch.may_have_acted:
        return f"the answer was lost ({type(error).__name__})"
    return next((words for kind, words in _REASONS if isinstance(error, kind)), "no connection to the provider")


class _Watch:
    """One exchange under watch.

    Attributes:
        bit: the watchdog ended it.
        may_have_acted: its request began to leave.
        public_only: it may only reach the public internet.
    """

    def __init__(self, watchdog: _Watchdog) -> None:
        self._watchdog = watchdog
        self._connection: HTTPConnection | None = None
        self._handle: socket.socket | None = None
        self.bit = False
        self.may_have_acted = False
        self.public_only = False

    def __enter__(self) -> _Watch:
        self._watchdog.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.end(self)

    def hold(self, connection: HTTPConnection, sock: socket.socket) -> None:
        """Take a connected socket under watch before a byte goes out on it.

        The watch has a handle of its own: TLS and a response that outlives its connection take the socket away.
        """
        # Looked at on the connected socket: a name may resolve differently each time.
        if self.public_only and not _is_public(sock.getpeername()[0]):
            raise _PrivateAddressError
        if self._connection is not connection:
            self.drop()
            self._connection, self._handle = connection, socket.socket(fileno=os.dup(sock.fileno()))
            cast(Any, connection).watch = self
        if self.bit:
            raise TimeoutError

    def bite(self) -> None:
        """End the exchange: a blocked read on the socket returns at once."""
        self.bit = True
        handle = self._handle
        # A connection that was given back may already serve another exchange.
        if handle is not None and getattr(self._connection, "watch", None) is self:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Let go of the socket."""
        if self._handle is not None:
            self._handle.close()
        self._handle = None


class _Watchdog:
    """Ends exchanges that last too long. requests bounds each read, not the whole: a drip would last for ever.

    It runs on the machine's own clock, because sockets hang in real time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadlines: dict[_Watch, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

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
            watch.drop()

    def _guard(self) -> None:
        planned: float | None = None
        with self._changed:
            while self._thread is threading.current_thread():
                now = time.monotonic()
                planned = self._look(now, planned)
                self._changed.wait(None if planned is None else planned - now)

    def _look(self, now: float, planned: float | None) -> float | None:
        """End what has lasted too long by `now`, which was to be `planned`; returns when to look again."""
        if planned is not None and now - planned > OVERSLEPT_SECONDS:
            self._postpone(now + AWAKE_SECONDS)
        for watch in [watch for watch, deadline in self._deadlines.items() if deadline <= now]:
            watch.bite()
            del self._deadlines[watch]
        return min(self._deadlines.values(), default=None)

    def _postpone(self, until: float) -> None:
        """This process was stopped for a while: a request may just have left, or its answer be on its way."""
        self._deadlines = {watch: max(deadline, until) for watch, deadline in self._deadlines.items()}


_CURRENT = threading.local()  # the watch of the exchange that this thread is in


class _WatchedHTTPConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _held(self, super()._new_conn())

    def request(self, *args: Any, **kwargs: Any) -> None:
        _let_go(self)
        super().request(*args, **kwargs)


class _WatchedHTTPSConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _held(self, super()._new_conn())

    def request(self, *args: Any, **kwargs: Any) -> None:
        _let_go(self)
        super().request(*args, **kwargs)


def _held(connection: HTTPConnection, sock: socket.socket) -> socket.socket:
    """A new socket, put under watch: a TLS handshake is part of the exchange, and a private host gets none."""
    try:
        _CURRENT.watch.hold(connection, sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _let_go(connection: HTTPConnection) -> None:
    """What a request must pass before it leaves, on a new connection or one that was kept."""
    if connection.sock is None:
        connection.connect()
    watch: _Watch = _CURRENT.watch
    watch.hold(connection, connection.sock)
    watch.may_have_acted = True


def _is_public(address: str) -> bool:
    """Whether an address is one host's on the public internet; of an IPv6 address that wraps an IPv4 one, that one's.

    Of IPv6 only 2000::/3 is given out (RFC 4291, section 2.4); the library calls multicast and more "global".
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        behind = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            behind = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if behind is None:
            return ip in _GIVEN_OUT and ip.is_global
        ip = behind
    return ip.is_global and not ip.is_multicast


def _may_be_public(host: str) -> bool:
    """Whether a host may be on the public internet, without asking anybody: an address in any spelling, or a name.

    A name that two readers may read differently, by other alphabets or percent signs, is not believed.
    """
    host = host.removesuffix(".")
    if not host.isascii() or "%" in host:
        return False
    try:
        [(*_, address), *_] = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host != "localhost" and not host.endswith(".localhost")
    return _is_public(str(address[0]))


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class _WatchedAdapter(tls.Adapter):
    """Every socket under watch, of a proxy too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, _: Any) -> None:
        """None: for a target requests would read the whole body, without limit, though nobody follows it."""
