"""Whether an endpoint answers, and our clock against a provider's."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from tests.world.clock import START, FakeClock
from tests.world.raw import RawServer
from token_refresh.base.checks import BAD, GOOD
from token_refresh.diagnosis.endpoints import check_clock, check_endpoints
from token_refresh.net.tls import NO_CERTIFICATES


@pytest.mark.parametrize(("seconds", "state"), [(-61, BAD), (-59, GOOD), (59, GOOD), (61, BAD)])
def test_a_minute_this_way_or_that_is_no_fault_of_a_clock(seconds: int, state: str) -> None:
    assert check_clock(START, START + timedelta(seconds=seconds)).state == state


@pytest.mark.parametrize(
    ("date", "states"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", [GOOD, GOOD]),
        ("Sun, 01 Mar 2026 12:00:00 -0000", [GOOD, GOOD]),  # RFC 5322 section 3.3: UTC, of an unknown zone
        ("Sun, 01 Mar 2026 13:00:00 GMT", [GOOD, BAD]),
        ("yesterday", [GOOD]),
        ("", [GOOD]),
    ],
)
def test_the_time_that_an_endpoint_tells_is_read_where_it_is_one(
    date: str, states: list[str], clock: FakeClock
) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)
        head = f"Date: {date}\r\n" if date else ""
        sock.sendall(f"HTTP/1.1 404 Not Found\r\n{head}Content-Length: 0\r\n\r\n".encode())

    with RawServer(talk) as server:
        found = list(check_endpoints({server.url: "Acme"}, clock, None, None))
    assert [one.state for one in found] == states


def test_where_nobody_can_be_trusted_the_endpoint_is_not_asked_and_the_reason_said(
    clock: FakeClock, tmp_path: Path
) -> None:
    def talk(sock: socket.socket) -> None:
        server.read_request(sock)

    with RawServer(talk) as server:
        url = server.url.replace("http:", "https:")
        [found] = check_endpoints({url: "Acme"}, clock, None, tmp_path / "missing.pem")
        assert server.accepted == 0
    assert (found.state, found.message) == (BAD, f"Acme cannot be reached: {NO_CERTIFICATES}")
