"""When a row was claimed, and an index of the claims."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them."""
    op.add_column("credentials", sa.Column("claimed_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_credentials_claim_owner",
        "credentials",
        ["claim_owner"],
        postgresql_where=sa.text("claim_owner IS NOT NULL"),
    )
