"""Texts that the machines on a table keep together: which news each place has accepted, so that only one sends it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """`held_until`: another machine has it until then."""
    op.create_table(
        "notes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, nullable=False, server_default=""),
        sa.Column("held_until", sa.DateTime(timezone=True)),
    )
