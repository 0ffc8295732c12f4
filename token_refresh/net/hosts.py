"""Which token hosts may be called: public ones, private ones that the settings list, and those somebody agreed to."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

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
