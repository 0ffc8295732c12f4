"""`workspace-tokens`: the table `tokens`, one for each provider and user, Google and Microsoft, base64 of Fernet.

The apps are those of the settings: `GOOGLE_CLIENT_ID`, `MICROSOFT_CLIENT_ID` and their secrets.
"""

from __future__ import annotations

from collections.abc import Iterator

from token_refresh.transfer.layouts.base import TOKEN_CELLS, Found, Source, certain_time, some, text, words

_COLUMNS = (
    *("id", "provider", "user_id", "access_token_encrypted", "refresh_token_encrypted", "expires_at", "scopes"),
)


def read(source: Source) -> Iterator[Found]:
    """The records of the table."""
    for record in source.rows("tokens", _COLUMNS):
        yield Found(
            name=f"tokens {record['id']}",
            location_id=text(record["user_id"]),
            provider=text(record["provider"]).lower(),
            refresh_token=text(record["refresh_token_encrypted"]),
            access_token=text(record["access_token_encrypted"]),
            cells=TOKEN_CELLS,
            expiry=certain_time(record["expires_at"]),
            params=some(redirect_uri=source.redirect_uri),
            details=some(scopes=words(record["scopes"])),
        )
