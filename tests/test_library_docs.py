"""The examples of docs/library.md are run, in order, and its table names only what exists."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import requests

import token_manager
from tests.test_docs import ROOT, blocks
from tests.world.oauth import OAuthServer
from tests.world.program import Program

PAGE = ROOT / "docs/library.md"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the blocks of the page define, in a program with these settings, and the provider."""
    with OAuthServer() as oauth:
        program = Program(
            tmp_path,
            {
                "GOOGLE_TOKEN_URL": oauth.endpoint("google", "code"),
                "GOOGLE_AUTH_URL": oauth.endpoint("google", "authorize"),
            },
        )
        for name, value in program.settings.items():
            monkeypatch.setenv(name, value)
        oauth.add_client("google", "app", "for the docs", ["https://app.example/auth/callback"])
        names: dict[str, Any] = {}
        for block in blocks(PAGE, "python"):
            exec(compile(block, str(PAGE), "exec"), names)
        yield names, oauth


def test_every_example_does_what_the_page_says(examples: Any) -> None:
    names, oauth = examples
    assert names["shown"]() == []
    with pytest.raises(token_manager.NoSuchTokenError):
        names["headers"]("loc1")
    token = oauth.grant("google", "app", location_id="loc1")
    access = oauth.current_access(token)
    names["logged_in"](
        "loc1", {"refresh_token": token, "access_token": access, "expires_in": 3600, "scope": "calendar"}
    )
    assert names["headers"]("loc1") == {"Authorization": f"Bearer {access}"}
    assert names["answer"]("loc1") == (200, access)
    assert asyncio.run(names["in_a_loop"]("loc1")) == access
    [line] = names["with_rounds"]()
    assert line.startswith("loc1 google active 20")
    row_id = names["registered"]("loc2", "google", "app", "for the docs")
    oauth.consent("google", location_id="loc2")
    callback = requests.get(names["send_to_login"](row_id), timeout=10, allow_redirects=False).headers["Location"]
    [state_hash] = names["pending"]
    assert names["came_back"](state_hash, callback.partition("?")[2]) == "valid"
    assert names["headers"]("loc2") == {"Authorization": f"Bearer {oauth.current_access('loc2')}"}
    names["tokens"].delete(row_id)
    names["tokens"].delete_tokens("loc1")
    assert names["answer"]("loc1") == (401, "please log in again")


def test_a_store_that_is_away_is_an_answer_of_its_own(examples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names, _ = examples

    def away(location_id: str) -> str:
        raise token_manager.RetryLaterError("away", "Wait.")

    monkeypatch.setattr(names["tokens"], "get_valid_access_token", away)
    assert names["answer"]("loc1") == (503, "Wait.")


def test_whatever_the_page_maps_to_exists() -> None:
    ours = [row.rsplit("|", 2)[1] for row in re.findall(r"^\|.*\|$", PAGE.read_text(), re.MULTILINE)]
    calls = {name for cell in ours for name in re.findall(r"`(?:await )?([a-z_]+)[(`]", cell)} - {"disabled", "action"}
    assert calls >= {"get_valid_access_token", "store_tokens", "revoke_tokens", "delete_tokens", "get", "list_tokens"}
    for name in calls - {"token_refresh"}:
        assert hasattr(token_manager.TokenManager, name), name
        assert hasattr(token_manager.AsyncTokenManager, name), name


def test_what_the_script_exports_exists_and_nothing_else_does() -> None:
    for name in token_manager.__all__:
        assert getattr(token_manager, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        token_manager.Nothing  # noqa: B018
