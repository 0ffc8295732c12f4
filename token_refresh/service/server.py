"""uvicorn, set up for this service: how long a caller may take, and how it ends without cutting a refresh off."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.service.limits import AWAY, MOST_HEADER_BYTES, SLOWEST_SECONDS
from token_refresh.settings import ServiceSettings

OPEN_REQUESTS_SECONDS = 30  # after the wish for the end; then those that are left are answered with 503
NEW_REFRESHES_SECONDS = 8.0  # so long an open request may still begin a refresh, which takes 90 seconds at most
AWAY_SECONDS = 120.0  # after the store was last found away; so long the library waits for it
ANSWER_SECONDS = 8.0  # meanwhile a request is answered after so long; what it began goes on
_MUCH_BYTES = 64 * 1024
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class OneWrite(asyncio.Transport):
    """Sends what one turn of the loop writes in one piece.

    uvicorn writes the head of an answer and its body apart: two system calls, two packets, and a caller that wakes up
    twice. A service with many callers handed out half as many tokens.

    Args:
        transport: the connection itself.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport`; it goes out when the loop turns, or when it is much."""
        if not self._written:
            asyncio.get_running_loop().call_soon(self.send)
        self._written += data
        if len(self._written) >= _MUCH_BYTES:  # the connection says when a caller reads slowly
            self.send()

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        self.send()
        self._transport.close()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.resume_reading()

    def send(self) -> None:
        """Now."""
        written, self._written = self._written, bytearray()
        self._transport.write(written)


class TimedProtocol(H11Protocol):
    """A connection that is given ten seconds for the headers of each request: uvicorn alone waits for ever."""

    transport: OneWrite
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(OneWrite(transport))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See `H11Protocol`. Who has said already that no more requests come is answered before the connection ends."""
        self.transport.send()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._stop_watching()

    def _watch(self) -> None:
        """Whether headers are still to come; those of a request that waits for its turn are in its time."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._timer is None:
            self._timer = self.loop.call_later(SLOWEST_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.write(_TOO_SLOW)
        self.transport.close()


class Server(uvicorn.Server):
    """A server that whoever runs it ends by `stop`, whatever the number of signals.

    uvicorn's own answer to a second Ctrl+C cuts open requests off, and with them a refresh whose token only its answer
    holds.

    Args:
        config: see `configure`.
        on_late: called `NEW_REFRESHES_SECONDS` after the wish for the end.
    """

    def __init__(self, config: uvicorn.Config, on_late: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_late = on_late
        self._loop: asyncio.AbstractEventLoop | None = None
        self._away_until = float("-inf")
        self._waiting: dict[asyncio.Task[None], float] = {}  # since when each request waits for a store that is away

    def note_outage(self) -> None:
        """The store is away, and what asks it waits; called in any thread, again and again."""
        self._away_until = time.monotonic() + AWAY_SECONDS

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`: ten times a second."""
        now = time.monotonic()
        is_away = now < self._away_until
        self._waiting = {task: self._waiting.get(task, now) for task in self.server_state.tasks} if is_away else {}
        for task, since in self._waiting.items():
            if now - since >= ANSWER_SECONDS:
                task.cancel(AWAY)
        return await super().on_tick(counter)

    def stop(self) -> None:
        """Take no new request, and let open ones end; from a signal handler, too."""
        if not self.should_exit and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, NEW_REFRESHES_SECONDS, self._on_late)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`: whoever runs it has handlers."""
        self._loop = asyncio.get_running_loop()
        yield


def configure(app: Any, settings: ServiceSettings) -> uvicorn.Config:
    """How the application is served.

    Raises:
        ActionableError: certificate or key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        loop="asyncio",
        workers=1,  # whatever the environment says: more processes are more replicas
        log_config=None,
        access_log=False,  # a query string may hold a link's token
        server_header=False,
        proxy_headers=False,  # `limits` knows which proxies are trusted
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_graceful_shutdown=OPEN_REQUESTS_SECONDS,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or type(error).__name__
        what = f"TLS_CERT_FILE and TLS_KEY_FILE cannot be used ({reason})"
        action = "Name two PEM files that belong together and that the service's user can read."
        raise ActionableError(what, action, Kind.CONFIGURATION) from None
    return config


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address; at `::` for IPv4, too.

    Raises:
        ActionableError: another program has it, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        what = f"the service cannot listen at {host}, port {port} ({error.strerror})"
        raise ActionableError(what, "Correct HOST or PORT, or stop what is there.", Kind.CONFIGURATION) from None
