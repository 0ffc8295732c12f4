"""Who is trusted under TLS: the one place that makes a context for our requests."""

from __future__ import annotations

import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH


def client_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """A context that checks certificate and host name, against `ca_bundle` or else the public authorities.

    Nothing of the environment counts. Not urllib3's own context, which would write session keys to the file that
    `SSLKEYLOGFILE` names: whoever can set a variable of ours could read all that we send.

    Raises:
        OSError: the bundle cannot be read, or holds no certificate (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    return context
