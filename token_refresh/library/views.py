"""What programs are shown: rows without a secret, and access tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from token_refresh.diagnosis.row_state import RowStatus
from token_refresh.library.tokens import readable_params, scopes_of
from token_refresh.stores.base import STATUS_DISABLED, Row

NAMES = ("workspace_email", "workspace_name", "username", "email")  # what people call a row by, beside its location


@dataclass(frozen=True)
class TokenView:
    """What may be shown of a row: no secret and no token.

    Attributes:
        has_credential: false where nobody has logged in yet, or the tokens were deleted.
        can_refresh: false where there is only an access token: without `expires_at` it has no end.
        scopes, token_type: what was granted, as far as an answer said so.
        connected_at: when somebody last logged in.
        last_used_at: when a token was last served, to five minutes; only a database keeps it.
        row_id: the store's own name for the row.
        state: `disabled`, `login_needed`, `expired`, `failing` or `valid`; empty where it waits for its first login.
        action: what to do about that, as a sentence; empty where nothing is to be done.
        created_at, updated_at: of the row; Airtable only says the first.
    """

    location_id: str
    provider: str
    client_id: str
    status: str
    has_credential: bool
    expires_at: datetime | None
    refresh_expires_at: datetime | None
    last_refreshed: datetime | None
    last_error: str
    failure_count: int
    params: Mapping[str, str] = field(default_factory=dict)
    can_refresh: bool = True
    scopes: list[str] = field(default_factory=list)
    token_type: str = ""
    redirect_uri: str = ""
    workspace_email: str = ""
    workspace_name: str = ""
    username: str = ""
    email: str = ""
    connected_at: datetime | None = None
    last_used_at: datetime | None = None
    row_id: str = ""
    state: str = ""
    action: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether its tokens are refreshed and served: nobody has disabled it."""
        return self.status != STATUS_DISABLED


@dataclass(frozen=True)
class AccessToken:
    """A valid access token, and what a caller may want to know of it. Its `repr` hides the token.

    `expires_at` is None where it has no end.
    """

    location_id: str
    provider: str
    access_token: str = field(repr=False)
    token_type: str
    expires_at: datetime | None
    scopes: list[str]
    row_id: str = ""


def view_of(status: RowStatus) -> TokenView:
    """What may be shown of a row with its state."""
    row = status.row
    params = readable_params(row)
    return TokenView(
        location_id=row.location_id,
        provider=status.provider,
        client_id=row.client_id,
        status=row.status,
        has_credential=bool(row.encrypted_refresh) or row.has_only_access_token,
        expires_at=row.access_token_expiry,
        refresh_expires_at=row.refresh_token_expiry,
        last_refreshed=row.last_refreshed,
        last_error=status.error,
        failure_count=row.failure_count,
        params=params,
        can_refresh=bool(row.encrypted_refresh),
        scopes=scopes_of(row, params),
        token_type=row.token_type,
        connected_at=row.connected_at,
        last_used_at=row.last_used_at,
        row_id=row.key,
        state=status.state or "",
        action=status.action,
        created_at=row.created_at,
        updated_at=row.updated_at,
        redirect_uri=redirect_uri_of(row),
        **names_of(row),
    )


def names_of(row: Row) -> dict[str, str]:
    """What people call the row by: in its columns, or among its parameters where the table has none."""
    params = readable_params(row)
    return {name: getattr(row, name) or params.get(name, "") for name in NAMES}


def redirect_uri_of(row: Row) -> str:
    """Where its provider sends people back to after a login; empty where the row does not say it."""
    return row.redirect_uri or readable_params(row).get("redirect_uri", "")
