"""Canned answers as templates: tokens and times are put in their place, everything else stays as it is written."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

WRITTEN_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)  # when the canned answers were given
_TOKEN = re.compile(r"(access|refresh)-[12]$")  # a text that ends so stands for a token
_TIME = re.compile(r"expir|_at$|At$|_on$|On$|time|not_?after", re.IGNORECASE)  # members that may be points in time
_NEAR_SECONDS = 10 * 366 * 86_400  # of `WRITTEN_AT`: what is a point in time, and not a lifetime or a number


def filled(body: str, access_token: str, refresh_token: str | None, now: float) -> dict[str, Any]:
    """The members of an answer, JSON or a form.

    Every text that ends in `access-1` or `access-2` becomes the access token, likewise the refresh token, whose member
    goes where there is none and which is added where it stands nowhere. Points in time move from `WRITTEN_AT` to `now`
    (Unix seconds).
    """
    try:
        content: dict[str, Any] = json.loads(body)
    except ValueError:
        content = dict(parse_qsl(body, strict_parsing=True))
    tokens = {"access": access_token, "refresh": refresh_token}
    made: dict[str, Any] = _filled("", content, tokens, now - WRITTEN_AT.timestamp())
    if refresh_token not in (None, access_token) and refresh_token not in json.dumps(made):
        made["refresh_token"] = refresh_token
    return made


def brings_refresh_token(body: str) -> bool:
    """There is a new refresh token in the answer."""
    return "refresh-2" in body


def repeats_refresh_token(body: str) -> bool:
    """The refresh token that was sent is in the answer."""
    return "refresh-1" in body


def _filled(name: str, value: Any, tokens: dict[str, str | None], seconds: float) -> Any:
    """`name`: of the member whose value it is. None where it is a token that there is none of."""
    if isinstance(value, dict):
        members = {key: _filled(key, one, tokens, seconds) for key, one in value.items()}
        return {key: one for key, one in members.items() if one is not None or value[key] is None}
    if isinstance(value, list):
        return [_filled(name, one, tokens, seconds) for one in value]
    if isinstance(value, str) and (token := _TOKEN.search(value)):
        return tokens[token[1]]
    return _moved(value, seconds) if _TIME.search(name) else value


def _moved(value: Any, seconds: float) -> Any:
    """A point in time so many seconds later, written as before; whatever else as it is."""
    try:
        if isinstance(value, str) and not value.isdecimal():
            moment = datetime.fromisoformat(value) + timedelta(seconds=seconds)
            return moment.isoformat().replace("+00:00", "Z")
        number = int(value)
    except (TypeError, ValueError):
        return value
    for unit in (1, 1000):
        if abs(number / unit - WRITTEN_AT.timestamp()) < _NEAR_SECONDS:
            return type(value)(int(number + seconds * unit))
    return value
