"""Where a provider sends a person back to: a loopback address that is served here, or one of the operator's own."""

from __future__ import annotations

from urllib.parse import urlsplit

from providers.addresses import is_loopback
from providers.base import Provider
from token_refresh.base.errors import ActionableError, Kind

USUAL_PORT = 8765  # where the provider takes only the port that was entered there
PATH = "/callback"
_LOOPBACK = ("127.0.0.1", "localhost")


class RedirectError(ActionableError):
    """A redirect URI that cannot be used."""

    kind = Kind.USAGE


def loopback_redirect(provider: Provider, given: str) -> str | None:
    """The loopback address that the callback comes to; None where it cannot come to this machine.

    A port of 0 stands for any free one. Args: `given`, what the person or the row names; empty for the usual.
    """
    if given:
        parts = urlsplit(given)
        return given if parts.scheme == "http" and is_loopback(parts.hostname or "") else None
    host = provider.login.redirect
    if host not in _LOOPBACK:
        return None
    return f"http://{host}:{0 if provider.login.any_port else USUAL_PORT}{PATH}"


def check_redirect(uri: str) -> None:
    """Whether it can be a redirect URI (RFC 6749 section 3.1.2, RFC 8252 section 7.3).

    Raises:
        RedirectError: it cannot.
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise RedirectError("the redirect URI is no address", "Write it as it is entered at the provider.") from None
    is_plain = uri.isascii() and uri.isprintable() and not parts.fragment and "@" not in parts.netloc and " " not in uri
    if not host or not is_plain or parts.port == 0:
        raise RedirectError(
            "the redirect URI is no address without user and fragment", "Write it as it is entered at the provider."
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise RedirectError(
            "the redirect URI is neither https nor a loopback address", "Write https://HOST/PATH, as at the provider."
        )


def redirect_hint(provider: Provider) -> str:
    """What to enter as the redirect URI in the app's settings at the provider; empty where there is no login."""
    if provider.authorize_url is None:
        return ""
    if provider.login.redirect in _LOOPBACK:
        port = "" if provider.login.any_port else f":{USUAL_PORT}"
        return f"http://{provider.login.redirect}{port}{PATH}"
    if provider.login.redirect == "name":
        return "the name that the provider gives to a page of yours; its address line is pasted back"
    return "https://YOUR-SITE/callback (any page of yours; its address line is pasted back)"
