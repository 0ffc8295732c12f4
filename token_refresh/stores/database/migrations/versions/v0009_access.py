"""Who may use the HTTP service: its keys, the links for customers, and logins that have begun."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Secrets stand there as hashes, and what a login needs is encrypted."""
    time, text = sa.DateTime(timezone=True), sa.Text
    op.create_table(
        "api_keys",
        sa.Column("id", text, primary_key=True),
        sa.Column("name", text, nullable=False),
        sa.Column("secret_hash", text, nullable=False),
        sa.Column("scopes", text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("last_used_at", time),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "links",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("token_hash", text, nullable=False),
        sa.Column("row_id", text, nullable=False),
        sa.Column("location_id", text, nullable=False),
        sa.Column("provider", text, nullable=False),
        sa.Column("expires_at", time, nullable=False),
        sa.Column("created_by", text, nullable=False),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_table(
        "pending_logins",
        sa.Column("state_hash", text, primary_key=True),
        sa.Column("browser_hash", text, nullable=False),
        sa.Column("link_id", sa.BigInteger),
        sa.Column("content", text, nullable=False),
        sa.Column("ends_at", time, nullable=False),
    )
