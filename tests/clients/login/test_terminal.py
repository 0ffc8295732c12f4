"""A client is added by logging in, as a person does it: a terminal, a browser, and a provider that asks for consent."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

import pytest
import requests

from tests.conftest import World
from tests.refresh.runs.faults_world import meanwhile
from tests.world.terminal import CTRL_C, TerminalProcess, paste

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
    browser = () if "--device" in flags else ("--no-browser",)
    with world.program.at_terminal("--authorize", *browser, *flags, script="onboard_client.py") as terminal:
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


def token_calls(world: World) -> int:
    return sum(request.path.endswith("/token") for request in world.oauth.requests)


def begun(terminal: TerminalProcess) -> str:
    """The address of a login whose questions are answered."""
    terminal.answer("Client id", "app-google")
    terminal.answer("Client secret", "google secret")
    terminal.answer("Scopes", "business.manage")
    return address_in(terminal)


def test_forged_callbacks_are_not_used_and_a_pasted_one_ends_the_wait(google: World) -> None:
    with login(google, "--provider", "google", "--location", "loc") as terminal:
        address = begun(terminal)
        callback = requests.get(address, timeout=10, allow_redirects=False).headers["Location"]
        uri, _, query = callback.partition("?")
        for forged in (f"{uri}?code=x&state=other", f"{uri}?{query}&state=other", f"{uri}/x?{query}"):
            assert requests.get(forged, timeout=10).status_code in (400, 404)
        assert requests.post(callback, timeout=10).status_code == 501
        terminal.answer("", paste(f"{uri}?code=x&state=other"))
        terminal.expect("the address answers another login")
        assert token_calls(google) == 0
        terminal.answer("Paste the address", paste(callback))
        terminal.expect("loc is saved")
        assert terminal.end() == 0
    code = dict(parse_qsl(query))["code"]
    assert code not in terminal.transcript
    assert token_calls(google) == 1


def test_ctrl_c_while_nobody_has_logged_in_ends_it_with_exit_4(google: World) -> None:
    with login(google, "--provider", "google", "--location", "loc") as terminal:
        address = begun(terminal)
        terminal.type(CTRL_C)
        assert terminal.end() == 4
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=10)
    assert (token_calls(google), google.rows(), google.journalled()) == (0, {}, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_exchange_of_the_code_costs_no_token(google: World, number: signal.Signals) -> None:
    with login(google, "--provider", "google", "--location", "loc") as terminal:
        terminal.answer("Client id", "app-google")
        terminal.answer("Client secret", "google secret")
        terminal.answer("Scopes", "business.manage")
        google.oauth.fail(meanwhile(lambda: os.kill(terminal.process.pid, number)))
        requests.get(address_in(terminal), timeout=10)
        terminal.expect("loc is saved")
        assert terminal.end() == 0
    assert google.token_of("loc") == google.oauth.current("loc")


@contextmanager
def by_device(google: World) -> Iterator[TerminalProcess]:
    """A login by device whose questions are answered: who polls for its tokens is told to come once a second."""
    google.oauth._world.devices.interval = 1
    with login(google, "--provider", "google", "--location", "loc", "--device") as terminal:
        terminal.answer("Client id", "app-google")
        terminal.answer("Client secret", "google secret")
        terminal.answer("Scopes", "business.manage")
        terminal.expect("enter this code")
        yield terminal


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_request_that_brings_the_tokens_of_a_device_costs_none(
    google: World, number: signal.Signals
) -> None:
    with by_device(google) as terminal:
        google.oauth.fail(meanwhile(lambda: os.kill(terminal.process.pid, number)))
        google.oauth.approve("google")
        terminal.expect("loc is saved")
        assert terminal.end() == 0
    assert google.token_of("loc") == google.oauth.current("loc")


@pytest.mark.long
def test_a_signal_during_a_request_before_anybody_has_agreed_ends_the_login(google: World) -> None:
    with by_device(google) as terminal:
        google.oauth.fail(meanwhile(lambda: os.kill(terminal.process.pid, signal.SIGTERM)))
        terminal.expect("authorization_pending")
        assert terminal.end() == 4
    assert (google.rows(), google.journalled()) == ({}, [])
