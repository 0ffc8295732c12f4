"""The tables of credentials that clients of this project work on."""

from __future__ import annotations

from collections.abc import Iterable

from tests.world.airtable.columns import Column, date_time, long_text, number, single_select, text


def six_columns() -> list[Column]:
    """The required columns."""
    return [
        text("locationId"),
        text("client_id"),
        long_text("encrypted_secret"),
        long_text("encrypted_refresh"),
        long_text("last_access_token"),
        date_time("access_token_expiry"),
    ]


def credentials() -> list[Column]:
    """The required columns and every one that is used where it exists."""
    return [
        *six_columns(),
        text("provider"),
        long_text("provider_params"),
        single_select("status", "active", "reauthorize", "disabled"),
        long_text("last_error"),
        date_time("last_refreshed"),
        text("refreshed_by"),
        number("failure_count"),
        date_time("refresh_token_expiry"),
    ]


def replaced(columns: Iterable[Column], instead: Iterable[Column]) -> list[Column]:
    """`columns` with those of `instead` in the place of their namesakes, else at the end."""
    by_name = {column.name: column for column in columns} | {column.name: column for column in instead}
    return list(by_name.values())
