"""Which hosts may be called, over real sockets on loopback."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import replace

import pytest

from providers.base import Answer, Endpoint, RawAnswer
from tests.net.loopback import (
    PAIR,
    SECONDS,
    SLACK,
    MakeTransport,
    is_refused_as_private,
    may_have_acted,
    request_to,
    serving,
    swallow,
    within,
)
from tests.world.http import Response
from tests.world.raw import RawServer
from token_refresh.net.hosts import HostNotAllowedError, is_agreed, require_agreement
from token_refresh.net.transport import HTTPTransport

# Who agreed


@pytest.mark.parametrize(
    ("origin", "allowed", "is_allowed"),
    [
        ("https://acme.example", "acme.example", True),
        ("https://acme.example", "ACME.example", True),
        ("https://acme.example:8443", "acme.example:8443", True),
        ("https://acme.example:8443", "acme.example", False),
        ("https://acme.example", "acme.example:8443", False),
        ("https://evil.acme.example", "acme.example", False),
        ("https://acme.example.evil", "acme.example", False),
        ("https://[::1]:8443", "[::1]:8443", True),
    ],
)
def test_a_host_that_is_agreed_to_is_that_host_and_port_alone(origin: str, allowed: str, is_allowed: bool) -> None:
    endpoint = Endpoint(f"{origin}/token", origin, is_fixed=False)
    assert is_agreed(endpoint, [allowed]) == is_allowed
    if is_allowed:
        require_agreement(endpoint, [allowed])
        return
    with pytest.raises(HostNotAllowedError, match=f"would go to {re.escape(origin)}, which nobody has allowed") as told:
        require_agreement(endpoint, [allowed])
    assert f"--allow-host {origin.removeprefix('https://')}" in told.value.action
    assert is_agreed(replace(endpoint, is_fixed=True), [])


# Public addresses

SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "2130706433",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "127.1",
    "0.0.0.0",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [*SPELLINGS, "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"])
def test_a_host_of_the_row_that_is_this_machine_gets_not_one_byte(
    transport: HTTPTransport, scheme: str, host: str
) -> None:
    with RawServer(lambda sock: swallow(server)(sock)) as server:
        end = transport.post(request_to(f"{scheme}://{host}:{server.port}/token", fixed=False))
        time.sleep(0.02)
    assert is_refused_as_private(end)
    assert server.received == b""


def test_the_ipv6_loopback_gets_not_one_byte_either(transport: HTTPTransport) -> None:
    try:
        server = RawServer(lambda sock: swallow(server)(sock), socket.AF_INET6).__enter__()
    except OSError:
        pytest.skip("this machine has no IPv6")
    for scheme in ("http", "https"):
        end = transport.post(request_to(f"{scheme}://[::1]:{server.port}/token", fixed=False))
        assert is_refused_as_private(end)
    server.__exit__()
    assert server.received == b""


# A host as it may stand in a row: from what a resolver would read as this machine
# to what two readers of an address read differently.
HOSTILE_HOSTS = [
    *SPELLINGS, "127.0.0.2", "127.000.000.001", "0", "00000177.1", "0x7f.0x0.0x0.0x1", "017700000001",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2001::1]", "[fe80::1%25lo]", "[fe80::1%lo]",
    "[fd00::1]", "[ff02::1]", "localhost.", "LOCALHOST", "x.localhost", "127.0.0.1.",
    "user@127.0.0.1", "user:pass@127.0.0.1", "acme.example@127.0.0.1", "127.0.0.1:0@127.0.0.1", "127.0.0.1%23",
    "acme.example#@127.0.0.1", "acme.example\\@127.0.0.1", "acme.example\t@127.0.0.1", "%31%32%37.0.0.1", "127%2e0.0.1",
    "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1", "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "169.254.169.254", "[fd00:ec2::254]", "100.64.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "192.88.99.1",
]  # fmt: skip


@pytest.mark.by_turns("scheme")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTILE_HOSTS, ids=ascii)
def test_a_hostile_host_of_a_row_is_sent_nothing(hasty: HTTPTransport, scheme: str, host: str) -> None:
    with RawServer(lambda sock: swallow(server)(sock)) as server:
        end = hasty.post(request_to(f"{scheme}://{host}:{server.port}/token", fixed=False))
        assert isinstance(end, Answer)
        assert not may_have_acted(end)
        assert server.received == b""


@pytest.mark.parametrize("port", ["0", "65536", "-1", "", "99999999", "8O"])
def test_a_port_that_is_none_is_sent_nothing(transport: HTTPTransport, port: str) -> None:
    end = transport.post(request_to(f"http://127.0.0.1:{port}/token", fixed=False))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "[fd00::1]", "192.168.0.1"])
def test_a_private_address_that_may_not_even_exist_is_never_answered(hasty: HTTPTransport, host: str) -> None:
    with within(SECONDS + SLACK):
        end = hasty.post(request_to(f"http://{host}:1/token", fixed=False))
    assert isinstance(end, Answer)
    assert not may_have_acted(end)


def test_a_connection_kept_from_a_fixed_host_is_no_way_around(transport: HTTPTransport) -> None:
    with serving(Response(200, PAIR)) as server:
        assert isinstance(transport.post(request_to(server.url)), RawAnswer)
        end = transport.post(request_to(server.url, fixed=False))
        assert is_refused_as_private(end)
        assert len(server.requests) == 1
        assert isinstance(transport.post(request_to(server.url)), RawAnswer)


@pytest.mark.parametrize(("listed", "host"), [("127.0.0.1", "127.0.0.1"), ("localhost", "LOCALHOST")])
def test_a_listed_private_host_is_reached_with_the_port_that_is_listed(
    transport_with: MakeTransport, listed: str, host: str
) -> None:
    with serving(Response(200, PAIR)) as server:
        url = f"http://{host}:{server.port}/token"
        transport = transport_with(private_hosts=frozenset({f"{listed}:{server.port}"}))
        assert isinstance(transport.post(request_to(url, fixed=False)), RawAnswer)
        for entry in (listed, f"{listed}:{server.port + 1}", f"{listed}.example", "acme.example"):
            transport = transport_with(private_hosts=frozenset({entry}))
            assert isinstance(transport.post(request_to(url, fixed=False)), Answer)
        assert len(server.requests) == 1


IN_NO_PUBLIC_PLACE = [
    *SPELLINGS, "127.0.0.2", "127.0.0.1.", "localhost.", "LOCALHOST", "x.localhost", "x.localhost.", "10.0.0.1",
    "[::1]", "[::127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:0:10.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b:1::a00:1]",
    "[2002:a00:1::]", "[2001:0:a00:1::]", "[fe80::1%25eth0]", "[fec0::1]", "[fd00::1]", "[ff02::1]", "224.0.0.1",
    "%31%32%37.0.0.1", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
]  # fmt: skip


@pytest.mark.parametrize("host", IN_NO_PUBLIC_PLACE, ids=ascii)
def test_a_proxy_is_no_way_to_a_private_address(transport_with: MakeTransport, host: str) -> None:
    with RawServer(lambda sock: swallow(proxy)(sock)) as proxy:
        transport = transport_with(proxy=f"http://127.0.0.1:{proxy.port}")
        end = transport.post(request_to(f"https://{host}/token", fixed=False))
        assert is_refused_as_private(end)
        plain = transport.post(request_to(f"http://127.0.0.1:{proxy.port}/token", fixed=False))
        assert is_refused_as_private(plain)
    assert proxy.received == b""


def test_a_proxy_is_asked_for_a_public_host_of_the_row(transport_with: MakeTransport) -> None:
    with RawServer(lambda sock: proxy.read_request(sock)) as proxy:  # and hangs up
        transport = transport_with(proxy=f"http://127.0.0.1:{proxy.port}")
        transport.post(request_to("https://acme.example/token", fixed=False))
    assert proxy.received.startswith(b"CONNECT acme.example:443 ")
