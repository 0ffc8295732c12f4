"""An index of the rows that can be due, and the pauses that providers asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The index takes the place of one that held the rows that are switched off as well."""
    op.drop_index("ix_credentials_access_token_expiry", "credentials")
    op.create_index(
        "ix_credentials_due",
        "credentials",
        ["access_token_expiry"],
        postgresql_where=sa.text("is_active IS TRUE"),
    )
    op.create_table(
        "provider_pauses",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_broken", sa.Boolean, nullable=False, server_default=sa.false()),
    )
