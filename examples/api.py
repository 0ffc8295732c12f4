"""What the examples share: an API that is called with a token of this program, and that may ask for patience."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import requests

from token_manager import TokenError, TokenManager

TIMEOUT_SECONDS = (10, 60)
ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 300.0


class ApiError(Exception):
    """The API does not do what was asked; the sentence says why."""


def address(name: str, default: str) -> str:
    """Where an API is: this environment variable, else the usual place."""
    return os.environ.get(name) or default


def access_token(location_id: str, provider: str) -> Callable[[], str]:
    """What gives the location's valid access token."""
    manager = TokenManager.from_settings()
    return lambda: manager.get_valid_access_token(location_id, provider)


class Api:
    """An HTTP API below one address; the token goes nowhere else.

    Args:
        base: its address, such as `https://graph.microsoft.com/v1.0`.
        token: gives a valid access token.
        sleep: waits.
    """

    def __init__(self, base: str, token: Callable[[], str], sleep: Callable[[float], None] = time.sleep) -> None:
        self._base = base.rstrip("/") + "/"
        self._get_token = token
        self._token = token()
        self._sleep = sleep
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc would replace the token, and a proxy might see it

    def get(self, path: str, params: dict[str, Any] | None = None) -> requests.Response:
        """Ask; `path` may be the whole address of a next page.

        Raises:
            ApiError: it is refused, or leads elsewhere.
        """
        return self._send("GET", path, params=params)

    def post(self, path: str, content: Any) -> requests.Response:
        """Send JSON; see `get`."""
        return self._send("POST", path, json=content)

    def _send(self, method: str, path: str, **more: Any) -> requests.Response:
        url = urljoin(self._base, path)
        if not url.startswith(self._base):
            raise ApiError("the next page is at another address; the token is not sent there")
        for _ in range(ATTEMPTS):
            headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
            answer = self._session.request(
                method, url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, **more
            )
            if not self._is_worth_another(answer):
                break
        if answer.ok and not answer.is_redirect:
            return answer
        raise ApiError(f"{method} {url.partition('?')[0]}: HTTP {answer.status_code}")

    def _is_worth_another(self, answer: requests.Response) -> bool:
        if answer.status_code == requests.codes.too_many:
            waits = answer.headers.get("Retry-After", "1")
            self._sleep(min(float(waits) if waits.isdecimal() else 1.0, LONGEST_WAIT_SECONDS))
            return True
        if answer.status_code == requests.codes.unauthorized:
            # The token ran out meanwhile, or a refresh ended it early; if it is still the newest, it is at fault.
            old, self._token = self._token, self._get_token()
            return self._token != old
        return False


def run(act: Callable[[], None]) -> int:
    """The exit code of an example; what went wrong is one sentence on stderr."""
    try:
        act()
    except TokenError as error:
        said = f"{error}. {error.action}"
    except ApiError as error:
        said = str(error)
    except requests.RequestException as error:
        said = f"no answer: {type(error).__name__}"  # its message may carry what was sent
    else:
        return 0
    print(said, file=sys.stderr)
    return 1
