"""An ASGI application called without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

HOST = "localhost:8002"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def call(
    app: Any,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    pieces: Iterable[bytes] = (b"",),
    client: str = "127.0.0.1",
) -> Answer:
    """One request, its body in these pieces; after the last the caller waits."""
    path, _, query = path.partition("?")
    given = {"host": HOST, **{name.lower(): value for name, value in (headers or {}).items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": (client, 12345),
        "server": ("127.0.0.1", 8002),
        "state": {},
    }
    if method != "GET" and "content-length" not in given:  # as HTTP/1.1 says that there is a body
        scope["headers"] = [*scope["headers"], (b"transfer-encoding", b"chunked")]
    left, sent = list(pieces), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()  # a caller that says no more
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)
    [start] = [message for message in sent if message["type"] == "http.response.start"]
    whole = b"".join(message.get("body", b"") for message in sent)
    return Answer(start["status"], {n.decode().lower(): v.decode() for n, v in start["headers"]}, whole)


def ask(app: Any, path: str = "/", **options: Any) -> Answer:
    """See `call`."""
    return asyncio.run(call(app, path, **options))
