"""`airtable-gcm`: a table of the configured Airtable base with six columns, its secrets AES-GCM in bare base64.

It may be the very table that the settings name: then its cells are re-encrypted where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from token_refresh.transfer.layouts.base import Found, Source


def read(source: Source) -> Iterator[Found]:
    """The records of the table.

    Raises:
        ActionableError: the settings name no base.
    """
    with closing(source.open_table()) as store:
        for row in store.rows(complete=True):
            yield Found(
                name=row.key,
                location_id=row.location_id,
                provider=row.provider,
                client_id=row.client_id,
                client_secret=row.encrypted_secret,
                refresh_token=row.encrypted_refresh,
                access_token=row.last_access_token,
                cells=frozenset({"client_secret", "refresh_token"}),
                expiry=row.access_token_expiry,
                row=row,
            )
