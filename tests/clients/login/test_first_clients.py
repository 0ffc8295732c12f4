"""`onboard_client.py` alone: whoever reads no more than its prompts gets a fresh client of each big provider."""

from __future__ import annotations

import re

import pytest
import requests

from tests.conftest import PARAMS, World
from tests.world.terminal import paste

ADDRESS = re.compile(r"http://\S+\?response_type=code\S+")
PASTED = "https://agency.example/callback"
HIGHLEVEL = f"{PARAMS['gohighlevel']['app_id']}-lx1"  # a client id begins with the app's
# What is asked between the provider and the address, and what a new user types.
QUESTIONS = {
    "gohighlevel": [
        ("User type", ""), ("Client id", HIGHLEVEL), ("Client secret", "hush hush"), ("Scopes", ""),
        ("Redirect URI", PASTED),
    ],
    "google": [("Client id", "app-1"), ("Client secret", "hush hush"), ("Scopes", "calendar")],
    "microsoft": [
        ("Tenant", PARAMS["microsoft"]["tenant"]), ("Client id", "app-1"), ("Client secret", "hush hush"),
        ("Last day", ""),
        ("Scopes", "User.Read"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("provider", QUESTIONS)
def test_a_new_user_answers_the_prompts_and_has_a_fresh_client(world: World, provider: str) -> None:
    world.serve(provider)
    world.program.settings[f"{provider.upper()}_AUTH_URL"] = world.oauth.endpoint(provider, "authorize")
    uris = [PASTED, "http://127.0.0.1/callback", "http://localhost/callback"]
    world.oauth.add_client(provider, HIGHLEVEL if provider == "gohighlevel" else "app-1", "hush hush", uris)
    world.oauth.consent(provider, location_id="loc")
    with world.program.at_terminal(script="onboard_client.py") as terminal:
        terminal.answer("Location id", "loc")
        terminal.answer("Provider", "" if provider == "gohighlevel" else provider)
        terminal.answer("in a browser, instead of entering a refresh token? [y/N]", "y")
        for question, answer in QUESTIONS[provider]:
            terminal.answer(question, answer)
        terminal.expect("agree:")
        terminal.expect("aste the address")
        found = ADDRESS.search(terminal.transcript)
        assert found is not None
        if provider == "gohighlevel":
            terminal.type(paste(requests.get(found[0], timeout=10, allow_redirects=False).headers["Location"]) + "\r")
        else:
            assert "You are logged in" in requests.get(found[0], timeout=10).text
        terminal.expect("loc is saved; its access token lives until")
        assert terminal.end() == 0, terminal.transcript
    assert world.oauth.is_live(world.open_access("loc", world.rows()["loc"]["last_access_token"]))
    [row] = world.program.run("status", "--json").json()["rows"]
    assert (row["provider"], row["can_refresh"]) == (provider, True)
    assert world.oauth.violations == []
