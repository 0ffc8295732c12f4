"""Around the whole application: which requests reach it at all, and what every answer says to a browser."""

from __future__ import annotations

import asyncio
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from token_refresh.base.errors import ActionableError, Kind
from token_refresh.service.answers import problem
from token_refresh.settings import ServiceSettings

MOST_BODY_BYTES, MOST_HEADER_BYTES = 1024 * 1024, 16 * 1024
SLOWEST_SECONDS = 10.0  # for the body, and for the headers: see `server`
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]+)?")  # RFC 9110 section 7.2
AWAY = "the store is away"  # why the server cuts a request off
_STORE_AWAY = ActionableError("the store does not answer", "Ask again.", Kind.STORE_UNAVAILABLE)
_STOPPING = ActionableError("the service is stopping", "Ask again.", Kind.STOPPED)
_PASSED_OVER = 16 * MOST_BODY_BYTES  # of a body that is too large: whoever is still sending reads no answer
# Nothing comes from elsewhere, no script stands in a page, and no other page shows one of ours in a frame.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (  # an answer that says one of these by itself keeps its own
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),  # an address may hold a link's token
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Limits:
    """An ASGI application around another one.

    Args:
        app: the other one.
        settings: which names the service has: a page of another name that leads here by DNS could otherwise use what
            a browser keeps for the service. And whose word is taken for where a request comes from.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        proxies = list(settings.trusted_proxies)
        self._app: ASGIApp = ProxyHeadersMiddleware(app, proxies) if proxies else app  # type: ignore[assignment, arg-type]
        self._allowed_hosts = settings.allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":  # the service has no web sockets: see `server`
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            self._require_acceptable(scope)
            body = await _whole_body(scope, receive)
            if body is not None:
                await self._app(scope, _replay(body, receive), answer)
        except ActionableError as error:
            await _refuse(error, scope, receive, answer)
        except asyncio.CancelledError as cut:  # the server has waited for long enough: see there
            if answer.has_begun:
                raise
            await _refuse(_STORE_AWAY if AWAY in cut.args else _STOPPING, scope, receive, answer)

    def _require_acceptable(self, scope: Scope) -> None:
        """Raises `ActionableError`."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        size = len(scope["raw_path"]) + len(scope["query_string"])
        if size + sum(len(name) + len(value) + 4 for name, value in headers) > MOST_HEADER_BYTES:
            raise _too_large("address and headers", MOST_HEADER_BYTES)
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        if len(hosts) != 1 or host_in(hosts[0]) not in self._allowed_hosts:
            action = "Use the address that its operator names; the operator sets PUBLIC_URL or ALLOWED_HOSTS."
            raise ActionableError("the service does not answer under this name", action, Kind.HOST)


class _Answer:
    """Sends an answer on, with the headers that every one has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            own = list(message.get("headers", []))
            names = {bytes(name).lower() for name, _ in own}
            added = [header for header in _HEADERS if header[0] not in names]
            message = {**message, "headers": [*own, *added]}
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the application a body that has been read, then what else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _whole_body(scope: Scope, receive: Receive) -> bytes | None:
    """All of it; None where the caller has gone. Raises `ActionableError`.

    It is read before anything else happens: an application that reads it by itself waits for a slow sender for ever.
    """
    headers = dict(scope["headers"])
    if headers.keys().isdisjoint((b"content-length", b"transfer-encoding")):
        return b""  # there is none (RFC 9112 section 6.3)
    if b"expect" in headers and int(headers.get(b"content-length", 0)) > MOST_BODY_BYTES:
        raise _too_large("the body", MOST_BODY_BYTES)  # whoever asks first need not send it
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(SLOWEST_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                size += len(message.get("body", b""))
                if size <= MOST_BODY_BYTES:
                    body += message.get("body", b"")
                if not message.get("more_body", False) or size > _PASSED_OVER:
                    break
    except TimeoutError:
        what = f"the body took longer than {SLOWEST_SECONDS:.0f} seconds"
        raise ActionableError(what, "Send it faster.", Kind.TOO_LARGE) from None
    if size > MOST_BODY_BYTES:
        raise _too_large("the body", MOST_BODY_BYTES)
    return bytes(body)


def _too_large(what: str, most: int) -> ActionableError:
    return ActionableError(f"{what} may have {most // 1024} KiB at most", "Send less.", Kind.TOO_LARGE)


async def _refuse(error: ActionableError, scope: Scope, receive: Receive, answer: Send) -> None:
    response = problem(error)
    response.headers["Connection"] = "close"  # what may still come of the request is not read
    await response(scope, receive, answer)


def host_in(header: str) -> str:
    """The name in `Host`, lower case, without the port and an IPv6 address's brackets; empty where it is none."""
    match = _HOST.fullmatch(header)
    return (match[1] or match[2]).lower() if match is not None else ""
