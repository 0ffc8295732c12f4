"""When tokens end, by what an answer says: providers write it in many ways, and some write what cannot be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from token_refresh.base.clock import parse_time

LONGEST_LIFETIME_SECONDS = 10 * 365 * 86_400
_POINT_IN_TIME = 10**9  # from here on a number is no lifetime (31 years) but seconds since 1970
_IN_MILLISECONDS = 10**12
# RFC 6749 section 5.1 knows the first alone; the last is Clover's.
_ACCESS_MEMBERS = ("expires_in", "expires_at", "expires_on", "expires", "access_token_expiration")
# No standard has a name yet (draft-ietf-oauth-refresh-token-expiration).
_REFRESH_MEMBERS = (
    *("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"),
    *("refresh_token_expires_at", "refresh_token_expires_on", "refresh_expires_at", "refresh_token_expiration"),
)
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,12})?")


class End(NamedTuple):
    """When a token ends; `claim`: what the answer said that cannot be, in short. Both None where it says nothing."""

    at: datetime | None
    claim: str | None = None


def access_end(content: Mapping[str, Any], received_at: datetime, longest: float) -> End:
    """When the access token ends; it lives `longest` seconds at most.

    `content` holds the members beside the token, named in snake case.
    """
    return _end(content, _ACCESS_MEMBERS, received_at, longest)


def refresh_end(content: Mapping[str, Any], received_at: datetime) -> datetime | None:
    """When the refresh token ends, where the answer says so, and in a way that can be."""
    return _end(content, _REFRESH_MEMBERS, received_at, LONGEST_LIFETIME_SECONDS).at


def _end(content: Mapping[str, Any], members: tuple[str, ...], received_at: datetime, longest: float) -> End:
    """By the first member that says something that can be."""
    claim = None
    for name in filter(content.__contains__, members):
        moment = moment_of(content[name], received_at)
        if moment is None:
            continue
        if timedelta(seconds=1) <= moment - received_at <= timedelta(seconds=longest):
            return End(moment)
        claim = claim or f"{name} means {moment:%Y-%m-%d %H:%M} UTC"
    return End(None, claim)


def moment_of(value: object, received_at: datetime) -> datetime | None:
    """The time that a member means: seconds from now, seconds or milliseconds since 1970, or ISO 8601.

    Numbers also as text and with decimals; a time without a zone is in UTC. None where it is none of these; what lies
    beyond the year 9999 is its end.
    """
    number = _number(value)
    try:
        if number is not None:
            if number < _POINT_IN_TIME:
                return received_at + timedelta(seconds=number)
            return datetime.fromtimestamp(number / 1000 if number >= _IN_MILLISECONDS else number, UTC)
        if not isinstance(value, str):
            return None
        text = value.strip()
        moment = datetime.fromisoformat(text)
        return parse_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError, OSError):
        return None if number is None else datetime.max.replace(tzinfo=UTC)


def _number(value: object) -> float | None:
    """A number that is not negative; `true` is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, 10**18))
