"""What the database is known by, whatever it is called; and an index of times, for those that cannot be."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A table of one row, and an index of active rows."""
    table = op.create_table("store_identity", sa.Column("id", sa.Text, primary_key=True))
    op.bulk_insert(table, [{"id": secrets.token_hex(16)}])
    op.create_index(
        "ix_credentials_last_refreshed",
        "credentials",
        ["last_refreshed"],
        postgresql_where=sa.text("is_active IS TRUE"),
    )
