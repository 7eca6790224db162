"""What venues did on their own, and up to when their ledgers were compared with ours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONEY = (
    "tokens_before",
    "tokens_after",
    "debt_before_usd",
    "debt_after_usd",
    "token_price_usd",
    "sol_price_usd",
    "redemption_rate",
)


def upgrade() -> None:
    """Two new tables; nothing that is stored changes."""
    op.create_table(
        "checkpoints",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "liquidations",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("position_id", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in MONEY),
        sa.ForeignKeyConstraint(["position_id"], ["positions.position_id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("position_id", "ref", name="uq_liquidations_position_ref"),
    )
