"""A callback that comes to this machine (RFC 8252 section 7.3): one path, on loopback alone, for one login."""

from __future__ import annotations

import errno
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
_NOTHING = 404, "There is nothing here."
_DONE = 200, "You are logged in. Go back to the terminal; this page can be closed."
_REFUSED = 200, "The provider refused the login. Go back to the terminal."
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Ended = Callback | LoginRefusedError


class Loopback:
    """Serves the redirect URI while used as a context manager.

    Args:
        redirect_uri: http on loopback; a port of 0 stands for any free one. `localhost` is served on ::1, too, where
            browsers look first: whoever has that port there would be given the code.

    Attributes:
        redirect_uri: with its port.
        ended: the callback that was taken, or why there is none, once there is either.
        wake: a file descriptor that can be read from then on.

    Raises:
        ActionableError: the port cannot be had.
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
        self._pages: dict[str, tuple[int, str]] = {}  # behind a callback: their addresses hold no code
        self._servers = [_served(self, "127.0.0.1" if host == "localhost" else host, port)]
        port = self._servers[0].server_address[1]
        if host == "localhost":
            try:
                self._servers.append(_served(self, "::1", port))
            except _PortError as error:
                if error.number not in _NO_IPV6:
                    self._servers[0].server_close()
                    raise
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
        with self._lock:  # a callback that comes now is nobody's
            self._attempt = None
        if self.is_over:
            self.shown.wait(_SECONDS_OF_LAST_PAGE)
        for server in self._servers:
            server.shutdown()
            server.server_close()
        os.close(self.wake)
        os.close(self._waker)

    def answer(self, path: str, query: str) -> tuple[int, str, str]:
        """Status, text for the person, and where the browser is sent on to, which takes the code out of its history."""
        if path in self._pages:
            return *self._pages[path], ""
        with self._lock:
            if path != self._path or self._attempt is None or self._now is None:
                return *_NOTHING, ""
            name, page = self._taken(self._attempt, query, self._now())
        page_path = f"{self._path.rstrip('/')}/{name}"
        self._pages[page_path] = page
        return 303, "", page_path

    def _taken(self, attempt: Attempt, query: str, now: datetime) -> tuple[str, tuple[int, str]]:
        """The page behind a callback, and its name. The login is over, unless it was another one's."""
        try:
            ended: Ended = attempt.accept(query, now)
        except CallbackError as error:
            return error.refusal.name.lower(), (400, f"This answer was not used: {error}. {error.action}")
        except LoginRefusedError as error:
            ended = error
        self.is_over = True
        self.ended.put(ended)
        os.write(self._waker, b"!")
        return ("refused", _REFUSED) if isinstance(ended, LoginRefusedError) else ("done", _DONE)

    def note_shown(self, path: str) -> None:
        """The page of this path was sent."""
        if self.is_over and self._pages.get(path) in (_DONE, _REFUSED):
            self.shown.set()


class _PortError(ActionableError):
    """A port that cannot be had; `number` as in `errno`."""

    kind = Kind.USAGE

    def __init__(self, port: int, error: OSError) -> None:
        is_taken = error.errno == errno.EADDRINUSE
        super().__init__(
            f"port {port} of this machine {'is in use' if is_taken else f'cannot be opened ({error.strerror})'}",
            f"{'Close what uses it, or name' if is_taken else 'Name'} another with --redirect-uri, as entered at the "
            "provider.",
        )
        self.number = error.errno


def _served(loopback: Loopback, host: str, port: int) -> _Server:
    try:
        return _Server(loopback, host, port)
    except OSError as error:
        raise _PortError(port, error) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, loopback: Loopback, host: str, port: int) -> None:
        self.loopback = loopback
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

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
            path, _, query = self.path.partition("?")
            self._send(*self.server.loopback.answer(path, query.partition("#")[0]))

    def _send(self, status: int, text: str, location: str) -> None:
        body = _PAGE.format(title="token-refresh", text=html.escape(text)).encode()
        self.send_response(status)
        for name, value in ({**_HEADERS, "Location": location} if location else _HEADERS).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.loopback.note_shown(getattr(self, "path", ""))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What is no request is not quoted: it may hold a code."""
        self.close_connection = True
        self._send(code, "This is no request for a page.", "")

    def log_message(self, *_: object) -> None:
        """The address of a request holds a code."""
