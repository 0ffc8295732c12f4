"""Who is trusted under TLS: the one place that decides it for all our requests."""

from __future__ import annotations

import ssl
import threading
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from token_refresh.base.errors import ActionableError, Kind

NO_CERTIFICATES = "CA_BUNDLE holds no certificates that can be read"


class CertificatesError(ActionableError):
    """Nobody could be trusted; nothing was sent."""

    kind = Kind.CONFIGURATION


def client_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """A context that checks certificate and host name, against `ca_bundle` or else the public authorities.

    Nothing of the environment counts. Not urllib3's own context, which would write session keys to the file that
    `SSLKEYLOGFILE` names: whoever can set a variable of ours could read all that we send.

    Raises:
        CertificatesError: the bundle cannot be read, or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    except OSError:
        raise CertificatesError(NO_CERTIFICATES, "Correct the path, or the file.") from None
    return context


class Adapter(HTTPAdapter):
    """Trusts whom `client_context` trusts, whatever requests would take from elsewhere; never sends again by itself.

    Args:
        ca_bundle: see `client_context`.
        connections: how many threads use it.
    """

    def __init__(self, ca_bundle: Path | None, connections: int) -> None:
        self._ca_bundle = ca_bundle
        self._context: ssl.SSLContext | None = None
        self._context_lock = threading.Lock()
        super().__init__(pool_connections=connections, pool_maxsize=connections, max_retries=0)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See `HTTPAdapter`. A proxy that is reached by https is checked like the host behind it."""
        return super().proxy_manager_for(*args, proxy_ssl_context=self.context(), **kwargs)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> Any:
        """See `HTTPAdapter`."""
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self.context()}

    def cert_verify(self, *_: Any) -> None:
        """Nothing to add: the context knows whom to trust."""

    def context(self) -> ssl.SSLContext:
        """The context of all its connections; certificates are read once. Raises like `client_context`."""
        with self._context_lock:
            if self._context is None:
                self._context = client_context(self._ca_bundle)
            return self._context


class _Session(requests.Session):
    def get_redirect_target(self, _: Any) -> None:
        """None: for a target requests would read the whole body, without limit, though nobody follows it."""


def make_session(adapter: BaseAdapter, proxy: str | None = None) -> requests.Session:
    """A session with nothing ambient: no .netrc, no proxy or trust of the environment, no cookies, no redirects.

    Args:
        adapter: sends all its requests.
        proxy: `https://…` proxy for requests by https.
    """
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.proxies = {"https": proxy} if proxy else {}
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
