"""An index of when refresh tokens end, so that an idle run reads no row for it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Of active rows."""
    op.create_index(
        "ix_credentials_refresh_token_expiry",
        "credentials",
        ["refresh_token_expiry"],
        postgresql_where=sa.text("is_active IS TRUE"),
    )
