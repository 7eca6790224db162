"""Requests: what a person asks for from a chat or a page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("key", "action", "subject", "who", "via", "state", "text", "outcome")
        ),
        sa.Column("detail", sa.JSON(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("asked_ms", "until_ms")),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("key", name="uq_requests_key"),
    )
    op.create_index("ix_requests_state", "requests", ["state", "subject"])
