"""What a login brought, as its provider answered: tokens, when they end, and what else is worth keeping."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from providers.base import Answer, RawAnswer, Verdict, find_tokens, parse_answer
from providers.times import LONGEST_LIFETIME_SECONDS, access_end, refresh_end
from token_refresh.base.clock import parse_time
from token_refresh.base.errors import Kind
from token_refresh.clients.credential import AdmissionError

_PAIR = ("access_token", "refresh_token")
_ARGUMENTS = (*_PAIR, "id_token", "client_id", "client_secret", "provider_params")
_ALIKE = 0.85  # of a misspelt argument, as `difflib` measures it


def read_login(content: Mapping[str, Any], now: datetime) -> tuple[Answer, dict[str, str]]:
    """A whole answer to a login, or what a caller made of one, and its details; `expires_at` may be an aware time.

    The tokens are found as in any answer: in snake or camel case, at the top level or in one member. The access token
    is None where there is none, and so is the refresh token.

    Raises:
        AdmissionError: it cannot be said which tokens count, a time has no zone, or an argument seems misspelt.
    """
    content = {name: value for name, value in content.items() if value is not None}
    _refuse_misspelt(content)
    tokens = find_tokens(content)
    if tokens is None:
        raise AdmissionError(
            "the answer holds several different tokens of one kind",
            "Pass access_token and refresh_token alone.",
            Kind.USAGE,
        )
    members = {**content, **tokens[2]}  # those beside the tokens are named in snake case
    found = dict(zip(_PAIR, tokens[:2], strict=True))
    access, refresh = (str(content.get(name) or found[name] or "").strip() for name in _PAIR)
    answer = Answer(
        Verdict.GRANTED,
        access_token=access or None,
        refresh_token=refresh or None,
        expires_at=_end(members, now),
        refresh_expires_at=refresh_end(members, now),
        received_at=now,
    )
    return answer, details_in(members)


def details_in(content: Mapping[str, Any]) -> dict[str, str]:
    """What the members beside a token, named in snake case, say of it: `scopes`, `token_type`, `id_token`."""
    scope = content.get("scope") or content.get("scopes")
    scopes = " ".join(map(str, scope)) if isinstance(scope, list | tuple) else scope  # RFC 6749 has a text
    found = {"scopes": scopes, "token_type": content.get("token_type"), "id_token": content.get("id_token")}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def details_of(answers: Iterable[RawAnswer]) -> dict[str, str]:
    """The same of the last of these answers that brought a token."""
    details: dict[str, str] = {}
    for raw in answers:
        content, is_whole = parse_answer(raw)
        tokens = find_tokens(content)
        if is_whole and tokens is not None and any(tokens[:2]):
            details = details_in(tokens[2])
    return details


def _end(members: Mapping[str, Any], now: datetime) -> datetime | None:
    """When the access token ends; None where nothing says so, in a way that can be."""
    end = members.get("expires_at")
    if not isinstance(end, datetime):
        return access_end(members, now, LONGEST_LIFETIME_SECONDS).at
    if end.tzinfo is None:
        raise AdmissionError("expires_at has no time zone", "Use an aware datetime, or expires_in.", Kind.USAGE)
    return parse_time(end)


def _refuse_misspelt(content: Mapping[str, Any]) -> None:
    """A refresh token under a wrong name would be lost without a word."""
    for name in content:
        for meant in difflib.get_close_matches(name, _ARGUMENTS, 1, _ALIKE):
            is_spelling = name.replace("_", "").lower() == meant.replace("_", "")
            if not is_spelling and abs(len(name) - len(meant)) < 2:  # `refresh_token_id` is a member of its own
                raise AdmissionError(f"there is no argument {name}", f"Is {meant} meant?", Kind.USAGE)
