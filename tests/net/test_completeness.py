"""Whether an answer came whole, over real sockets: an announced length, a last chunk, or neither, cut anywhere."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Answer, Provider, RawAnswer
from tests.net.loopback import MEBIBYTE, PAIR, MakeTransport, may_have_acted, request_to, serving
from tests.world.http import Framing, Response
from tests.world.raw import RawServer
from token_refresh.net.transport import HTTPTransport

FORM = b"access_token=access-2&token_type=bearer&refresh_token=refresh-2"
ACME = Provider("acme", "Acme", "https://acme.example/token")
CALM_SECONDS = 10.0  # nothing hangs in these tests
UNHURRIED = settings(deadline=None)  # sockets, on a machine that may be busy
HEAD = b"HTTP/1.1 200 OK\r\n"
CLOSES = b"Connection: close\r\n"  # else the next request may go out before the end of the connection is seen


class Line:
    """A server that answers each request with what it is given, and hangs up where it is told so."""

    def __init__(self, transport: HTTPTransport) -> None:
        self._transport = transport
        self._answer, self._hangs_up = b"", True
        self.server = RawServer(self._talk)

    def _talk(self, sock: socket.socket) -> None:
        while True:
            self.server.read_request(sock)
            answer, hangs_up = self._answer, self._hangs_up  # the next are named as soon as this one has arrived
            sock.sendall(answer)
            if hangs_up:
                return

    def say(self, answer: bytes, *, hangs_up: bool = True) -> RawAnswer | Answer:
        self._answer, self._hangs_up = answer, hangs_up
        return self._transport.post(request_to(self.server.url))


@pytest.fixture
def calm(transport_with: MakeTransport) -> HTTPTransport:
    return transport_with(exchange_seconds=CALM_SECONDS)


def chunked(body: bytes, sizes: Sequence[int], extension: bytes, trailer: bytes) -> tuple[bytes, int]:
    """The body in chunks, and where the line of the last one ends."""
    wire, place = b"", 0
    for size in [*sizes, len(body)]:
        piece = body[place : place + size]
        place += len(piece)
        wire += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) if piece else b""
    wire += b"0"
    return wire + b"\r\n" + trailer + b"\r\n", len(wire)


bodies = st.sampled_from([b"", PAIR, FORM, b"<html>", json.dumps({"x": "y" * 3000}).encode()]) | st.binary(max_size=60)
packings = st.sampled_from([None, "gzip", "deflate"])


@st.composite
def framed(draw: st.DrawFn) -> tuple[bytes, bytes, bytes, int | None]:
    """A body, head and wire of its answer, and at how many bytes of the wire it has ended; None: it does not say."""
    body, packing = draw(bodies), draw(packings)
    packed = gzip.compress(body) if packing == "gzip" else zlib.compress(body) if packing else body
    head = HEAD + (f"Content-Encoding: {packing}\r\n".encode() if packing else b"")
    framing = draw(st.sampled_from(["length", "chunked", "1.1", "1.0"]))
    if framing == "length":
        return body, head + b"Content-Length: %d\r\n" % len(packed), packed, len(packed)
    if framing == "chunked":
        sizes = draw(st.lists(st.integers(1, 50), max_size=5))
        extension, trailer = draw(st.sampled_from([b"", b";a=b"])), draw(st.sampled_from([b"", b"X: y\r\n"]))
        wire, end = chunked(packed, sizes, extension, trailer)
        return body, head + b"Transfer-Encoding: chunked\r\n", wire, end
    head = head.replace(b"HTTP/1.1", b"HTTP/" + framing.encode())
    return body, head, packed, None


def test_an_answer_is_complete_exactly_where_its_announced_end_came(calm: HTTPTransport) -> None:
    line = Line(calm)

    @UNHURRIED
    @given(answer=framed(), data=st.data())
    def check(answer: tuple[bytes, bytes, bytes, int | None], data: st.DataObject) -> None:
        body, head, wire, end = answer
        cut = data.draw(st.just(len(wire)) | st.integers(0, len(wire)))
        raw = line.say(head + CLOSES + b"\r\n" + wire[:cut])
        assert isinstance(raw, RawAnswer)
        assert raw.is_complete == (end is not None and cut >= end)
        if raw.is_complete or cut == len(wire):
            assert raw.body == body
        elif b"Content-Encoding" not in head:
            assert body.startswith(raw.body)
        got = ACME.read_answer(raw)
        assert got.access_token in (None, "access-2")
        assert got.refresh_token in (None, "refresh-2")

    with line.server:
        check()


LENGTHS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["5, 6", "5, 5", "x", "", " 7 ", "+7", "0x7", "7.0", "1e3", "\u0667", "7;7"]),
)


def test_a_length_that_is_not_the_bodys_neither_raises_nor_reaches_into_the_next_answer(calm: HTTPTransport) -> None:
    line = Line(calm)
    own = b"Content-Length: 2\r\n\r\n{}"

    @UNHURRIED
    @given(length=LENGTHS)
    def check(length: str) -> None:
        ends_early = length.isascii() and length.strip().isdecimal() and int(length) <= len(PAIR)
        head = HEAD + b"Content-Length: " + length.encode() + b"\r\n" + (b"" if ends_early else CLOSES)
        end = line.say(head + b"\r\n" + PAIR, hangs_up=not ends_early)
        if isinstance(end, RawAnswer):
            assert PAIR.startswith(end.body)
            assert not end.is_complete or str(len(end.body)) in length
        else:
            assert may_have_acted(end)
        after = line.say(HEAD + CLOSES + own)
        assert isinstance(after, RawAnswer)
        assert (after.body, after.is_complete) == (b"{}", True)

    with line.server:
        check()


@pytest.mark.parametrize("name", ["Transfer-Encoding", "transfer-encoding"])
@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "chunked, chunked", "x"])
def test_a_coding_that_is_not_understood_does_not_make_an_answer_complete(
    calm: HTTPTransport, coding: str, name: str
) -> None:
    line = Line(calm)
    with line.server:
        end = line.say(HEAD + f"{name}: {coding}\r\nContent-Length: 2\r\n\r\n".encode() + b"2\r\n{}\r\n0\r\n\r\n")
    assert isinstance(end, Answer) or not end.is_complete


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_packed_form_that_breaks_off_inside_is_not_complete_though_its_length_is_right(
    calm: HTTPTransport, packing: str
) -> None:
    packed = gzip.compress(FORM) if packing == "gzip" else zlib.compress(FORM)
    for cut in range(len(packed)):
        with serving(Response(200, packed[:cut], {"Content-Encoding": packing})) as server:
            raw = calm.post(request_to(server.url))
        assert isinstance(raw, RawAnswer)
        answer = ACME.read_answer(raw)
        assert answer.access_token is None
        assert answer.refresh_token in (None, "refresh-2")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_what_is_longer_than_a_mebibyte_is_not_complete(calm: HTTPTransport, framing: Framing) -> None:
    for body, packing in ((b"x" * (MEBIBYTE + 1), ""), (gzip.compress(b"x" * (MEBIBYTE + 1)), "gzip")):
        with serving(Response(200, body, {"Content-Encoding": packing}, framing=framing)) as server:
            raw = calm.post(request_to(server.url))
        assert isinstance(raw, RawAnswer)
        assert (len(raw.body), raw.is_complete) == (MEBIBYTE, False)


# Interim answers (RFC 9110, section 15.2)


interim = st.builds(
    "HTTP/1.1 {} Interim\r\n{}\r\n".format,
    st.sampled_from([100, 101, 102, 103, 199]),
    st.sampled_from(["", "Link: </style.css>\r\n", "Content-Length: 40\r\n", "Transfer-Encoding: chunked\r\n"]),
)


def test_interim_answers_are_passed_over_and_never_answer_the_next_request(calm: HTTPTransport) -> None:
    before: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        for number in range(1000):
            server.read_request(sock)
            body = str(number % 10).encode() * 7
            sock.sendall(b"".join(before) + HEAD + b"Content-Length: 7\r\n\r\n" + body)

    server = RawServer(talk)
    asked: list[int] = []

    @UNHURRIED
    @given(storm=st.lists(interim, max_size=20))
    def check(storm: list[str]) -> None:
        before[:] = [one.encode() for one in storm]
        raw = calm.post(request_to(server.url))
        assert isinstance(raw, RawAnswer)
        assert (raw.status, raw.is_complete) == (200, True)
        assert raw.body == str(len(asked) % 10).encode() * 7
        asked.append(raw.status)

    with server:
        check()
    assert server.accepted == 1  # all over one connection, which an answer in the wrong place would show


# Headers


visible = st.text("".join(map(chr, [*range(32, 127), *range(160, 256)])), max_size=60)
NAMES = ("Retry-After", "Date", "Location", "Content-Type", "Content-Encoding", "Set-Cookie", "X-Other")


@pytest.mark.parametrize("status", [200, 302, 401, 429, 503])
def test_no_header_whatever_it_says_costs_the_body_or_makes_reading_fail(calm: HTTPTransport, status: int) -> None:
    line = Line(calm)

    @UNHURRIED
    @given(headers=st.dictionaries(st.sampled_from(NAMES), visible))
    def check(headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        head = b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n" % (status, len(FORM))
        raw = line.say(head + CLOSES + lines + b"\r\n" + FORM)
        assert isinstance(raw, RawAnswer)
        assert (raw.status, raw.body, raw.is_complete) == (status, FORM, True)
        answer = ACME.read_answer(raw)
        assert answer.refresh_token == ("refresh-2" if status == 200 else None)
        assert answer.retry_after is None or 0 <= answer.retry_after <= 86_400

    with line.server:
        check()
