"""The one POST, over real sockets on loopback: where it may go, how long it may last, what is told of a failure."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import logging
import os
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from providers.base import Answer, RawAnswer, Verdict
from tests.net.loopback import (
    BODY,
    MEBIBYTE,
    PAIR,
    PATIENT_SECONDS,
    SECONDS,
    SLACK,
    MakeTransport,
    forever,
    is_refused_as_private,
    may_have_acted,
    request_to,
    serving,
    swallow,
    within,
)
from tests.world.clock import START, FakeClock
from tests.world.http import Hangup, Request, Response
from tests.world.raw import Authority, RawServer, serving_tls
from token_refresh.net.transport import HTTPTransport

# What is sent, and what is kept of the answer


def test_the_request_arrives_as_it_was_made_and_nothing_is_added(transport: HTTPTransport, clock: FakeClock) -> None:
    headers = {"Content-Type": "application/json", "Retry-After": "7", "Set-Cookie": "a=b", "X-Other": "x"}
    with serving(Response(201, PAIR, headers)) as server:
        raw = transport.post(request_to(server.url + "/token"))
    assert isinstance(raw, RawAnswer)
    assert (raw.status, raw.body, raw.received_at) == (201, PAIR, START)
    assert {name: raw.headers[name] for name in ("content-type", "retry-after")} == {
        "content-type": "application/json",
        "retry-after": "7",
    }
    assert not {"set-cookie", "x-other"} & set(raw.headers)
    [arrived] = server.requests
    assert (arrived.method, arrived.target, arrived.body) == ("POST", "/token", BODY)
    assert set(arrived.headers) <= {
        "host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "connection",
    }  # fmt: skip
    assert arrived.headers["user-agent"] == "token-refresh"
    assert arrived.headers["accept-encoding"] == "identity"


def test_connections_are_kept_and_cookies_are_not(transport: HTTPTransport) -> None:
    peers: list[Any] = []

    def talk(sock: socket.socket) -> None:
        peers.append(sock.getpeername())
        for _ in range(3):
            server.read_request(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 2\r\n\r\n{}")

    with RawServer(talk) as server:
        for _ in range(3):
            assert isinstance(transport.post(request_to(server.url)), RawAnswer)
    assert len(peers) == 1
    assert b"ookie" not in server.received
    assert len(transport._session.cookies) == 0


def test_connections_are_kept_after_a_chunked_answer_too(transport: HTTPTransport) -> None:
    def talk(sock: socket.socket) -> None:
        for _ in range(3):
            server.read_request(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")

    with RawServer(talk) as server:
        for _ in range(3):
            raw = transport.post(request_to(server.url))
            assert isinstance(raw, RawAnswer)
            assert raw.body == b"{}"
    assert server.accepted == 1


def test_a_kept_connection_that_the_provider_has_closed_is_replaced(transport: HTTPTransport) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with RawServer(talk) as server:
        for _ in range(3):
            assert isinstance(transport.post(request_to(server.url)), RawAnswer)
            time.sleep(0.02)
    assert server.accepted == 3


def test_sixteen_threads_get_their_own_answers(transport_with: MakeTransport) -> None:
    transport = transport_with(connections=16)
    barrier = threading.Barrier(16)

    def echo(request: Request) -> Response:
        barrier.wait(PATIENT_SECONDS)  # all sixteen are in flight at once
        return Response(200, request.path.encode())

    with serving(echo) as server, ThreadPoolExecutor(16) as pool:
        for _ in range(2):
            paths = [f"/{number}" for number in range(16)]
            answers = list(pool.map(lambda path: transport.post(request_to(server.url + path)), paths))
            assert [answer.body.decode() for answer in answers if isinstance(answer, RawAnswer)] == paths


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_to_another_host(transport: HTTPTransport, status: int) -> None:
    with serving(Response(200, PAIR)) as elsewhere:
        to = elsewhere.url.replace("127.0.0.1", "localhost") + "/token"
        with serving(Response(status, b"moved", {"Location": to})) as server:
            raw = transport.post(request_to(server.url))
        assert elsewhere.requests == []
    assert isinstance(raw, RawAnswer)
    assert (raw.status, raw.body) == (status, b"moved")
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["http://[", "nonsense://x", "//", "\xff\xfe", "http://" + "a" * 70 + ".x/", ""])
def test_a_redirect_to_nonsense_is_an_answer_like_any_other(transport: HTTPTransport, location: str) -> None:
    with serving(Response(307, PAIR, {"Location": location})) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert (raw.status, raw.body) == (307, PAIR)


def test_the_body_of_a_redirect_is_bounded_like_any_other(transport_with: MakeTransport) -> None:
    bomb = gzip.compress(b" " * (1 << 20)) * 64
    transport = transport_with()
    headers = {"Location": "https://elsewhere.example/", "Content-Encoding": "gzip"}
    with serving(Response(307, bomb, headers)) as server, peak_below(24 << 20):
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert len(raw.body) == MEBIBYTE


# Time and size


@contextlib.contextmanager
def peak_below(count: int) -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()


def drip(head: bytes) -> Callable[[RawServer], Callable[[socket.socket], None]]:
    def made(server: RawServer) -> Callable[[socket.socket], None]:
        def talk(sock: socket.socket) -> None:
            server.read_request(sock)
            sock.sendall(head)
            forever(sock, b"x")

        return talk

    return made


DRIPS = {
    "a body on a kept connection": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    "a body on a closing connection": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n",
    "a body without an end": b"HTTP/1.0 200 OK\r\n\r\n",
    "a chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a header": b"HTTP/1.1 200 OK\r\nX: ",
    "a status line": b"HTTP/1.1 200 ",
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_drip_ends_at_the_limit_wherever_it_comes(hasty: HTTPTransport, name: str) -> None:
    with RawServer(lambda sock: talk(sock)) as server:
        talk = drip(DRIPS[name])(server)
        with within(SECONDS + SLACK):
            end = hasty.post(request_to(server.url))
    if isinstance(end, RawAnswer):
        assert end.status == 200
        assert end.body.strip(b"x") == b""
    else:
        assert may_have_acted(end)


def test_a_server_that_says_nothing_ends_at_the_limit(hasty: HTTPTransport) -> None:
    with RawServer(lambda sock: swallow(server)(sock)) as server, within(SECONDS + SLACK):
        end = hasty.post(request_to(server.url))
    assert isinstance(end, Answer)
    assert may_have_acted(end)


def test_a_tls_handshake_that_drips_ends_at_the_limit_and_nothing_can_have_happened(hasty: HTTPTransport) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(b"\x16\x03\x03\x3f\xff")  # a handshake record of 16383 bytes
        forever(sock, b"\x02")

    with RawServer(talk) as server, within(SECONDS + SLACK):
        end = hasty.post(request_to(f"https://127.0.0.1:{server.port}/token"))
    assert end == Answer(Verdict.NOT_ACTED, error="no complete connection within 0.3 s")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + b"HTTP/1.1 200 OK\r\n"]
)
def test_endless_headers_end_in_no_answer(hasty: HTTPTransport, head: bytes) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(head)
        forever(sock, b"X-Header: " + b"y" * 1000 + b"\r\n", pause=0)

    with RawServer(talk) as server, within(SECONDS + SLACK), peak_below(16 << 20):
        end = hasty.post(request_to(server.url))
    assert isinstance(end, Answer)
    assert may_have_acted(end)


@contextlib.contextmanager
def silent_addresses(count: int) -> Iterator[tuple[list[str], int]]:
    """Addresses of this machine and a port, where a connection is neither made nor refused."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.socket())
        first.bind(("127.0.0.2", 0))
        port = first.getsockname()[1]
        names = [f"127.0.0.{number}" for number in range(2, 2 + count)]
        for name in names:
            listener = first if name == names[0] else stack.enter_context(socket.socket())
            if listener is not first:
                listener.bind((name, port))
            listener.listen(0)
            for _ in range(4):  # fill its queue: whoever comes next gets no answer
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((name, port))
        yield names, port


def resolved_to(patch: pytest.MonkeyPatch, names: list[str]) -> None:
    """Any name but an address means these."""
    ask = socket.getaddrinfo

    def answer(host: Any, port: Any, *more: Any, **flags: Any) -> Any:
        found = [host] if str(host)[:1].isdigit() else names
        return [entry for name in found for entry in ask(name, port, *more, **flags)]

    patch.setattr(socket, "getaddrinfo", answer)


def test_a_name_with_many_dead_addresses_ends_at_the_limit_of_one_exchange(
    hasty: HTTPTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_addresses(40) as (names, port):
        resolved_to(monkeypatch, names)
        with within(SECONDS + SLACK):
            end = hasty.post(request_to(f"http://many.example:{port}/token"))
    assert end == Answer(Verdict.NOT_ACTED, error="no complete connection within 0.3 s")


def test_of_several_addresses_the_first_that_answers_is_used(
    transport_with: MakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Response(200, PAIR)) as server:
        resolved_to(monkeypatch, ["127.0.0.9", "127.0.0.1"])
        end = transport_with().post(request_to(server.url.replace("127.0.0.1", "many.example")))
    assert isinstance(end, RawAnswer)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1"])
def test_an_address_that_is_not_public_is_not_even_connected_to(transport_with: MakeTransport, host: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        end = transport_with().post(request_to(f"http://{host}:{listener.getsockname()[1]}/token", fixed=False))
        assert is_refused_as_private(end)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_endless_interim_answers_end_at_the_limit(hasty: HTTPTransport) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        forever(sock, b"HTTP/1.1 100 Continue\r\n\r\n", pause=0)

    with RawServer(talk) as server, within(SECONDS + SLACK):
        end = hasty.post(request_to(server.url))
    assert isinstance(end, Answer)
    assert may_have_acted(end)


def test_a_huge_body_is_kept_up_to_a_mebibyte(transport_with: MakeTransport) -> None:
    body = PAIR + b" " * (8 << 20)
    with serving(Response(200, body)) as server, peak_below(32 << 20):  # the server's own copies count
        raw = transport_with().post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert len(raw.body) == MEBIBYTE
    assert raw.body.startswith(PAIR)


def test_what_comes_after_a_mebibyte_is_not_waited_for(transport_with: MakeTransport) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 2 * MEBIBYTE)
        sock.recv(1)  # until the other side has gone

    with RawServer(talk) as server, within(5):
        raw = transport_with().post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert len(raw.body) == MEBIBYTE


def test_a_packed_bomb_is_unpacked_up_to_a_mebibyte(transport_with: MakeTransport) -> None:
    packed = gzip.compress(PAIR + b" " * (1 << 20)) + gzip.compress(b" " * (1 << 20)) * 128
    with serving(Response(200, packed, {"Content-Encoding": "gzip"})) as server, peak_below(24 << 20):
        raw = transport_with().post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert len(raw.body) == MEBIBYTE
    assert raw.body.startswith(PAIR)


def test_an_answer_packed_unasked_is_unpacked(transport: HTTPTransport) -> None:
    with serving(Response(200, gzip.compress(PAIR), {"Content-Encoding": "gzip"})) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert raw.body == PAIR


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "utf-8"])
def test_an_answer_that_is_not_packed_as_it_claims_does_not_raise(transport: HTTPTransport, encoding: str) -> None:
    with serving(Response(200, PAIR, {"Content-Encoding": encoding})) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert raw.body == PAIR


@pytest.mark.parametrize("how", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_breaks_off_in_the_middle_of_a_packet_is_kept(transport: HTTPTransport, how: str) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        size = b"3e8\r\n" if "chunked" in how else b""
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + how.encode() + b"\r\n\r\n" + size + PAIR)

    with RawServer(talk) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert raw.body == PAIR


def test_a_packed_body_that_breaks_off_is_unpacked_as_far_as_it_came(transport: HTTPTransport) -> None:
    text = json.dumps({"access_token": "a" * 5000, "x": [str(number * 7919) for number in range(2000)]}).encode()
    packed = gzip.compress(text)
    with serving(Response(200, packed, {"Content-Encoding": "gzip"}, cut=len(packed) - 100)) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert text.startswith(raw.body)
    assert len(raw.body) > 5000


@pytest.mark.parametrize("cut", [0, 1, len(PAIR) - 1])
def test_a_body_that_breaks_off_is_kept_as_far_as_it_came(transport: HTTPTransport, cut: int) -> None:
    with serving(Response(200, PAIR, cut=cut)) as server:
        raw = transport.post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert raw.body == PAIR[:cut]


# What may have happened


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "address",
    ["closed", "https closed", "https://does-not-exist.invalid/token", "https://a..b/", "https://" + "a" * 64 + "/"],
)
def test_without_a_connection_the_provider_cannot_have_acted(transport: HTTPTransport, address: str) -> None:
    port = closed_port()
    url = {"closed": f"http://127.0.0.1:{port}/", "https closed": f"https://127.0.0.1:{port}/"}.get(address, address)
    end = transport.post(request_to(url))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)
    assert end.error


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1/", "https://[", "http://127.0.0.1:99999/", "https://*"]
)
def test_an_address_that_cannot_be_used_does_not_raise(transport: HTTPTransport, url: str) -> None:
    end = transport.post(request_to(url))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)


@pytest.mark.parametrize("reset_too", [True, False])
def test_a_connection_lost_after_the_request_may_have_acted(transport: HTTPTransport, reset_too: bool) -> None:
    def hang_up(_: Request) -> Response:
        raise Hangup(reset=reset_too)

    with serving(hang_up) as server:
        end = transport.post(request_to(server.url))
    assert isinstance(end, Answer)
    assert may_have_acted(end)
    assert len(server.requests) == 1  # and it is never sent again by itself


GARBAGE = [
    b"\0" * 100,
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 99999999999999999999 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: no name\r\n\xff: \xff\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
    b"",
]


@pytest.mark.parametrize("answer", GARBAGE, ids=lambda answer: ascii(answer[:40]))
def test_garbage_for_an_answer_never_raises_and_never_counts_as_not_sent(
    transport: HTTPTransport, answer: bytes
) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        sock.sendall(answer)

    with RawServer(talk) as server:
        end = transport.post(request_to(server.url))
    assert isinstance(end, RawAnswer) or may_have_acted(end)


# TLS


def test_an_own_authority_is_trusted_where_the_setting_names_it(
    transport_with: MakeTransport, authority: Authority
) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        for _ in range(2):
            server.read_request(sock)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with serving_tls(authority, talk) as server:
        transport = transport_with(ca_bundle=authority.bundle)
        for _ in range(2):
            assert isinstance(transport.post(request_to(server.url)), RawAnswer)
        assert server.accepted == 1
        wrong_name = transport.post(request_to(server.url.replace("127.0.0.1", "127.0.0.2")))
        assert not may_have_acted(wrong_name)


def test_a_certificate_nobody_vouches_for_is_refused_before_the_request(
    transport_with: MakeTransport, authority: Authority
) -> None:
    with serving_tls(authority, lambda sock: server.read_request(sock)) as server:
        end = transport_with().post(request_to(server.url))
    assert isinstance(end, Answer)
    assert "certificate" in (end.error or "")
    assert not may_have_acted(end)
    assert server.received == b""


def test_a_name_the_certificate_does_not_hold_is_refused(transport_with: MakeTransport, authority: Authority) -> None:
    transport = transport_with(ca_bundle=authority.bundle)
    with serving_tls(authority, lambda sock: server.read_request(sock)) as server:
        end = transport.post(request_to(f"https://ip6-localhost.localhost:{server.port}/token"))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)
    assert server.received == b""


@pytest.mark.parametrize("content", ["", "no certificate", None])
def test_a_bundle_that_cannot_be_read_sends_nothing(
    transport_with: MakeTransport, authority: Authority, tmp_path: Path, content: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    with serving_tls(authority, lambda sock: server.read_request(sock)) as server:
        end = transport_with(ca_bundle=bundle).post(request_to(server.url))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)
    assert server.accepted == 0


def test_a_tls_connection_that_fails_after_the_request_may_have_acted(
    transport_with: MakeTransport, authority: Authority
) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        server.read_request(sock)
        plain = socket.socket(fileno=os.dup(sock.fileno()))
        with plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)  # a record with a wrong tag
            time.sleep(0.05)

    with serving_tls(authority, talk) as server:
        end = transport_with(ca_bundle=authority.bundle).post(request_to(server.url))
    assert isinstance(end, Answer)
    assert may_have_acted(end)
    assert BODY in server.received


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
def test_a_drip_under_tls_ends_at_the_limit_and_what_came_is_kept(
    transport_with: MakeTransport, authority: Authority, closing: bytes
) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + closing + b"Content-Length: 100000\r\n\r\n")
        forever(sock, b"x")

    with serving_tls(authority, talk) as server, within(SECONDS + SLACK):
        raw = transport_with(ca_bundle=authority.bundle, exchange_seconds=SECONDS).post(request_to(server.url))
    assert isinstance(raw, RawAnswer)
    assert raw.body.strip(b"x") == b""


# Nothing ambient


def test_a_hostile_environment_has_no_effect(
    transport_with: MakeTransport, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\n")
    netrc.chmod(0o600)
    keys = tmp_path / "session-keys"
    with serving(Response(200, b"proxy")) as proxy, serving_tls(authority, talk) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(authority.bundle))
        untrusting = transport_with()
        refused = untrusting.post(request_to(server.url))
        assert isinstance(refused, Answer)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(netrc))
        trusting = transport_with(ca_bundle=authority.bundle)
        assert isinstance(trusting.post(request_to(server.url)), RawAnswer)
        with serving(Response(200, PAIR)) as plain:
            assert isinstance(untrusting.post(request_to(plain.url)), RawAnswer)
            assert "authorization" not in plain.requests[0].headers
        assert proxy.requests == []
    assert b"uthorization" not in server.received
    assert not keys.exists()


class Tunnel:
    """A proxy that is asked to CONNECT and passes bytes on to `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[bytes] = []

    def talk(self, sock: socket.socket) -> None:
        self.asked.append(sock.recv(65_536))
        with socket.create_connection(("127.0.0.1", self.port)) as onward:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pass, args=(onward, sock), daemon=True)
            back.start()
            self._pass(sock, onward)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65_536):
                target.sendall(part)


def test_a_proxy_is_used_where_the_setting_names_it(transport_with: MakeTransport, authority: Authority) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        server.read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with serving_tls(authority, talk) as server:
        tunnel = Tunnel(server.port)
        with RawServer(tunnel.talk) as proxy:
            address = f"http://user:pass@127.0.0.1:{proxy.port}"
            transport = transport_with(proxy=address, ca_bundle=authority.bundle)
            raw = transport.post(request_to("https://localhost/token"))
    assert isinstance(raw, RawAnswer)
    [asked] = tunnel.asked
    assert asked.startswith(b"CONNECT localhost:443 ")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in asked
    assert b"roxy-" not in server.received


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 502 No\r\n\r\n", b"nonsense\r\n\r\n", b""])
def test_a_proxy_that_refuses_means_that_nothing_happened(transport_with: MakeTransport, answer: bytes) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(answer)

    with RawServer(talk) as proxy:
        end = transport_with(proxy=f"http://127.0.0.1:{proxy.port}").post(request_to("https://acme.example/token"))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)


def test_a_proxy_that_cannot_be_reached_means_that_nothing_happened(transport_with: MakeTransport) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    end = transport_with(proxy=proxy).post(request_to("https://acme.example/token"))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)


def test_a_token_in_the_query_of_a_get_is_in_no_log_of_the_host_program(
    transport_with: MakeTransport, caplog: pytest.LogCaptureFixture
) -> None:
    """Instagram's refresh is a GET, and a program may log all that its libraries say; its own requests stay there."""
    caplog.set_level(logging.DEBUG)
    with serving(Response(200, PAIR)) as server:
        request = replace(request_to(f"{server.url}/refresh"), method="GET", body=b"access_token=token-in-the-query")
        assert isinstance(transport_with().post(request), RawAnswer)
        assert list(server.requests[0].query) == [("access_token", "token-in-the-query")]
        assert "token-in-the-query" not in caplog.text
        requests.get(f"{server.url}/of-the-host", timeout=10)
    assert "/of-the-host" in caplog.text
