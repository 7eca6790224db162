"""Runs migrations on the connection that the program hands over, which is the only way to run them."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import state.store  # noqa: F401  (its imports fill the metadata)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
    render_as_batch=context.config.attributes["connection"].dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
