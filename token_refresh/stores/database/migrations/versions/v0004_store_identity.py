"""What the database is known by, whatever it is called and wherever it is moved."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A table of one row."""
    table = op.create_table("store_identity", sa.Column("id", sa.Text, primary_key=True))
    op.bulk_insert(table, [{"id": secrets.token_hex(16)}])
