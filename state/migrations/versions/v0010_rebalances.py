"""Rebalances: what each was worth, who decided on it and when; one that lapsed leaves its scope free."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

OPEN = "state <> 'DONE' AND state <> 'REFUSED' AND state <> 'LAPSED'"
NEW = (("usd", sa.Text(), "0"), ("decided_by", sa.Text(), ""), ("decided_ms", sa.BigInteger(), "0"))


def upgrade() -> None:
    """Add the columns, and let the index pass over what lapsed."""
    op.drop_index("uq_rebalances_open", table_name="rebalances")
    with op.batch_alter_table("rebalances") as table:
        for name, kind, before in NEW:
            table.add_column(sa.Column(name, kind, nullable=False, server_default=before))
    with op.batch_alter_table("rebalances") as table:
        for name, kind, _ in NEW:
            table.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)
    there = sa.text(OPEN)
    op.create_index(
        "uq_rebalances_open", "rebalances", ["scope"], unique=True, sqlite_where=there, postgresql_where=there
    )
