"""Messages and their deliveries; an alert says when a person has seen it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NEWS = (
    "books contradicted",
    "dust left",
    "foreign fill",
    "late fill",
    "left over",
    "leg liquidated",
    "leg reduced",
    "leg vanished",
    "rebalance",
    "route not understood",
    "unowned leg",
    "wrong admin key",
)
"""What is closed by a person alone."""


def upgrade() -> None:
    """Add what is new. Alerts that a person has closed before are not marked: the audit log has them."""
    with op.batch_alter_table("alerts") as table:
        table.add_column(sa.Column("seen_ms", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("news", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("thread", sa.Text(), nullable=False, server_default=""))
    kinds = ", ".join(f"'{kind}'" for kind in NEWS)
    op.execute(sa.text(f"UPDATE alerts SET news = :yes WHERE kind IN ({kinds})").bindparams(yes=True))
    with op.batch_alter_table("alerts") as table:
        table.alter_column("news", existing_type=sa.Boolean(), existing_nullable=False, server_default=None)
        table.alter_column("thread", existing_type=sa.Text(), existing_nullable=False, server_default=None)
    op.create_index("ix_alerts_kind", "alerts", ["kind", "subject", "id"])
    op.create_table(
        "messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("key", "thread", "kind", "about", "subject", "severity", "text")
        ),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("key", name="uq_messages_key"),
    )
    op.create_index("ix_messages_thread", "messages", ["thread", "id"])
    op.create_table(
        "deliveries",
        sa.Column(
            "message_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.ForeignKey("messages.id"),
            primary_key=True,
        ),
        sa.Column("channel", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("begun_ms", sa.BigInteger(), nullable=True),
        sa.Column("again_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("ref", "note")),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_deliveries_channel", "deliveries", ["channel", "state"])
