"""A callback that comes to this machine (RFC 8252 section 7.3): one path, on loopback alone, for one login."""

from __future__ import annotations

import errno
import html
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.clients.login.attempt import Callback, CallbackError, NoGrantError

_SECONDS_OF_A_REQUEST = 10
_SECONDS_OF_LAST_PAGE = 3.0  # how long a browser has to follow the redirect that takes the code out of its history
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{text}</p></html>"
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# Browsers look for `localhost` on ::1 first: whoever has the port there would be given the code.
_ADDRESSES = {"127.0.0.1": ("127.0.0.1",), "::1": ("::1",), "localhost": ("127.0.0.1", "::1")}


class Loopback:
    """Serves the redirect URI while used as a context manager, where that is on this machine.

    Args:
        redirect_uri: a port of 0 stands for any free one.

    Attributes:
        redirect_uri: with its port.
        is_served: whether a callback can come here.
        accept: `Attempt.accept` of the login whose callbacks are taken; None: there is none.
        ended: the callback that was taken, or why there will be none, once there is either.
        wake: a file descriptor that can be read from then on.

    Raises:
        ActionableError: the port cannot be had.
    """

    def __init__(self, redirect_uri: str) -> None:
        parts = urlsplit(redirect_uri)
        host, port = parts.hostname or "", 80 if parts.port is None else parts.port
        self.accept: Callable[[str], Callback] | None = None
        self.ended: Callback | NoGrantError | None = None
        self.shown = threading.Event()  # the page behind the callback was sent
        self._woken, self._waker = socket.socketpair()
        self.wake = self._woken.fileno()
        self._path = parts.path or "/"
        self._pages: dict[str, tuple[int, str]] = {}  # behind a callback: their addresses hold no code
        self._servers: list[_Server] = []
        for address in _ADDRESSES.get(host, ()) if parts.scheme == "http" else ():
            try:
                self._servers.append(_Server(self, address, port))
            except OSError as error:
                if self._servers and error.errno in _NO_IPV6:
                    break
                self._close()
                what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
                action = "Free it, or name another with --redirect-uri, as entered at the provider."
                raise ActionableError(f"port {port} of this machine {what}", action, Kind.USAGE) from None
            port = self._servers[0].server_address[1]
        self.is_served = bool(self._servers)
        self.redirect_uri = redirect_uri.replace(":0/", f":{port}/", 1) if parts.port == 0 else redirect_uri
        shown = f"[{host}]" if ":" in host else host
        self.hosts = {f"{shown}:{port}", *((shown,) if port == 80 else ())}

    def __enter__(self) -> Loopback:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.accept = None  # a callback that comes now is nobody's
        if self.ended is not None:
            self.shown.wait(_SECONDS_OF_LAST_PAGE)
        for server in self._servers:
            server.shutdown()
        self._close()

    def _close(self) -> None:
        for server in self._servers:
            server.server_close()
        self._woken.close()
        self._waker.close()

    def answer(self, path: str, query: str) -> tuple[int, str, str]:
        """Status, text for the person, and where the browser is sent on to, which takes the code out of its history."""
        accept = self.accept
        if path in self._pages:
            return *self._pages[path], ""
        if path != self._path or accept is None:
            return 404, "There is nothing here.", ""
        try:
            self.ended = accept(query)
            name, page = "done", (200, "You are logged in. Go back to the terminal; this page can be closed.")
        except NoGrantError as error:
            self.ended = error
            name, page = "refused", (200, "The provider refused the login. Go back to the terminal.")
        except CallbackError as error:
            name, page = error.refusal.name.lower(), (400, f"This answer was not used: {error}. {error.action}")
        page_path = f"{self._path.rstrip('/')}/{name}"
        self._pages[page_path] = page
        if page[0] == 200:
            self._waker.send(b"!")
        return 303, "", page_path


class _Server(ThreadingHTTPServer):
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
        loopback = self.server.loopback
        if self.headers.get("Host", "").lower() not in loopback.hosts:  # DNS rebinding
            self._send(421, "This is not the address of the login.")
            return
        path, _, query = self.path.partition("?")
        status, text, location = loopback.answer(path, query.partition("#")[0])
        self._send(status, text, location)
        if status == 200:  # only the page at the end has it
            loopback.shown.set()

    def _send(self, status: int, text: str, location: str = "") -> None:
        body = _PAGE.format(title="token-refresh", text=html.escape(text)).encode()
        self.send_response(status)
        for name, value in {**_HEADERS, "Location": location, "Content-Length": str(len(body))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What is no request is not quoted: it may hold a code."""
        self._send(code, "This is no request for a page.")

    def log_message(self, *_: object) -> None:
        """The address of a request holds a code."""
