"""Clients as the library shows them, for pages and the report."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.world.clock import START
from token_refresh.library import TokenView

USUAL: dict[str, Any] = {
    "row_id": "1",
    "location_id": "loc",
    "provider": "google",
    "client_id": "app",
    "status": "active",
    "state": "valid",
    "action": "",
    "has_credential": True,
    "expires_at": START + timedelta(minutes=45),
    "refresh_expires_at": None,
    "last_refreshed": START - timedelta(minutes=15),
    "last_error": "",
    "failure_count": 0,
}


def view(**changes: Any) -> TokenView:
    """A client whose token was refreshed a quarter of an hour ago, and lives three quarters of an hour more."""
    return TokenView(**USUAL | changes)
