"""The second net: what is masked in words for people, and what stays readable."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from urllib.parse import quote

import pytest

from tests.conftest import World
from token_refresh.base.text import MASK, Redactor
from token_refresh.terminal.console import Talk
from token_refresh.wiring import prepare

SECRET = "a b/c+d=\"e\\f' and more of it"
PAT = f"pat{'p' * 14}.{'0f' * 32}"  # the shape alone


@pytest.mark.parametrize("spelling", [SECRET, quote(SECRET, safe=""), json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1]])
def test_a_known_secret_is_masked_however_it_is_spelled(spelling: str) -> None:
    assert Redactor([SECRET])(f"before {spelling} after") == f"before {MASK} after"


def test_a_secret_within_another_is_no_way_around() -> None:
    redacted = Redactor(["12345678", "1234567890abcdef"])
    assert redacted("x1234567890abcdefx 12345678") == f"x{MASK}x {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "POST grant_type=refresh_token&refresh_token=hidden&client_id=app",
        "client_secret=hidden",
        '{"access_token": "hidden", "expires_in": 3600}',
        "{'refresh_token': 'hidden'}",
        '"{\\"refresh_token\\":\\"hidden\\"}"',
        "Authorization: Bearer hidden-hidden-hidden-hidden",
        "Authorization: Basic hiddenhiddenhiddenhidden==",
        "https://user:hidden@proxy.example:8080/",
        f"the key {PAT} is wrong",
    ],
)
def test_what_has_the_shape_of_a_secret_is_masked(text: str) -> None:
    shown = Redactor()(text)
    assert "hidden" not in shown
    assert PAT not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "the refresh_token is missing",
        "HTTP 400, invalid_request: Missing parameter: refresh_token",
        "Bearer authentication is not supported",
        "Set ENCRYPTION_KEY. Run: chmod 600 /etc/x.env",
        "loc1: sealed:v1:d615004d750da330:tyR3qQh2LZn_m627md7qAaeoLMiQHvzdSuM7ctNGcyYL7xq9cEP5Z6e0cg",
        "https://acme.example/oauth/token answers HTTP 500",
    ],
)
def test_words_for_people_stay_as_they_are(text: str) -> None:
    assert Redactor(["unrelated secret", "HTTP"])(text) == text


def test_what_the_settings_hold_is_masked_as_soon_as_they_are_read(world: World) -> None:
    talk, err = Talk(), io.StringIO()
    prepare(world.program.settings | {"ACME_CLIENT_SECRET": SECRET}, world.clock, talk)
    with redirect_stderr(err):
        talk.error(f"{SECRET} and {world.program.settings['ENCRYPTION_KEY']}")
    assert f"{MASK} and {MASK}" in err.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_is_said_around_the_net(log_format: str) -> None:
    talk = Talk()
    talk.configure("DEBUG", log_format)
    talk.hide([SECRET])
    err = io.StringIO()
    with redirect_stderr(err):
        talk.info(f"info {SECRET}", fact=SECRET, other="refresh_token=hidden", count=1)
        talk.warn(f"warning {SECRET}")
        talk.error("error", f"Do not {SECRET}")
    assert SECRET not in err.getvalue()
    assert json.dumps(SECRET)[1:-1] not in err.getvalue()
    assert "hidden" not in err.getvalue()
    assert len(err.getvalue().splitlines()) == 3
