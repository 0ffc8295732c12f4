"""One library refreshing token after token in one thread, by its own call, on one session; nothing is stored.

Takes the library's name. Reads JSON from stdin: the token URL, client id, secret and refresh tokens.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import requests

Refresh = Callable[[str], Any]


def authlib(url: str, client_id: str, secret: str) -> Refresh:
    """Authlib's session for requests."""
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # the provider is on loopback
    from authlib.integrations.requests_client import OAuth2Session

    session = OAuth2Session(client_id, secret, token_endpoint_auth_method="client_secret_post")
    return lambda token: session.refresh_token(url, refresh_token=token)["access_token"]


def requests_oauthlib(url: str, client_id: str, secret: str) -> Refresh:
    """The session of requests-oauthlib."""
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session(client_id)
    client = {"client_id": client_id, "client_secret": secret}
    return lambda token: session.refresh_token(url, refresh_token=token, **client)["access_token"]


def msal(url: str, client_id: str, secret: str) -> Refresh:
    """MSAL's application. It knows Microsoft's endpoints alone, so its session asks the provider in their place."""
    from msal import ConfidentialClientApplication

    authority = "https://login.microsoftonline.com/common"
    names = ("token_endpoint", "authorization_endpoint", "issuer")
    endpoints = {name: f"{authority}/{name}" for name in names}

    class Http:
        def __init__(self) -> None:
            self._session = requests.Session()

        def get(self, *_arguments: Any, **_options: Any) -> requests.Response:
            found = requests.Response()
            found.status_code, found._content = 200, json.dumps(endpoints).encode()
            return found

        def post(self, _url: str, **options: Any) -> requests.Response:
            return self._session.post(url, **options)

    application = ConfidentialClientApplication(
        client_id, secret, authority=authority, instance_discovery=False, http_client=Http()
    )
    return lambda token: application.acquire_token_by_refresh_token(token, ["read"])["access_token"]


LIBRARIES = {"Authlib": authlib, "requests-oauthlib": requests_oauthlib, "MSAL": msal}


def main() -> None:
    """Refresh them all; a refusal ends it."""
    work = json.load(sys.stdin)
    refresh = LIBRARIES[sys.argv[1]](work["url"], work["client_id"], work["client_secret"])
    for token in work["tokens"]:
        refresh(token)


if __name__ == "__main__":
    main()
