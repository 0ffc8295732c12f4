"""The table of credentials."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "credentials",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("location_id", sa.Text, nullable=False),
        *(_text(name) for name in ("provider", "client_id", "encrypted_secret", "encrypted_refresh")),
        _text("last_access_token"),
        _time("access_token_expiry"),
        _text("provider_params"),
        _text("status", "active"),
        _text("last_error"),
        _time("last_refreshed"),
        _text("refreshed_by"),
        sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
        _time("refresh_token_expiry"),
        *(sa.Column(name, sa.Text) for name in ("redirect_uri", "workspace_email", "workspace_name")),
        *(sa.Column(name, sa.Text) for name in ("scopes", "token_type", "id_token")),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
        *(_time(name) for name in ("created_at", "updated_at", "last_used_at")),
        sa.Column("claim_owner", sa.Text),
        sa.Column("claim_generation", sa.Integer, nullable=False, server_default="0"),
        sa.UniqueConstraint("location_id", "provider"),
    )
    op.create_index("ix_credentials_access_token_expiry", "credentials", ["access_token_expiry"])


def _text(name: str, default: str = "") -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _time(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True))
