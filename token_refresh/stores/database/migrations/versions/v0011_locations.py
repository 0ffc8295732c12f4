"""An index of the locations as they are asked for, so that one is found without reading the others."""

from alembic import op

from token_refresh.stores.database.schema import LOCATION_INDEX

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Without the white space around a name that was typed in by hand, which no program asks for."""
    op.execute(LOCATION_INDEX)
