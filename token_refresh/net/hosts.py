"""Which token hosts may be called: public ones, private ones that the settings list, and those somebody agreed to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlsplit

from token_refresh.base.errors import ActionableError, Kind

_DEFAULT_PORTS = {"https": 443, "http": 80}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last four bytes
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")


class PrivateAddressError(Exception):
    """The table supplied a host that is not on the public internet."""


def host_of(url: str) -> str:
    """The host of an address or origin, lower case; with `:port` where that is not the scheme's default."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return shown if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{shown}:{parts.port}"


# Who agreed


class Destination(Protocol):
    """Where a credential would be sent.

    Attributes:
        origin: `https://host`, lower case, `:port` where it is not the default.
        is_fixed: whether catalogue or settings name the host, which is consent enough.
    """

    @property
    def origin(self) -> str: ...

    @property
    def is_fixed(self) -> bool: ...


class HostNotAllowedError(ActionableError):
    """A row, a line or a caller names a token host itself, and whoever runs the program has not agreed to it."""

    kind = Kind.USAGE


def is_agreed(destination: Destination, agreed: Iterable[str]) -> bool:
    """Whether secrets may be sent there.

    Args:
        destination: where they would go.
        agreed: hosts that somebody has looked at; `host` stands for its default port alone, another one is listed as
            `host:port`, in any case.
    """
    return destination.is_fixed or host_of(destination.origin) in {host.strip().lower() for host in agreed}


def require_agreement(destination: Destination, agreed: Iterable[str]) -> None:
    """Let nothing be sent to a host that nobody agreed to.

    Raises:
        HostNotAllowedError: nobody did; see `is_agreed`.
    """
    if not is_agreed(destination, agreed):
        host = host_of(destination.origin)
        raise HostNotAllowedError(
            f"its secrets would go to {destination.origin}, which nobody has allowed",
            f"If that is right, repeat with --allow-host {host}; in a program, with allow_hosts=[{host!r}].",
        )


def agreement_question(destination: Destination) -> str:
    """What a person is asked instead."""
    return f"The client secret and the refresh token will be sent to {destination.origin}. Is that right?"


# Which addresses are public


def is_public(address: str) -> bool:
    """Whether an address is one host's on the public internet; of an IPv6 address that wraps an IPv4 one, that one's.

    Of IPv6 only 2000::/3 is given out (RFC 4291, section 2.4); the library calls multicast and more "global".
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        behind = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            behind = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if behind is None:
            return ip in _GIVEN_OUT and ip.is_global
        ip = behind
    return ip.is_global and not ip.is_multicast


def may_be_public(host: str) -> bool:
    """Whether a host may be on the public internet, without asking anybody: an address in any spelling, or a name.

    A name that two readers may read differently, by other alphabets or percent signs, is not believed.
    """
    host = host.removesuffix(".")
    if not host.isascii() or "%" in host:
        return False
    try:
        [(*_, address), *_] = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host != "localhost" and not host.endswith(".localhost")
    return is_public(str(address[0]))
