"""An index of the locations as they are asked for, so that one is found without reading the others."""

from alembic import op

revision = "0011"
down_revision = "0010"

_WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))


def upgrade() -> None:
    """Without the white space around a name that was typed in by hand, which no program asks for."""
    op.execute(f"CREATE INDEX ix_credentials_location ON credentials (trim(location_id, '{_WHITE_SPACE}'))")
