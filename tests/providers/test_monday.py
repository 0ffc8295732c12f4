"""When a token of monday.com ends is read out of the token itself, where that is a JWT and its end can be."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers import Catalog
from providers.base import Answer, RawAnswer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def jwt(claims: object) -> str:
    """A token with these claims."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


def ending(after: timedelta) -> str:
    """A token that ends so long after now."""
    return jwt({"exp": int((NOW + after).timestamp())})


def read(access_token: str, **members: Any) -> Answer:
    body = json.dumps({"access_token": access_token, "refresh_token": "refresh-2", "token_type": "Bearer", **members})
    return Catalog().get("monday").read_answer(RawAnswer(200, {}, body.encode(), NOW))


@pytest.mark.parametrize("after", [5 * MINUTE, 30 * MINUTE, 23 * HOUR])
def test_the_end_that_the_token_names_is_the_rows(after: timedelta) -> None:
    answer = read(ending(after))
    assert (answer.expires_at, answer.is_expiry_assumed, answer.refresh_token) == (NOW + after, False, "refresh-2")


def test_what_the_answer_itself_says_comes_first() -> None:
    assert read(ending(30 * MINUTE), expires_in=600).expires_at == NOW + 10 * MINUTE


@pytest.mark.parametrize(
    "token",
    [
        *(
            "an-opaque-token",
            "two.parts",
            "one.two.three",
            "one.b25l.three",
            "one.two.three.four",
            jwt([1]),
            jwt("text"),
            jwt({}),
        ),
        *(jwt({"exp": exp}) for exp in (None, True, "soon", -1, 10**400)),
        *(ending(after) for after in (-MINUTE, timedelta(0), 30 * 24 * HOUR)),
    ],
)
def test_an_end_that_is_not_there_or_cannot_be_is_assumed(token: str) -> None:
    answer = read(token)
    assert (answer.expires_at, answer.is_expiry_assumed) == (NOW + HOUR, True)
