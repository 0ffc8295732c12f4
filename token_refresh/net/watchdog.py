"""The limit of one whole exchange: whatever lasts longer is aborted, from the lookup of the name to the last byte."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

import requests
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from token_refresh.net import tls
from token_refresh.net.hosts import PrivateAddressError, is_public

OVERSLEPT_SECONDS = 1.0  # so late after its time the watchdog was stopped with the whole process, not only delayed
HEAD_SECONDS = 60.0  # of a store's answer; its body has a limit of its own
AWAKE_SECONDS = 10.0  # what every exchange still gets after that


class Watch:
    """One exchange under watch.

    Attributes:
        is_aborted: the watchdog ended it.
        may_have_acted: its request began to leave.
        public_only: it may only reach the public internet.
        deadline: when the watchdog ends it (monotonic seconds).
    """

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        self._handle: socket.socket | None = None
        self.deadline = 0.0
        self.is_aborted = False
        self.may_have_acted = False
        self.public_only = False

    def seconds_to_connect(self, address: str, most: float) -> float:
        """How long to wait for a connection to this address of the host.

        Raises:
            PrivateAddressError: none is made to it.
            TimeoutError: the exchange has lasted too long already.
        """
        if self.public_only and not is_public(address):
            raise PrivateAddressError
        left = self.deadline - time.monotonic()
        self.is_aborted |= left <= 0
        if self.is_aborted:
            raise TimeoutError
        return min(most, left)

    def hold(self, connection: HTTPConnection, sock: socket.socket) -> None:
        """Take a connected socket under watch before a byte goes out on it.

        The watch has a handle of its own: TLS and a response that outlives its connection take the socket away.
        """
        # Also one that was kept: it was made for another row, and a name may resolve differently each time.
        if self.public_only and not is_public(sock.getpeername()[0]):
            raise PrivateAddressError
        if self._connection is not connection:
            self.drop()
            self._connection, self._handle = connection, socket.socket(fileno=os.dup(sock.fileno()))
            cast(Any, connection).watch = self
        if self.is_aborted:
            raise TimeoutError

    def abort(self) -> None:
        """End the exchange: a blocked read on the socket returns at once."""
        self.is_aborted = True
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


class Watchdog:
    """Ends exchanges that last too long. requests bounds each read, not the whole: a drip would last for ever.

    It runs on the machine's own clock, because sockets hang in real time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watches: set[Watch] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def shorten(self, seconds: float) -> None:
        """From now on an exchange has so many seconds, and what is under way no more left. In a signal handler, too."""
        with self._changed:
            self._seconds = seconds
            for watch in self._watches:
                watch.deadline = min(watch.deadline, time.monotonic() + seconds)
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()

    @contextlib.contextmanager
    def guarding(self, watch: Watch, seconds: float | None = None) -> Iterator[None]:
        """Ends the exchange in this block in time, or when it has lasted so many seconds.

        Raises:
            RuntimeError: the system starts no more threads, and nobody would end it.
        """
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._guard, name="exchange-watchdog", daemon=True)
                thread.start()
                self._thread = thread
            watch.deadline = time.monotonic() + (seconds or self._seconds)
            if all(watch.deadline < other.deadline for other in self._watches):
                self._changed.notify()  # otherwise it already waits for an earlier deadline than this one
            self._watches.add(watch)
        CURRENT.watch = watch
        try:
            yield
        finally:
            CURRENT.watch = None
            with self._changed:
                self._watches.discard(watch)
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
            # This process was stopped for a while: a request may just have left, or its answer be on its way.
            for watch in self._watches:
                watch.deadline = max(watch.deadline, now + AWAKE_SECONDS)
        for watch in [watch for watch in self._watches if watch.deadline <= now]:
            watch.abort()
            self._watches.discard(watch)
        return min((watch.deadline for watch in self._watches), default=None)


CURRENT = threading.local()  # the watch of the exchange that this thread is in
# urllib3 logs the address of each request, also in a warning; the query of some holds a token (`TokenRequest`).
logging.getLogger("urllib3.connectionpool").addFilter(lambda _: getattr(CURRENT, "watch", None) is None)


class _FinalResponse(HTTPResponse):
    """The final answer. http.client passes over 100 alone and would take any other interim answer (RFC 9110 section
    15.2) for it; the real one would then be read as the answer to the next request on that connection.
    """

    def begin(self) -> None:
        super().begin()
        while self.status < HTTPStatus.OK:
            cast(Any, self).headers = None  # else `begin` does nothing
            super().begin()


class _WatchedHTTPConnection(HTTPConnection):
    """Every socket under watch, and no request that leaves unseen."""

    response_class = _FinalResponse

    def _new_conn(self) -> socket.socket:
        """A TLS handshake is part of the exchange, and a private host gets none."""
        sock = self._connected()
        try:
            CURRENT.watch.hold(self, sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connected(self) -> socket.socket:
        """To one address of the name after the other: each has its time, and all of them have the exchange's.

        urllib3 gives each of them the whole time, and a name may have as many as its owner likes.
        """
        watch: Watch = CURRENT.watch
        name, most = self._dns_host, cast(float, self.timeout)
        try:
            found = socket.getaddrinfo(name, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return super()._new_conn()  # which says it in its words
        failure: HTTPError | None = None
        try:
            for address in dict.fromkeys(str(where[0]) for *_, where in found):
                self._dns_host, self.timeout = address, watch.seconds_to_connect(address, most)
                try:
                    return super()._new_conn()
                except HTTPError as error:
                    failure = error
        finally:
            self._dns_host, self.timeout = name, most
        raise failure or NewConnectionError(self, "the name has no address")

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """What a request must pass before it leaves, on a new connection or one that was kept."""
        if self.sock is None:
            self.connect()
        CURRENT.watch.hold(self, self.sock)
        CURRENT.watch.may_have_acted = True
        super().putrequest(*args, **kwargs)


class _WatchedHTTPSConnection(_WatchedHTTPConnection, HTTPSConnection):
    """The same around TLS."""


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class WatchedAdapter(tls.Adapter):
    """Every socket under watch, of a proxy too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class TimedAdapter(WatchedAdapter):
    """Ends a request whose answer has not begun in time, however its headers drip: for a store.

    Args:
        ca_bundle, connections: see `tls.Adapter`.
        seconds: from the lookup of the name to the end of the headers.
    """

    def __init__(self, ca_bundle: Path | None, connections: int, seconds: float = HEAD_SECONDS) -> None:
        self._watchdog = Watchdog(seconds)
        self.shorten = self._watchdog.shorten
        super().__init__(ca_bundle, connections)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """See `HTTPAdapter`."""
        watch = Watch()
        try:
            with self._watchdog.guarding(watch):
                response = super().send(*args, **kwargs)
        except (RuntimeError, TimeoutError) as error:  # no thread to watch it; too many dead addresses
            raise requests.ConnectionError(str(error)) from None
        if watch.is_aborted:  # headers that end with the connection look whole
            response.close()
            raise requests.ConnectionError("the answer did not begin in time")
        return response

    def close(self) -> None:
        """See `HTTPAdapter`."""
        super().close()
        self._watchdog.close()
