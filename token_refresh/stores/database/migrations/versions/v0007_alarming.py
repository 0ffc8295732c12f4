"""An index of the rows that need a person, so that a run finds them without reading the others."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Of rows that failed last time, or whose grant is dead."""
    op.create_index(
        "ix_credentials_alarming",
        "credentials",
        ["status"],
        postgresql_where=sa.text("(failure_count > 0 OR last_error <> '' OR status = 'reauthorize')"),
    )
