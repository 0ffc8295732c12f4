"""A small HTTP/1.1 server on loopback that the fake services of this folder stand on.

It speaks real HTTP over real sockets, keeps every request it received, and can be told to misbehave:
answer late, answer in part, drop the connection before or after the service acted. A service is a
function from `Request` to `Response`; a fault wraps around it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    target: str = ""  # path and query as they came, still encoded

    def form(self) -> list[tuple[str, str]]:
        """The body as `application/x-www-form-urlencoded` pairs, in order, empty values kept."""
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body))

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` where it is none."""
        return json.loads(self.body)


CHUNK_BYTES = 64
Framing = Literal["length", "chunked", "close"]


@dataclass(frozen=True)
class Response:
    """One answer. `cut` closes the connection after so many bytes of the body; `drip_seconds` pauses between bytes.

    `framing` says how the client learns where the body ends (RFC 9112, section 6.3): by Content-Length, by a last
    chunk, or only by the end of the connection.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drip_seconds: float = 0.0
    framing: Framing = "length"

    @classmethod
    def of_json(cls, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
        """An answer with a JSON body."""
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})


class Hangup(Exception):  # noqa: N818 - an event in the conversation, not an error of the server
    """Raised by a service to close the connection without an answer; `reset` does it with a TCP RST."""

    def __init__(self, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


Service = Callable[[Request], Response]


class HTTPServer:
    """Serves one `Service` on a free loopback port while used as a context manager.

    Args:
        service: answers each request; called from many threads at once.
        latency: seconds to wait before the service is asked, called once a request.
        port: 0 for a free one.
    """

    def __init__(self, service: Service, latency: Callable[[], float] = lambda: 0.0, port: int = 0) -> None:
        self._service = service
        self.latency = latency
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.connections = 0  # that clients have made
        self.now: Callable[[], float] = time.time  # of its clock, which every answer tells
        self._server = _Listener(("127.0.0.1", port), self._handler_class())
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HTTPServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)  # which ends the wait for a next client
        self._server.server_close()

    def answer(self, request: Request) -> Response:
        """Record the request, wait the latency, ask the service."""
        with self._lock:
            self.requests.append(request)
        delay = self.latency()
        if delay > 0:
            time.sleep(delay)
        return self._service(request)

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(_Handler):
            server_world = world

        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def serve_forever(self, poll_interval: float = 0.0) -> None:
        """Until the socket is shut down. Nobody looks every so often whether it is: thousands of tests would wait."""
        while True:
            try:
                connection, address = self.get_request()
            except OSError:
                return
            self.process_request(connection, address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is part of the tests, not an error to print."""


class _Handler(BaseHTTPRequestHandler):
    server_world: HTTPServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server_world.connections += 1

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` of every answer (RFC 9110 section 6.6.1)."""
        return super().date_time_string(self.server_world.now() if timestamp is None else timestamp)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            path=parts.path,
            query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
            target=self.path,
        )
        try:
            response = self.server_world.answer(request)
        except Hangup as hangup:
            if hangup.reset:
                self._reset()
            self._close()
            return
        self._send(response)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.framing == "length":
            self.send_header("Content-Length", str(len(response.body)))
        elif response.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        for piece in _pieces(response):
            self.wfile.write(piece)
            if response.drip_seconds:
                self.wfile.flush()
                time.sleep(response.drip_seconds)
        if response.cut is not None or response.framing == "close":
            self._close()

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        """Throw the connection away: with no time to linger the kernel sends RST at the close."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Say nothing: the requests are in `HTTPServer.requests`."""


def _pieces(response: Response) -> Iterator[bytes]:
    body = response.body if response.cut is None else response.body[: response.cut]
    length = 1 if response.drip_seconds else len(body) if response.framing != "chunked" else CHUNK_BYTES
    for position in range(0, len(body), max(length, 1)):
        piece = body[position : position + length]
        yield piece if response.framing != "chunked" else b"%x\r\n%s\r\n" % (len(piece), piece)
    if response.framing == "chunked" and response.cut is None:
        yield b"0\r\n\r\n"
