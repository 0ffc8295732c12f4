"""What runs did: a line a run, one a provider and day, and counts that only ever grow."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_COUNTED = ("due", "refreshed", "failed", "waiting", "store_calls")
_OUTCOMES = ("refreshed", "changed", "transient", "unknown", "reauthorize", "operator")


def upgrade() -> None:
    """Times are text, as in the file where SQLite has the same tables: ISO 8601 in UTC, which sorts."""
    op.create_table(
        "history_runs",
        sa.Column("ended_at", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=False),
        sa.Column("is_scheduled", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTED),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_table(
        "history_days",
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _OUTCOMES),
    )
    op.create_table(
        "history_counts",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
