"""What is known of a client beside its tokens, and the refresh token before one that is unproven."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns. `is_active` follows the status from now on."""
    for name in ("username", "email"):
        op.add_column("credentials", sa.Column(name, sa.Text))
    op.add_column("credentials", sa.Column("connected_at", sa.DateTime(timezone=True)))
    op.add_column("credentials", sa.Column("previous_refresh", sa.Text))
    op.execute("UPDATE credentials SET is_active = false WHERE status = 'disabled'")
