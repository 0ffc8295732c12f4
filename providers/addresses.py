"""Where a provider's addresses lead: placeholders filled in strictly, and one spelling for each host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from token_refresh.base.errors import ActionableError, Kind

CLIENT_ID = "client_id"  # in braces, it is that of whoever asks
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PLACEHOLDER_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_FIRST_PAGE = re.compile(rf"(?i:https?://)?{_PLACEHOLDER_VALUE.pattern}(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# Stricter than RFC 3986: two readers of an address must never see two hosts in it. Other alphabets go as punycode.
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"[!-~]+")
_NOT_IN_ADDRESS = re.compile(r"[?#\\{}]")


class ProviderError(ActionableError):
    """A row or a catalogue entry cannot be used with its provider."""

    kind = Kind.ROW


@lru_cache(256)  # of thousands of rows
def origin_of(url: str) -> str:
    """`https://host[:port]` of an address, lower case, without the scheme's default port.

    Raises:
        ProviderError: it is no https address (http on loopback) of a host alone: no user, query or fragment.
    """
    try:
        parts = urlsplit(url)
        host, port = _host_of(parts.hostname or ""), parts.port
    except ValueError:
        host, port = "", None
        parts = urlsplit("")
    plain = "@" not in parts.netloc and _ADDRESS.fullmatch(url) and not _NOT_IN_ADDRESS.search(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK_HOSTS)
    if not host or not plain or not secure:
        raise ProviderError(
            "the token endpoint is not a plain https address", "Correct the provider's address or the row's parameters."
        )
    shown = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}[parts.scheme]
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, default) else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, whatever a name server says."""
    return host in _LOOPBACK_HOSTS


def placeholders_in(text: str) -> list[str]:
    """The names that stand in braces."""
    return _PLACEHOLDER.findall(text)


def _host_of(name: str) -> str:
    """One spelling for each host: lower case, no final dot, the short form of IPv6. Raises `ValueError`."""
    if ":" in name and "%" not in name:
        return ipaddress.IPv6Address(name).compressed
    name = name.removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("no host name")
    return name


def authority_of(template: str) -> str:
    """The part of an address between `//` and the path, placeholders unfilled."""
    return template.partition("://")[2].partition("/")[0] if "://" in template else template


def fill(template: str, values: Mapping[str, str | None], name: str) -> str:
    """An address with its placeholders filled in; each must have a value that can stand there.

    Raises:
        ProviderError: one has none, or another sort of text; `name` is the provider's, for the message.
    """
    values = {placeholder: value or None for placeholder, value in values.items()}  # nothing is optional here
    for placeholder in placeholders_in(template):
        value, form = values.get(placeholder), _PLACEHOLDER_VALUE
        if value is not None and f"://{{{placeholder}}}/" in template:  # a host, perhaps with a path
            form, value = _FIRST_PAGE, value.rstrip("/")
            values[placeholder] = value.rpartition("://")[2]
        if value is not None and not form.fullmatch(value):
            raise ProviderError(
                f"the row's provider_params name a {placeholder} that cannot stand in an address",
                f"Write only the {placeholder} itself, such as a host name.",
            )
    return fill_text(template, values, name)


def fill_text(template: str, values: Mapping[str, str | None], name: str) -> str:
    """Any text with its placeholders filled in. Raises `ProviderError` where one has no value."""

    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            raise ProviderError(
                f"{name} needs {match[1]}, which the row does not name",
                f'Put {{"{match[1]}": "…"}} into the row\'s provider_params.',
            )
        return value

    return _PLACEHOLDER.sub(value_of, template)
