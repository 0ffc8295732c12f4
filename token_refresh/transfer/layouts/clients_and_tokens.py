"""`clients-and-tokens`: the tables `clients` and `tokens` of a Google Business Profile service, all in the clear.

Each client has its own Google app; its branch id becomes the location id. Of several tokens the newest counts, and
where that has no refresh token (Google sends one only at the login), the newest that has one lends it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from token_refresh.transfer.layouts.base import Found, Source, certain_time, flag, some, text, time_with_zone, words

_CLIENT_COLUMNS = (
    *("id", "client_id", "client_secret", "redirect_uri", "branch_id", "workspace_email", "workspace_name"),
    "is_active",
)
_TOKEN_COLUMNS = (
    *("id", "client_id", "access_token", "refresh_token", "expires_at", "is_valid", "is_revoked"),
    *("token_type", "scope", "last_refreshed_at", "created_at", "updated_at"),
)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def read(source: Source) -> Iterator[Found]:
    """One for each client."""
    tokens: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for record in source.rows("tokens", _TOKEN_COLUMNS):
        tokens[record["client_id"]].append(record)
    for record in source.rows("clients", _CLIENT_COLUMNS):
        client = Found(
            name=f"clients {record['id']}",
            location_id=text(record["branch_id"]),
            provider="google",
            client_id=text(record["client_id"]),
            client_secret=text(record["client_secret"]),
            params=some(redirect_uri=text(record["redirect_uri"]) or source.redirect_uri),
            details=some(
                workspace_email=text(record["workspace_email"]),
                workspace_name=text(record["workspace_name"]),
            ),
            is_active=flag(record["is_active"]),
        )
        yield _with_token(client, tokens[record["id"]])


def _with_token(client: Found, tokens: Sequence[Mapping[str, Any]]) -> Found:
    """The client with its newest token; one that was revoked is none."""
    live = sorted((token for token in tokens if not flag(token["is_revoked"])), key=_age, reverse=True)
    if tokens and not live:
        return replace(client, reason="all its tokens are revoked", action="Log in again, then onboard it.")
    if not live:
        return client
    newest = live[0]
    is_valid = flag(newest["is_valid"])  # else it is only refreshed
    return replace(
        client,
        refresh_token=next(filter(None, (text(token["refresh_token"]) for token in live)), ""),
        access_token=text(newest["access_token"]) if is_valid else "",
        expiry=certain_time(newest["expires_at"]),
        last_refreshed=certain_time(newest["last_refreshed_at"]),
        details={**client.details, **some(scopes=words(newest["scope"]), token_type=text(newest["token_type"]))},
    )


def _age(token: Mapping[str, Any]) -> tuple[bool, datetime, str]:
    """What sorts tokens, the best last. Their times are only compared with each other: any zone will do."""
    moments = (time_with_zone(token[name]) for name in ("last_refreshed_at", "updated_at", "created_at"))
    return flag(token["is_valid"]), max(filter(None, moments), default=_EARLIEST), text(token["id"]).rjust(40)
