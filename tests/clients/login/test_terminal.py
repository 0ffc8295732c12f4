"""A client is added by logging in, as a person does it: a terminal, a browser, and a provider that asks for consent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.conftest import World
from tests.world.terminal import TerminalProcess

ADDRESS = re.compile(r"http://\S+\?response_type=code\S+")


@pytest.fixture
def google(world: World) -> World:
    """Google at the fake, whose loopback redirect may have any port."""
    world.program.settings["GOOGLE_AUTH_URL"] = world.oauth.endpoint("google", "authorize")
    world.oauth.add_client("google", "app-google", "google secret", ["http://127.0.0.1/callback"])
    world.oauth.consent("google", location_id="loc")
    return world


@contextmanager
def login(world: World, *flags: str) -> Iterator[TerminalProcess]:
    with world.program.at_terminal("--authorize", "--no-browser", *flags, script="onboard_client.py") as terminal:
        yield terminal


def address_in(terminal: TerminalProcess) -> str:
    terminal.expect("agree:")
    terminal.expect("Paste the address")
    found = ADDRESS.search(terminal.transcript)
    assert found is not None, terminal.transcript
    return found[0]


def test_a_login_by_browser_stores_what_it_brought_and_refreshes_nothing(google: World) -> None:
    with login(google, "--provider", "google", "--location", "loc") as terminal:
        terminal.answer("Client id", "app-google")
        terminal.answer("Client secret", "google secret")
        terminal.answer("Scopes", "business.manage")
        page = requests.get(address_in(terminal), timeout=10)
        assert (page.status_code, page.url.partition("?")[0].rpartition("/")[2]) == (200, "done")
        assert "You are logged in" in page.text
        terminal.expect("loc is saved")
        assert terminal.end() == 0
    assert google.token_of("loc") == google.oauth.current("loc")
    assert google.oauth.violations == []
    assert [request.method for request in google.oauth.requests if request.path.endswith("/token")] == ["POST"]
