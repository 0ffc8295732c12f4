"""What Alembic runs: the revisions, on the connection and in the transaction of `PostgresBackend.migrate`."""

from alembic import context

context.configure(**{name: context.config.attributes[name] for name in ("connection", "version_table")})
with context.begin_transaction():
    context.run_migrations()
