"""`user-tokens`: the table `user_tokens`, a Microsoft login for each user, tokens in Fernet.

The one app is in the environment, under the names that the earlier program gave it.
"""

from __future__ import annotations

from collections.abc import Iterator

from token_refresh.transfer.layouts.base import TOKEN_CELLS, Found, Source, some, text, time_with_zone

_COLUMNS = ("id", "user_id", "encrypted_access_token", "encrypted_refresh_token", "expires_at")


def read(source: Source) -> Iterator[Found]:
    """The records of the table."""
    app = source.app
    for record in source.rows("user_tokens", _COLUMNS):
        yield Found(
            name=f"user_tokens {record['id']}",
            location_id=text(record["user_id"]),
            provider="microsoft",
            client_id=app.client_id,
            client_secret=app.client_secret if app.client_id else "",
            refresh_token=text(record["encrypted_refresh_token"]),
            access_token=text(record["encrypted_access_token"]),
            cells=TOKEN_CELLS,
            expiry=time_with_zone(record["expires_at"]),
            params=some(tenant=app.tenant_id, redirect_uri=source.redirect_uri or app.redirect_uri),
        )
