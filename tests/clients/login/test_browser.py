"""Onboarding by login from end to end: a person at a terminal, a real browser, and the certified OAuth server.

The server is described by `providers --discover` alone, as an operator would do it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from crypto import Context, is_sealed
from tests.conftest import World
from tests.world.browser import Browser, missing
from tests.world.oidc_provider import OIDCProvider, oidc_provider
from tests.world.ports import free_port
from tests.world.terminal import TerminalProcess, paste

pytestmark = pytest.mark.long

PROVIDER = "127-0-0-1"  # as `--discover` names it
ADDRESS = re.compile(r"http://\S+\?response_type=code\S+")


@dataclass(frozen=True)
class Scene:
    """The program, which knows the server as a provider of a PROVIDERS_FILE, and a person's browser.

    Attributes:
        secrets: tokens, codes and states that were seen; whatever the program prints and keeps is searched for them.
    """

    world: World
    server: OIDCProvider
    browser: Browser
    secrets: list[str]

    @contextmanager
    def login(self, *flags: str, redirect_uri: str = "") -> Iterator[TerminalProcess]:
        """`onboard_client.py --authorize`, with what it asks for answered up to the login."""
        argv = ("--authorize", "--provider", PROVIDER, "--location", "loc", "--scope", "openid")
        with self.world.program.at_terminal(*argv, *flags, script="onboard_client.py") as terminal:
            terminal.answer("Client id", self.server.login.client_id)
            terminal.answer("Client secret", self.server.login.client_secret)
            if redirect_uri:
                terminal.answer("Redirect URI", redirect_uri)
            yield terminal

    def sign_in(self) -> None:
        """On the server's page."""
        self.browser.fill("[name=login]", self.server.account)
        self.browser.fill("[name=password]", "any")
        self.browser.click("Sign-in")

    def stored(self) -> tuple[str, str]:
        """The row's refresh token and access token."""
        row, keyring = self.world.rows()["loc"], self.world.program.keyring
        pair = [
            keyring.open(row[column], Context(column, "loc", self.server.url))
            if is_sealed(row[column])
            else row[column]
            for column in ("encrypted_refresh", "last_access_token")
        ]
        self.secrets.extend(pair)
        return pair[0], pair[1]

    def address_in(self, terminal: TerminalProcess) -> str:
        """What the person opens."""
        terminal.expect("agree:")
        terminal.expect("Paste the address")
        found = ADDRESS.search(terminal.transcript)
        assert found is not None, terminal.transcript
        self.secrets.extend(parse_qs(urlsplit(found[0]).query)["state"])
        return found[0]

    def is_live(self, access_token: str) -> bool:
        """Whether the server's own userinfo endpoint takes it."""
        headers = {"Authorization": f"Bearer {access_token}"}
        answer = requests.get(self.server.userinfo_endpoint, headers=headers, timeout=10)
        return answer.status_code == 200 and answer.json() == {"sub": self.server.account}

    def kept(self) -> str:
        """The row as text; empty where there is none."""
        return json.dumps(self.world.rows(), default=str)


@pytest.fixture(scope="module")
def server() -> Iterator[OIDCProvider]:
    with oidc_provider() as running:
        yield running


@pytest.fixture
def scene(world: World, server: OIDCProvider, tmp_path: Path) -> Iterator[Scene]:
    if (told := missing()) and "CI" not in os.environ:
        pytest.skip(told)
    assert not told, told
    found = world.program.spawn("providers", "--discover", server.url)
    assert found.code == 0, found.err
    own = tmp_path / "discovered.toml"
    own.write_text(found.out)
    world.program.settings["PROVIDERS_FILE"] = str(own)
    planted, secrets = world.program.planted, [server.login.client_secret]
    world.program.planted = lambda: [*planted(), *secrets]
    with Browser(tmp_path / "profile") as browser:
        yield Scene(world, server, browser, secrets)


def assert_saved(scene: Scene, terminal: TerminalProcess) -> None:
    terminal.expect("loc is saved")
    assert terminal.end() == 0
    assert scene.world.journalled() == []
    assert scene.is_live(scene.world.program.spawn("get", "loc").out.strip())


def assert_refreshes_ten_times_and_ends_with_revoke(scene: Scene) -> None:
    pairs = [scene.stored()]
    for _ in range(10):
        run = scene.world.program.spawn("--all", "--json")
        assert run.outcomes() == {"loc": "refreshed"}, run.err
        pairs.append(scene.stored())
        assert scene.is_live(pairs[-1][1])
    assert len({token for pair in pairs for token in pair}) == 22
    assert scene.world.program.spawn("revoke", "loc", "--yes").code == 0
    assert not scene.is_live(pairs[-1][1])


def test_the_server_refuses_a_login_without_pkce(scene: Scene) -> None:
    """Else none of these would show that the program has it."""
    with scene.login(redirect_uri=scene.server.login.redirect_uris[1]) as terminal:
        address = re.sub(r"&code_challenge(?:_method)?=[^&]*", "", scene.address_in(terminal))
        answer = requests.get(address, timeout=10, allow_redirects=False)
        assert "PKCE" in parse_qs(urlsplit(answer.headers["Location"]).query)["error_description"][0]


def test_a_login_on_this_machine_is_saved_refreshes_ten_times_and_ends_with_revoke(scene: Scene) -> None:
    with scene.login(redirect_uri=f"http://127.0.0.1:{free_port()}/callback") as terminal:
        scene.browser.open(scene.address_in(terminal))
        scene.sign_in()
        scene.browser.click("Continue")
        scene.browser.wait_for("You are logged in")
        assert urlsplit(scene.browser.address)[2:] == ("/callback/done", "", "")
        assert [one for one in scene.browser.history() if "code" in parse_qs(urlsplit(one).query)] == []
        assert_saved(scene, terminal)
    assert_refreshes_ten_times_and_ends_with_revoke(scene)


def test_the_address_line_of_a_page_that_is_not_there_is_pasted_back_and_its_code_is_nowhere(scene: Scene) -> None:
    redirect_uri = scene.server.login.redirect_uris[1]
    with scene.login(redirect_uri=redirect_uri) as terminal:
        scene.browser.open(scene.address_in(terminal))
        scene.sign_in()
        scene.browser.click("Continue")
        scene.browser.wait_for("code=")
        line = scene.browser.address
        assert line.startswith(f"{redirect_uri}?")
        terminal.type(paste(line) + "\r")
        assert_saved(scene, terminal)
        [code] = parse_qs(urlsplit(line).query)["code"]
        assert code not in terminal.transcript + scene.kept()
        scene.secrets.append(code)
    assert_refreshes_ten_times_and_ends_with_revoke(scene)


def test_a_code_is_entered_on_another_device(scene: Scene) -> None:
    with scene.login("--device") as terminal:
        terminal.expect("enter this code: ")
        terminal.expect("\n")
        found = re.search(r"open (\S+) and enter this code: (\S+)", terminal.transcript)
        assert found is not None, terminal.transcript
        scene.browser.open(found[1])
        scene.browser.fill("[name=user_code]", found[2])
        scene.browser.click("Continue")
        scene.browser.wait_for(found[2])
        scene.browser.click("Continue")
        scene.sign_in()
        scene.browser.click("Continue")
        scene.browser.wait_for("Sign-in Success")
        assert_saved(scene, terminal)
    assert_refreshes_ten_times_and_ends_with_revoke(scene)


def test_a_consent_that_is_refused_stores_nothing_and_shows_the_words_of_the_server(scene: Scene) -> None:
    with scene.login(redirect_uri=f"http://127.0.0.1:{free_port()}/callback") as terminal:
        scene.browser.open(scene.address_in(terminal))
        scene.sign_in()
        scene.browser.wait_for("Authorize")
        scene.browser.click("Cancel")
        scene.browser.wait_for("The provider refused the login")
        terminal.expect("access_denied: End-User aborted interaction")
        assert terminal.end() == 1
    assert scene.world.rows() == {}
    assert scene.world.journalled() == []
