"""Servers on loopback, and what is asked of them."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

from providers.base import Answer, RawAnswer, TokenRequest, Verdict
from tests.world.http import HTTPServer, Request, Response
from tests.world.raw import RawServer
from token_refresh.net.transport import HTTPTransport

SECONDS = 0.3  # the limit of an exchange that is to reach it
PATIENT_SECONDS = 10.0  # and of one that is not
SLACK = 5.0  # what a busy machine may add; a server that is never left goes on for `FOREVER_SECONDS`
FOREVER_SECONDS = 20.0
MEBIBYTE = 1 << 20
BODY = b"grant_type=refresh_token&refresh_token=r1"
PAIR = json.dumps({"access_token": "a", "refresh_token": "r2"}).encode()


def request_to(url: str, fixed: bool = True) -> TokenRequest:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return TokenRequest(url, {**headers, "Content-Type": "application/x-www-form-urlencoded"}, BODY, fixed)


MakeTransport = Callable[..., HTTPTransport]


@contextlib.contextmanager
def serving(answer: Response | Callable[[Request], Response]) -> Iterator[HTTPServer]:
    with HTTPServer(answer if callable(answer) else lambda _: answer) as server:
        yield server


def forever(sock: socket.socket, send: bytes, pause: float = 0.01) -> None:
    """Send again and again until the other side has gone."""
    until = time.monotonic() + FOREVER_SECONDS
    while time.monotonic() < until:
        sock.sendall(send)
        time.sleep(pause)


def swallow(server: RawServer) -> Callable[[socket.socket], None]:
    """Take in whatever comes, and say nothing until the other side has gone."""

    def console(sock: socket.socket) -> None:
        sock.settimeout(FOREVER_SECONDS)
        while part := sock.recv(65_536):
            server.received += part

    return console


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def may_have_acted(end: RawAnswer | Answer) -> bool:
    """Whether the request had left, where no complete answer came."""
    assert isinstance(end, Answer)
    return end.verdict is Verdict.UNCLEAR


def is_refused_as_private(end: RawAnswer | Answer) -> bool:
    """Whether nothing was sent, because a row names a host that is not on the public internet."""
    return (
        isinstance(end, Answer)
        and (end.verdict, end.error) == (Verdict.REQUEST_REFUSED, "the row's host is not on the public internet")
        and "ALLOWED_PRIVATE_HOSTS" in (end.action or "")
    )
