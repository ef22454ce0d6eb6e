"""Run by Alembic: migrates on the connection of `upgrade`, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# Not IF NOT EXISTS: that asks for CREATE on the database even where an administrator made it.
if connection.scalar(text("SELECT to_regnamespace('tunesvc') IS NULL")):
    connection.execute(text("CREATE SCHEMA tunesvc"))
context.configure(connection=connection, version_table_schema="tunesvc")
with context.begin_transaction():
    context.run_migrations()
