"""PostgreSQL's schema, version by version, for Alembic; `sqlite` holds the same steps for SQLite."""
