"""A callback that comes to this machine (RFC 8252 section 7.3): one path, on loopback alone, for one login."""

from __future__ import annotations

import contextlib
import html
import os
import queue
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.login.attempt import Attempt, Callback, CallbackError, LoginRefusedError

_SECONDS_OF_A_REQUEST = 10
_SECONDS_OF_LAST_PAGE = 3.0  # how long a browser has to follow the redirect that takes the code out of its history
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}
_PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{text}</p></html>"
_DONE, _REFUSED = "/done", "/refused"

Ended = Callback | LoginRefusedError


class Loopback:
    """Serves the redirect URI while used as a context manager.

    Args:
        redirect_uri: http on loopback; a port of 0 stands for any free one. `localhost` is served on ::1, too.

    Attributes:
        redirect_uri: with its port.
        ended: the callback that was taken, or why there is none, once there is either.
        wake: a file descriptor that can be read from then on.

    Raises:
        ActionableError: the port is not free.
    """

    def __init__(self, redirect_uri: str) -> None:
        parts = urlsplit(redirect_uri)
        host, port = parts.hostname or "", parts.port if parts.port is not None else 80
        self.ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self.wake, self._waker = os.pipe()
        self._attempt: Attempt | None = None
        self._now: Callable[[], datetime] | None = None
        self._lock = threading.Lock()
        self.is_over = False
        self.shown = threading.Event()  # the page behind the callback was sent
        self._path = parts.path or "/"
        self._servers = [_Server(self, "127.0.0.1" if host == "localhost" else host, port)]
        port = self._servers[0].server_address[1]
        if host == "localhost" and socket.has_ipv6:
            with contextlib.suppress(ActionableError):  # a machine without IPv6: browsers try 127.0.0.1, too
                self._servers.append(_Server(self, "::1", port))
        shown = f"[{host}]" if ":" in host else host
        self.hosts = {f"{shown}:{port}", *((shown,) if port == 80 else ())}
        self.redirect_uri = urlunsplit(parts._replace(netloc=f"{shown}:{port}" if parts.port is not None else shown))

    def begin(self, attempt: Attempt, now: Callable[[], datetime]) -> None:
        """Take callbacks of this login from now on."""
        self._attempt, self._now = attempt, now

    def __enter__(self) -> Loopback:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_over:
            self.shown.wait(_SECONDS_OF_LAST_PAGE)
        for server in self._servers:
            server.shutdown()
            server.server_close()
        os.close(self.wake)
        os.close(self._waker)

    def answer(self, path: str, query: str) -> tuple[int, str, str]:
        """Status, text for the person, and where the browser is sent on to, which takes the code out of its history."""
        if path == _DONE:
            return 200, "You are logged in. Go back to the terminal; this page can be closed.", ""
        if path == _REFUSED:
            return 200, "The provider refused the login. Go back to the terminal.", ""
        if path != self._path or self._attempt is None or self._now is None:
            return 404, "There is nothing here.", ""
        with self._lock:
            try:
                ended: Ended = self._attempt.accept(query, self._now())
            except CallbackError as error:
                return 400, f"This answer was not used: {error}. {error.action}", ""
            except LoginRefusedError as error:
                ended = error
            self.is_over = True
            self.ended.put(ended)
            os.write(self._waker, b"!")
        return 303, "", _REFUSED if isinstance(ended, LoginRefusedError) else _DONE


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, loopback: Loopback, host: str, port: int) -> None:
        self.loopback = loopback
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError:
            raise ActionableError(
                f"port {port} of this machine is in use",
                "Close what uses it, or name another with --redirect-uri, as entered at the provider.",
                Kind.USAGE,
            ) from None

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS_OF_A_REQUEST
    server_version, sys_version = "token-refresh", ""

    def do_GET(self) -> None:
        """Answer a browser."""
        if self.headers.get("Host", "").lower() not in self.server.loopback.hosts:  # DNS rebinding
            self._send(421, "This is not the address of the login.", "")
        else:
            parts = urlsplit(self.path)
            self._send(*self.server.loopback.answer(parts.path, parts.query))

    def _send(self, status: int, text: str, location: str) -> None:
        body = _PAGE.format(title="token-refresh", text=html.escape(text)).encode()
        self.send_response(status)
        for name, value in ({**_HEADERS, "Location": location} if location else _HEADERS).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path in (_DONE, _REFUSED):
            self.server.loopback.shown.set()

    def log_message(self, *_: object) -> None:
        """The address of a request holds a code."""
